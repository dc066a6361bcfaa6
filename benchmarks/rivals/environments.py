"""A virtual environment for each rival, installed from PyPI and kept."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.rivals.server import SetUpError

TORCH = "torch==2.13.0"
"""The version this repository is pinned to."""
INSTALL_S = 3600.0


@dataclass(frozen=True, slots=True)
class Environment:
    """What is installed together."""

    name: str
    requirements: tuple[str, ...]


FASTER_WHISPER = Environment("faster-whisper", ("faster-whisper==1.2.1", "websockets>=13"))
WHISPER_LIVE = Environment("whisper-live", (TORCH, "whisper-live==0.10.0"))
WHISPERLIVEKIT = Environment("whisperlivekit", (TORCH, "whisperlivekit==0.2.26", "faster-whisper==1.2.1"))


def python_of(environment: Environment | None, folder: Path) -> Path:
    """
    The interpreter of an environment below `folder`, installed first unless it is there; of ours for None.

    Raises:
        SetUpError: The installation fails.
    """
    if environment is None:
        return Path(sys.executable)
    home = folder / environment.name
    wanted, done = "\n".join(environment.requirements), home / "installed.txt"
    if not done.exists() or done.read_text() != wanted:
        print(f"installing {', '.join(environment.requirements)} into {home}", flush=True)
        log = folder / f"{environment.name}.log"
        _run([sys.executable, "-m", "venv", "--clear", str(home)], log)
        _run([str(home / "bin" / "python"), "-m", "pip", "install", *environment.requirements], log)
        done.write_text(wanted)
    return home / "bin" / "python"


def versions_of(python: Path) -> list[str]:
    """Everything installed beside an interpreter, as `name==version`."""
    listed = subprocess.run([python, "-m", "pip", "freeze"], capture_output=True, text=True, check=True, timeout=60)
    # what is installed from a folder has no version, but a path
    return [line for line in listed.stdout.splitlines() if "==" in line]


def _run(command: list[str], log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as out:
        code = subprocess.run(command, stdout=out, stderr=out, check=False, timeout=INSTALL_S).returncode
    if code:
        raise SetUpError(f"{' '.join(command)}: exit code {code}; its log: {log}")
