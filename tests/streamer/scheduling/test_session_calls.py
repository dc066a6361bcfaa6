"""Tests of streamer.scheduling.session_calls: what fails in one session is felt by no other."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from streamer.errors import EngineError
from streamer.protocol.events import Bye, TurnEnd
from streamer.step import StepRequest
from tests.helpers.scripted_engine import collect, recite, serving, spoken, story, texts
from tests.streamer.scheduling.test_worker import until


async def test_a_bad_row_hurts_no_other() -> None:
    """One session's steps fail for good: it ends with an error after three, the others do not notice."""
    async with serving() as service:
        streams = [service.open() for _ in range(3)]
        service.engine.poisoned[streams[1].id] = 1000
        for i, stream in enumerate(streams):
            await stream.feed(spoken(story(15, seed=i), pause_s=1.0))
            stream.end()
        with pytest.raises(EngineError, match="3 steps failed in a row"):
            await collect(streams[1])
        said = [await collect(streams[0]), await collect(streams[2])]

    assert [texts(events) for events in said] == [[story(15, seed=0)], [story(15, seed=2)]]
    assert service.count("streamer_step_failures_total") == 3
    assert any(len(batch) > 1 for batch in service.engine.batches)


async def test_a_session_outlives_two_failures() -> None:
    """The same sound is asked for again: no word is missing, and failures that are past do not count."""
    async with serving() as service:
        stream = service.open()
        for _ in range(3):
            service.engine.poisoned[stream.id] = 2
            await stream.feed(spoken("b c d f", pause_s=1.0))
            await until(stream, TurnEnd)
        stream.end()
        events = await collect(stream)

    assert isinstance(events[-1], Bye)
    assert events[-1].turns == 3
    assert service.count("streamer_step_failures_total") == 6


async def test_impossible_requests_end_their_session_alone() -> None:
    """A request that the engine refuses is that session's failure, not the daemon's."""
    async with serving() as service:
        bad, good = service.open(), service.open()

        def refuse(batch: Sequence[StepRequest]) -> None:
            if any(asked.session == bad.id for asked in batch):
                raise EngineError("prefix of 500 tokens leaves -54 of 448 for new ones")

        service.engine.on_step = refuse
        await bad.feed(spoken("b c d f"))
        bad.end()
        events = await recite(good, story(10))

        assert texts(events) == [story(10)]
        with pytest.raises(EngineError):
            await collect(bad)


@pytest.mark.parametrize("where", ["push_frames", "flush", "is_due", "next_step", "apply", "take_newly_stable"])
async def test_an_exception_in_one_session_ends_that_session_alone(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its client is told of a fault; another session, in the same steps, is told every word, and new ones open."""
    text = story(12)

    def fault(*_: object, **__: object) -> None:
        raise IndexError("a fault")

    async with serving() as service:
        bad, good = service.open(), service.open()
        monkeypatch.setattr(bad.session, where, fault)
        bad.flush(1)
        events, told = await asyncio.gather(
            recite(good, text), asyncio.gather(recite(bad, text), return_exceptions=True)
        )
        again = await recite(service.open(), text)

    assert texts(events) == texts(again) == [text]
    assert isinstance(told[0], EngineError)
    assert service.count("streamer_sessions_ended_total") is None  # one per outcome
    assert service.registry.get_sample_value("streamer_sessions_ended_total", {"outcome": "error"}) == 1
