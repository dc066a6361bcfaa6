"""docs/python.md is true: its examples run against the real daemon, and it names everything public of both clients."""

from __future__ import annotations

import asyncio
import inspect
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from streamer import client
from streamer.client import Captions, connect
from tests.helpers.daemon_process import ROOT, DaemonProcess, daemon_process, environment

PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
PAGES = ROOT / "streamer" / "server" / "pages"
TYPES = (PAGES / "client.d.ts").read_text(encoding="utf-8")
BLOCKS = re.findall(r"<!-- run -->\n+```(python|js)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def open_daemon(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[DaemonProcess]:
    """A daemon with rooms."""
    async with daemon_process(tmp_path_factory.mktemp("rooms"), STREAMER_SERVER_ROOMS="true") as running:
        yield running


def command(language: str, text: str, folder: Path) -> list[str]:
    """The command that runs a block; a page's module stands beside it."""
    if language == "python":
        (folder / "block.py").write_text(text)
        return [sys.executable, str(folder / "block.py")]
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs Node: apt-get install nodejs")
    shutil.copytree(PAGES, folder / "pages")
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "block.js").write_text(text.replace('"/pages/', '"./pages/'))
    return [node, "--experimental-websocket", str(folder / "block.js")]


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize(("language", "text"), BLOCKS, ids=lambda text: text.splitlines()[0][:40])
async def test_examples_run(open_daemon: DaemonProcess, tmp_path: Path, language: str, text: str) -> None:
    """Each ends well and says something."""
    process = await asyncio.create_subprocess_exec(
        *command(language, text.replace(":8000", f":{open_daemon.port}"), tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env=environment(PYTHONPATH=str(ROOT)),
    )
    async with asyncio.timeout(120):
        output, errors = await process.communicate()

    assert process.returncode == 0, errors.decode()
    assert output.decode().strip()


def test_there_are_examples() -> None:
    """A marker that lost its block would hide it."""
    assert PAGE.count("<!-- run -->") == len(BLOCKS) >= 6


def test_every_public_name_of_the_python_client_is_there() -> None:
    """Exports, methods, parameters and the fields of events."""
    methods = [name for name in vars(Captions) if not name.startswith("_") and name not in ("run", "wait_started")]
    events = [getattr(client, name) for name in client.__all__]
    fields = {name for kind in events if hasattr(kind, "__struct_fields__") for name in kind.__struct_fields__}
    names = {*client.__all__, *methods, *inspect.signature(connect).parameters, *fields}

    assert {name for name in names if not re.search(rf"\b{name}\b", PAGE)} == set()


def test_every_public_name_of_the_javascript_client_is_there() -> None:
    """What client.d.ts declares: classes, functions, members, events and options."""
    names = set(re.findall(r"export (?:class|function) (\w+)", TYPES))
    for body in re.findall(
        r"export (?:class|interface) (?:Captions|Watch|Source|\w*Events|CaptionsOptions)\b.*?{(.*?)^}",
        TYPES,
        re.MULTILINE | re.DOTALL,
    ):
        names |= set(re.findall(r'^  (?:readonly )?"?(\w+|\*)"?\??[<(:]', body, re.MULTILINE))
    names -= {"constructor", "Source"}

    assert {"Captions", "turn_end", "abandon", "onLevel", "keyterms"} <= names
    assert {name for name in names if name not in PAGE} == set()
