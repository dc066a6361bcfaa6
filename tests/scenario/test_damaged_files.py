"""Damaged and piped recordings as users have them: over HTTP and by `streamer transcribe`, with real speech."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from tests.helpers.daemon_process import DaemonProcess, streamer, word_errors
from tests.helpers.damaged_recordings import as_they_come
from tests.helpers.recordings import Recording

DAMAGED = ("damaged.mp3", "cut.aac", "cut.mp4")
"""Of these something was lost."""


@pytest.fixture(scope="module")
def files(recordings: dict[str, Recording]) -> dict[str, bytes]:
    """Eleven seconds of speech in each state."""
    return as_they_come(recordings["dev-jfk"].samples)


@pytest.mark.asyncio(loop_scope="session")
async def test_uploads(daemon: DaemonProcess, files: dict[str, bytes], recordings: dict[str, Recording]) -> None:
    """Each is transcribed, and what was lost is told."""
    async with httpx.AsyncClient(trust_env=False, timeout=100) as client:
        for name, data in files.items():
            answer = await client.post(daemon.url("/v1/audio/transcriptions"), files={"file": (name, data)})
            assert answer.status_code == 200, (name, answer.text)
            assert word_errors(recordings["dev-jfk"].text, answer.json()["text"]) < 0.3, name
            if name in DAMAGED:
                assert answer.json()["warnings"], name


def test_transcribe(files: dict[str, bytes], recordings: dict[str, Recording], tmp_path: Path) -> None:
    """Likewise, with a line on standard error."""
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)

    result = streamer("transcribe", *(tmp_path / name for name in files), "--format", "json", "-o", tmp_path / "out")

    assert result.returncode == 0, result.stderr
    documents = [json.loads(path.read_text()) for path in (tmp_path / "out").iterdir()]
    assert len(documents) == len(files)
    for document in documents:
        name = Path(document["file"]).name
        assert word_errors(recordings["dev-jfk"].text, document["text"]) < 0.3, name
        for warning in document.get("warnings", ()):
            assert f"{name}: {warning}" in result.stderr
        assert name not in DAMAGED or document["warnings"]
