"""The client against the real daemon: connections that break, and a daemon that is killed, while somebody speaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest

from streamer.client import Bye, Caption, Event, Start, TurnEnd, TurnRevised, connect
from tests.helpers.daemon_process import CHUNK, DaemonProcess, daemon_process, word_errors
from tests.helpers.fault_proxy import fault_proxy
from tests.helpers.recordings import Recording

pytestmark = pytest.mark.asyncio(loop_scope="session")
PACE = 4
"""Times as fast as spoken."""


async def blocks(spoken: Recording) -> AsyncIterator[bytes]:
    """A recording in blocks of 0.1 s."""
    pcm = (np.clip(spoken.samples, -1, 1) * 32767).astype("<i2")
    for at in range(0, len(pcm), CHUNK):
        yield pcm[at : at + CHUNK].tobytes()
        await asyncio.sleep(0.1 / PACE)


async def captioned(
    url: str,
    spoken: Recording,
    source: AsyncIterator[bytes] | None = None,
    on_event: Callable[[Event], None] = lambda _: None,
) -> str:
    """The transcript of a recording, from `source` where there is one: each turn as its second pass has it."""
    events = []
    async with asyncio.timeout(120), connect(url, Start(language="en", revise=True)) as captions:
        async for event in captions.transcribe(source or blocks(spoken)):
            events.append(event)
            on_event(event)
    turns = [event for event in events if isinstance(event, TurnEnd)]
    assert [turn.turn for turn in turns] == list(range(len(turns)))
    assert isinstance(events[-1], Bye)
    assert events[-1].audio_s == pytest.approx(len(spoken.samples) / 16_000, abs=0.1)
    texts = {event.turn: event.text for event in events if isinstance(event, TurnEnd | TurnRevised)}
    return " ".join(texts.values())


async def test_broken_connections_do_not_change_the_text(
    daemon: DaemonProcess, recordings: dict[str, Recording]
) -> None:
    """No sound is lost or doubled: the text is that of an unbroken connection."""
    spoken = recordings["dev-jfk"]
    unbroken = await captioned(daemon.url("", "ws"), spoken)
    async with fault_proxy(daemon.port, [45_000, 120_000, 60_000]) as proxy:
        broken = await captioned(proxy.url, spoken)
        assert proxy.n_connections == 4
    # live words depend on when a step happens to see the sound, the second pass on all sound of a turn
    assert word_errors(unbroken, broken) < 0.1, broken
    assert word_errors(spoken.text, broken) < 0.1, broken


async def test_another_daemon_continues_after_a_killed_one(
    daemon: DaemonProcess, recordings: dict[str, Recording], tmp_path: Path
) -> None:
    """Another one goes on from the text that was stable; at most the words at the cut differ."""
    spoken, killed = recordings["dev-jfk"], asyncio.Event()

    async def held_back() -> AsyncIterator[bytes]:
        sent_s = 0.0
        async for block in blocks(spoken):
            if sent_s > 8.0:
                await killed.wait()
            yield block
            sent_s += 0.1

    async with daemon_process(tmp_path) as first, fault_proxy(first.port) as proxy:

        def kill(event: Event) -> None:
            if isinstance(event, Caption) and event.stable and not killed.is_set():
                proxy.target_port = daemon.port
                first.process.kill()
                killed.set()

        text = await captioned(proxy.url, spoken, held_back(), kill)
        assert killed.is_set()
    assert word_errors(spoken.text, text) < 0.3, text
