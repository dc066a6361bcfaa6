"""A fresh clone of this checkout, and environments that hold its dependencies but not the project."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.helpers.daemon_process import ROOT


def clone(folder: Path) -> Path:
    """
    Clone the repository into `folder`, with what is not committed yet.

    Skips the test where the tree is no repository, as in an unpacked source distribution.
    """
    if not (ROOT / ".git").exists():
        pytest.skip("not a git repository")
    _run("git", "clone", "--quiet", ROOT, folder)
    for name in _names("ls-files", "--modified", "--others", "--exclude-standard"):
        copy = folder / name
        if (ROOT / name).exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy)
        else:
            copy.unlink()
    return folder


def environment_without_project(folder: Path) -> Path:
    """
    Make a virtual environment that imports the installed dependencies, but not this project.

    Installing torch again would take a minute and a gigabyte. A `.pth` file adds the present site-packages instead;
    `.pth` files in there, such as the one of the editable installation, are not read.

    Returns:
        Its interpreter.
    """
    _run(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin" / "python"
    packages = _run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    Path(packages, "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def _names(*arguments: str) -> list[str]:
    return _run("git", "-C", ROOT, *arguments).splitlines()


def _run(*command: object) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
