"""What is said to the daemon stays between it and its client."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import structlog

from streamer.access.keys import Keys
from streamer.config import LogConfig
from streamer.telemetry import logs
from tests.helpers import http_daemon, scripted_engine
from tests.helpers.http_daemon import CONFIG, closing, end, start
from tests.helpers.scripted_engine import spoken

KEY = "kitchen-0123456789abcdef"
WORDS = "b c d f g h j k l"


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Everything that is logged, as by default."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    logs.configure(LogConfig(), stream, {})
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


async def test_nothing_that_is_said_is_logged(log: io.StringIO, tmp_path: Path) -> None:
    """Captions, prompt, terms, context, keys and the secret of a session: none of it at the default level."""
    (tmp_path / "keys").write_text(f"kitchen {KEY}\n")
    headers = {"Authorization": f"Bearer {KEY}"}
    sound = (np.clip(spoken(WORDS, pause_s=1.0), -1, 1) * 32767).astype("<i2").tobytes()
    async with (
        scripted_engine.serving() as service,
        http_daemon.serving(CONFIG, service.scheduler, keys=Keys(tmp_path / "keys")) as daemon,
    ):
        service.engine.on_step = lambda batch: service.engine.poisoned.setdefault(batch[0].session, 1)
        resume = {"session": "s_lost", "token": "r_secret", "stable_s": 1.0, "context": "marmalade"}
        resume["turns"] = [{"turn": 0, "text": "quixotic"}]
        async with daemon.connect(additional_headers=headers) as client:
            _, started = await start(client, language="en", prompt="xylophone", keyterms=["zeppelin"], resume=resume)
            for at in range(0, len(sound), 32_000):
                await client.send(sound[at : at + 32_000])
            messages = await end(client)
        async with daemon.connect(additional_headers=headers) as client:
            await client.send('{"type":"start","prompt":17,"context":"marmalade"}')
            await closing(client)

    assert [message["text"] for message in messages if message["type"] == "turn_end"] == [WORDS]
    written = log.getvalue()
    assert "session_ended" in written
    assert "step_failed" in written
    for secret in (WORDS[4:], "xylophone", "zeppelin", "marmalade", "quixotic", "r_secret", KEY, started["resume"]):
        assert secret not in written
