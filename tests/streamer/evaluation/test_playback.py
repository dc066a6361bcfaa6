"""Tests of streamer/evaluation/playback.py: a recording played to a session handle whose other side is a script."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import numpy as np
import pytest

from streamer.audio.pcm import SAMPLE_RATE
from streamer.errors import EngineError
from streamer.evaluation.latency import LiveTranscript
from streamer.evaluation.playback import CHUNK_S, play, transcribe_live
from streamer.protocol.events import Bye, Caption, Event, TurnEnd, Word
from streamer.protocol.options import SessionOptions
from streamer.scheduling.session_handle import SessionHandle
from tests.helpers.sessions import new_session

Script = Callable[[float], list[Event]]
"""What is said once so many seconds were heard."""


def words(*ends_s: float, stable: int = 0, texts: str = "abcdefgh") -> tuple[Word, ...]:
    """Words that end at these times, the first ones stable."""
    return tuple(
        Word(text=text, start_s=end_s - 0.1, end_s=end_s, confidence=0.5, stable=i < stable)
        for i, (text, end_s) in enumerate(zip(texts, ends_s, strict=False))
    )


def caption(said: tuple[Word, ...], turn: int = 0) -> Caption:
    """A caption of these words; its text does not matter here."""
    return Caption(turn=turn, rev=1, stable="", partial="", start_s=0.0, end_s=0.0, words=said)


def turn_end(said: tuple[Word, ...], turn: int = 0) -> TurnEnd:
    """The end of a turn with these words."""
    text = " ".join(word.text for word in said)
    return TurnEnd(turn=turn, text=text, start_s=0.0, end_s=0.0, language="en", reason="silence", words=said)


@asynccontextmanager
async def scripted(script: dict[float, list[Event]]) -> AsyncIterator[SessionHandle]:
    """A stream that says its lines as soon as that much was heard, and `Bye` at the end."""
    work = asyncio.Event()
    session = new_session(options=SessionOptions())
    stream = SessionHandle(
        session, token="", max_backlog_s=0.1, max_unread=4096, caller="", wake=work.set, on_detach=lambda _stream: None
    )
    lines = sorted(script.items())

    async def serve() -> None:
        heard_s = 0.0
        while True:
            await work.wait()
            work.clear()
            heard_s += stream.take_samples(10**6).shape[0] / SAMPLE_RATE
            while lines and lines[0][0] <= heard_s + 1e-9:
                stream.say(lines.pop(0)[1])
            if stream.take_commands():
                stream.say([Bye(reason="end", audio_s=heard_s, turns=1)])

    task = asyncio.create_task(serve())
    try:
        yield stream
    finally:
        task.cancel()


def sound(seconds: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Silence of this length."""
    return np.zeros(round(seconds * SAMPLE_RATE), np.float32)


async def transcribed(seconds: float, script: dict[float, list[Event]]) -> LiveTranscript:
    """The transcript of such a script, as fast as it goes."""
    async with scripted(script) as stream:
        return await transcribe_live(stream, sound(seconds), realtime=False)


async def test_every_sample_is_fed() -> None:
    """In chunks, of which the last is shorter; then the session is ended."""
    async with scripted({}) as stream:
        events = [event async for _, event in play(stream, sound(1.03), realtime=False)]
        assert stream.received_s == pytest.approx(1.03)
        assert [type(event) for event in events] == [Bye]


async def test_a_recording_without_samples_is_ended_at_once() -> None:
    """Its transcript is empty."""
    transcript = await transcribed(0.0, {})
    assert (transcript.duration_s, transcript.text, transcript.turns) == (0.0, "", [])


async def test_latencies_count_from_the_end_of_the_word() -> None:
    """First sight and commit of each word are measured once, against the audio received by then."""
    transcript = await transcribed(
        2.0,
        {
            0.5: [caption(words(0.4))],
            1.0: [caption(words(0.4, 0.9))],
            1.5: [caption(words(0.4, 0.9, stable=1))],
            2.0: [turn_end(words(0.4, 0.9, stable=2))],
        },
    )
    # the sender may be a chunk ahead of what was heard
    assert transcript.first_sight_s == pytest.approx([0.1, 0.1], abs=2 * CHUNK_S + 1e-6)
    assert transcript.commit_s == pytest.approx([1.1, 1.1], abs=2 * CHUNK_S + 1e-6)
    assert transcript.n_rewritten == 0
    assert transcript.text == "a b"
    assert transcript.duration_s == 2.0


async def test_rewritten_words_are_counted() -> None:
    """Words that were shown and then replaced or withdrawn are churn; words that are added are not."""
    transcript = await transcribed(
        2.0,
        {
            0.5: [caption(words(0.1, 0.2, 0.3))],
            1.0: [caption(words(0.1, 0.2, 0.3, 0.4, texts="axcd"))],
            1.5: [turn_end(words(0.1, texts="a", stable=1))],
        },
    )
    assert transcript.n_rewritten == 1 + 3


async def test_each_turn_starts_with_nothing_shown() -> None:
    """The texts of turns are joined, empty ones left out."""
    transcript = await transcribed(
        2.0,
        {
            0.5: [turn_end(words(0.1, stable=1))],
            0.8: [turn_end((), turn=1)],
            1.0: [caption(words(0.9, texts="z"), turn=2)],
            1.5: [turn_end(words(0.9, texts="z", stable=1), turn=2)],
        },
    )
    assert transcript.n_rewritten == 0
    assert [turn.turn for turn in transcript.turns] == [0, 1, 2]
    assert transcript.text == "a z"
    assert len(transcript.first_sight_s) == len(transcript.commit_s) == 2


async def test_real_time_is_the_speed_of_speech() -> None:
    """At the speed of speech a recording takes as long as it is, and events carry that clock."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    async with scripted({0.2: [caption(words(0.1))]}) as stream:
        times = [now_s async for now_s, _ in play(stream, sound(0.25), realtime=True)]
    assert loop.time() - started >= 0.24
    assert 0.19 <= times[0] <= times[1]


async def test_failure_of_the_session_is_raised() -> None:
    """A session that fails ends the transcript with its error, and nothing goes on feeding it."""
    async with scripted({}) as stream:
        stream.fail(EngineError("broken"))
        with pytest.raises(EngineError, match="broken"):
            await transcribe_live(stream, sound(5.0), realtime=False)
    assert len(asyncio.all_tasks()) <= 2
