"""Client libraries for Node: installed from npm once, into `build/`, which git ignores."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.daemon_process import ROOT, environment

SCRIPTS = Path(__file__).parent / "node"


def installed(*packages: str) -> Path:
    """
    A folder in which Node finds these packages (`name@version`); the test is skipped where there is no npm.

    What is there already is not asked for again.
    """
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("needs Node and npm: apt-get install nodejs npm")
    folder = ROOT / "build" / "npm" / "+".join(package.replace("/", "_") for package in packages)
    if not (folder / "installed").exists():
        folder.mkdir(parents=True, exist_ok=True)
        quiet = ["--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--loglevel=error"]
        subprocess.run([npm, "install", "--prefix", str(folder), *quiet, *packages], check=True, timeout=300)
        (folder / "installed").touch()
    return folder


async def run(script: str, folder: Path, *arguments: str) -> Any:
    """What a script of `tests/helpers/node` prints as JSON; its errors fail the test."""
    # modules are looked for beside the file that imports them
    copy = folder / script
    copy.write_text((SCRIPTS / script).read_text())
    process = await asyncio.create_subprocess_exec(
        "node", str(copy), *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder, env=environment()
    )
    async with asyncio.timeout(300):
        output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return json.loads(output)
