"""
What the README shows works: every ```sh and ```python block below a line `<!-- run -->` is run as it stands.

Examples that speak to a daemon on port 8000 find one, on another port.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.daemon_process import ROOT, DaemonProcess, environment

README = (ROOT / "README.md").read_text(encoding="utf-8")
MARKED = re.compile(r"<!-- run -->\n+```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS: list[tuple[str, str]] = MARKED.findall(README)


def run(language: str, text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A block to its end, in the repository, with the command `streamer` of this environment."""
    block = folder / "block"
    block.write_text(text)
    command = {"sh": ["bash", "-euo", "pipefail"], "python": [sys.executable]}[language]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    variables = environment(PATH=path, XDG_CACHE_HOME=str(folder))
    return subprocess.run(
        [*command, str(block)], capture_output=True, text=True, timeout=100, cwd=ROOT, env=variables, check=False
    )


def test_there_are_examples() -> None:
    """A marker that lost its block would hide it."""
    assert BLOCKS
    assert README.count("<!-- run -->") == len(BLOCKS)


@pytest.mark.parametrize("text", PYTHON.findall(README), ids=lambda text: text.splitlines()[0])
def test_python_is_python(text: str) -> None:
    """Those that are not run can at least be read."""
    compile(text, "README.md", "exec")


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize(("language", "text"), BLOCKS, ids=lambda text: text.splitlines()[0][:40])
async def test_examples(daemon: DaemonProcess, tmp_path: Path, language: str, text: str) -> None:
    """Each ends well and says something."""
    result = run(language, text.replace(":8000", f":{daemon.port}"), tmp_path)

    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()
