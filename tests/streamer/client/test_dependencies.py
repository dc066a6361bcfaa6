"""Tests of what `streamer.client` needs: a program can have it without torch (docs/python.md)."""

from __future__ import annotations

import subprocess
import sys

NEEDED = ("streamer", "msgspec", "websockets")
IMPORT = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in {{*{NEEDED!r}, *sys.stdlib_module_names}}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
import streamer.client
"""


def test_the_client_needs_two_packages() -> None:
    """With nothing else installed it is imported."""
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
