"""
What the README shows works on a fresh clone, for a person who has not activated the environment.

The block below `<!-- serve -->` is run first, to the end of the tests; every block below `<!-- run -->` is run as it
stands while it serves. Only the port is another: 8000 may be taken here.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.helpers.checkout import clone, environment_without_project
from tests.helpers.daemon_process import ROOT, DaemonProcess, daemon_process, environment

README = (ROOT / "README.md").read_text(encoding="utf-8")
MARKED = re.compile(r"<!-- (run|serve) -->\n+```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS: list[tuple[str, str, str]] = MARKED.findall(README)
SERVE = [text for kind, _, text in BLOCKS if kind == "serve"]
RUN = [(language, text) for kind, language, text in BLOCKS if kind == "run"]
SHELL = ("bash", "-euo", "pipefail", "-c")
INSTALL = ".venv/bin/python -m pip install --quiet --no-index --no-build-isolation -c constraints.txt"
"""The Makefile's, without a network: everything but the project itself is in the environment already."""


def visitor() -> dict[str, str]:
    """The environment of a person whose shell knows no environment of Python."""
    kept = environment(MAKEFLAGS="e", PIP_INSTALL=INSTALL, PIP_DISABLE_PIP_VERSION_CHECK="1")
    folders = kept["PATH"].split(os.pathsep)
    kept["PATH"] = os.pathsep.join(folder for folder in folders if Path(folder) != Path(sys.executable).parent)
    return {name: value for name, value in kept.items() if name != "VIRTUAL_ENV"}


def run(*command: object, cwd: Path, **variables: str) -> str:
    """A command to its end, as a visitor runs it; what it prints."""
    env = visitor() | variables
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=300, cwd=cwd, env=env, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone whose `.venv` has the dependencies, but not the project: `make run` has still to install it."""
    folder = clone(tmp_path_factory.mktemp("clone") / "streamer")
    environment_without_project(folder / ".venv")
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def serving(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[DaemonProcess]:
    """The daemon that the README starts."""
    (text,) = SERVE
    folder = tmp_path_factory.mktemp("serving")
    async with daemon_process(folder, (*SHELL, text), cwd=checkout, **visitor()) as daemon:
        yield daemon


def test_every_marker_has_its_block() -> None:
    """A marker that lost its block would hide it."""
    assert len(SERVE) == 1
    assert RUN
    assert README.count("<!-- run -->") == len(RUN)


@pytest.mark.parametrize("text", PYTHON.findall(README), ids=lambda text: text.splitlines()[0])
def test_python_examples_compile(text: str) -> None:
    """Those that are not run can at least be read."""
    compile(text, "README.md", "exec")


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize(("language", "text"), RUN, ids=lambda text: text.splitlines()[0][:40])
async def test_examples_work_on_a_fresh_clone(
    serving: DaemonProcess, checkout: Path, tmp_path: Path, language: str, text: str
) -> None:
    """Each succeeds and prints something, with the installed project of the clone."""
    text = text.replace(":8000", f":{serving.port}")
    command = {"sh": (*SHELL, text), "python": (".venv/bin/python", "-c", text)}[language]

    assert run(*command, cwd=checkout, XDG_CACHE_HOME=str(tmp_path)).strip()


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.usefixtures("serving")
async def test_the_clone_runs_its_own_code(checkout: Path, tmp_path: Path) -> None:
    """Not that of the checkout from which it was cloned, nor of whoever runs these tests."""
    where = run(checkout / ".venv/bin/python", "-c", "import streamer; print(streamer.__file__)", cwd=tmp_path)

    assert Path(where.strip()) == checkout / "streamer" / "__init__.py"
