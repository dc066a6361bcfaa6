"""The programs of docs/examples do what they say, against the real daemon."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import wave
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.daemon_process import ROOT, Client, DaemonProcess, environment, word_errors
from tests.helpers.recordings import Recording

CLIENT = ROOT / "docs" / "examples" / "client.mjs"


@pytest.fixture
def wav(recordings: dict[str, Recording], tmp_path: Path) -> Path:
    """A recording as a WAV file, 16-bit mono at 16 kHz."""
    path = tmp_path / "talk.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes((np.clip(recordings["dev-jfk"].samples, -1, 1) * 32767).astype("<i2").tobytes())
    return path


async def run_node(*arguments: str) -> tuple[int | None, str, str]:
    """Exit code, output and errors of the example."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs Node: apt-get install nodejs")
    # built in from Node 22 on; in Node 20 it is there behind a switch, which newer ones take too
    command = [node, "--experimental-websocket", str(CLIENT), *arguments]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    )
    async with asyncio.timeout(120):
        output, errors = await process.communicate()
    return process.returncode, output.decode(), errors.decode()


def test_the_example_is_short_and_imports_nothing_of_the_project() -> None:
    """It shows how little a client needs."""
    text = CLIENT.read_text(encoding="utf-8")

    assert len(text.splitlines()) <= 80
    assert re.findall(r'from "(.*?)"', text) == ["node:fs/promises"]


@pytest.mark.asyncio(loop_scope="session")
async def test_node_captions_a_recording(daemon: DaemonProcess, recordings: dict[str, Recording], wav: Path) -> None:
    """The text is that of another client of the same protocol, and what was spoken."""
    code, output, errors = await run_node(daemon.url("/v1/captions", "ws"), str(wav), "--fast")
    async with daemon.connect() as socket:
        client = Client(socket)
        await client.start()
        await client.send(recordings["dev-jfk"].samples)
        await client.say({"type": "end"})
        await client.until("bye")
    lines = [line.partition(" ") for line in output.splitlines()]

    assert (code, errors) == (0, "")
    assert [float(start) for start, _, _ in lines] == sorted(float(start) for start, _, _ in lines)
    text = " ".join(text for _, _, text in lines)
    # when a step happens to see the sound differs from run to run, and with it now and then a word
    assert word_errors(client.text, text) < 0.2, text
    assert word_errors(recordings["dev-jfk"].text, text) < 0.25, text


@pytest.mark.asyncio(loop_scope="session")
async def test_node_says_why_it_fails(daemon: DaemonProcess, tmp_path: Path) -> None:
    """An error of the daemon, and a file that is none."""
    (tmp_path / "odd.wav").write_bytes(b"RIFF" + bytes(100))
    code, _, errors = await run_node(daemon.url("/v1/captions", "ws"), str(tmp_path / "odd.wav"))

    assert (code, errors) == (1, f"{tmp_path / 'odd.wav'}: no samples, expected a WAV file\n")
