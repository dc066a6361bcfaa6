"""Tests of streamer/scheduling/workers.py: where sessions go, and what all workers do now."""

from __future__ import annotations

import asyncio

import pytest

from streamer.errors import OverloadError
from streamer.scheduling.load import LoadMeter
from streamer.step import Engine
from tests.helpers.away_decoder import AwayDecoder
from tests.helpers.scripted_engine import INTERVAL_S, ScriptedService, collect, recite, serving, spoken, story, texts


async def test_statistics() -> None:
    """What the scheduler is doing now."""
    async with serving(max_sessions=5) as service:
        service.engine.hold()
        stream = service.open()
        await stream.feed(spoken("b c d f"))
        await service.held()
        found = service.scheduler.statistics()

    assert (found.n_sessions, found.n_speaking, found.capacity) == (1, 1, 5)
    assert found.interval_s == INTERVAL_S
    assert 0 < found.worst_lag_s <= 1.2


async def test_sessions_spread_over_the_workers() -> None:
    """Each goes to the worker with the fewest and stays there; the text is the same on every one."""
    said = [story(10, seed=i) for i in range(5)]
    async with serving(n_workers=2) as service:
        streams = [service.open() for _ in said]
        assert [len(worker.streams) for worker in service.workers] == [3, 2]
        events = await asyncio.gather(*(recite(stream, text) for stream, text in zip(streams, said, strict=True)))

        assert [texts(each) for each in events] == [[text] for text in said]
        found = service.scheduler.statistics()
        assert (found.n_sessions, found.n_steps) == (0, sum(len(engine.batches) for engine in service.engines))
    sessions = [{asked.session for batch in engine.batches for asked in batch} for engine in service.engines]
    assert sessions == [{stream.id for stream in streams[i::2]} for i in (0, 1)]


async def test_a_place_that_is_left_is_taken_next() -> None:
    """The worker that lost a session has the fewest."""
    async with serving(n_workers=2) as service:
        streams = [service.open() for _ in range(4)]
        streams[1].end()
        await collect(streams[1])

        newest = service.open()

        assert newest.id in service.workers[1].streams
        assert service.scheduler.resume(newest.id, newest.token) is newest, "found on whichever worker"


async def test_speakers_of_other_processes_count() -> None:
    """Each gateway alone would begin with the first engine, so all of them together would fill that one."""
    decoders = list[AwayDecoder]()

    def away(engine: Engine, meter: LoadMeter) -> AwayDecoder:
        decoders.append(AwayDecoder(engine, meter, seed=0, lost=0.0))
        return decoders[-1]

    async with serving(n_workers=2, decoder=away) as service:
        decoders[0].n_speaking_elsewhere = 2
        for _ in range(4):
            service.open()
        assert [len(worker.streams) for worker in service.workers] == [1, 3]


async def test_workers_add_up() -> None:
    """Two workers bear twice the sessions of one; a limit that is set bounds all of them together."""
    one, two = (ScriptedService(max_sessions=0, n_workers=n).scheduler for n in (1, 2))
    assert two.statistics().capacity == 2 * one.statistics().capacity > 2

    async with serving(max_sessions=3, n_workers=2) as service:
        for _ in range(3):
            service.open()
        with pytest.raises(OverloadError, match="3 of 3 sessions open"):
            service.open()
