"""Tests of streamer/host/open_files.py: the bound of the system."""

from __future__ import annotations

import resource
import subprocess
import sys


def test_the_bound_is_raised_as_far_as_it_goes() -> None:
    """In a process of its own: the bound of this one is that of all tests."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lines = (
        "import resource",
        "from streamer.host.open_files import allow_all_files",
        f"resource.setrlimit(resource.RLIMIT_NOFILE, (100, {min(hard, 1000)}))",
        "print(allow_all_files(), resource.getrlimit(resource.RLIMIT_NOFILE)[0])",
    )
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)

    assert done.stdout.split() == [str(min(hard, 1000))] * 2
