"""Tests of streamer/scheduling/reviser.py: turns that wait for their second pass, and when they get it."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec import structs
from prometheus_client import CollectorRegistry

from streamer.errors import EngineError, OverloadError
from streamer.protocol.events import Bye, Event, TurnEnd, TurnRevised
from streamer.protocol.options import SessionOptions
from streamer.protocol.turns import FinalTurns
from streamer.scheduling.reviser import (
    MAX_BYE_WAIT_S,
    MAX_FAILURES,
    MAX_WAITING,
    RETRY_S,
    Job,
    Revised,
    Reviser,
    TurnDecoder,
)
from streamer.scheduling.revision_decoder import RevisionDecoder, RevisionThread
from streamer.scheduling.session_handle import SessionHandle
from streamer.session.second_pass import Revision
from streamer.telemetry.metrics import ServiceMetrics
from tests.helpers.revisions import revision
from tests.helpers.scripted_engine import ScriptedEngine, recite, reviser, serving, spoken, story
from tests.helpers.waiting import until_idle

REVISED = SessionOptions(language="en", revise=True, endpoint_ms=500)


class Queue:
    """A reviser and its jobs, which keep what they were told under their turn's number."""

    def __init__(self, decoder: TurnDecoder) -> None:
        self.now_s = 0.0
        self.registry = CollectorRegistry()
        self.reviser = Reviser(decoder, ServiceMetrics(self.registry), clock=lambda: self.now_s)
        self.told: dict[int, TurnRevised | None] = {}
        self._news = asyncio.Event()

    def put(self, turn: int, **facts: Any) -> None:
        """Let a turn wait."""
        job = Job(
            revision=revision(turn),
            settle=functools.partial(self._settle, turn),
            is_patient=facts.get("is_patient", False),
            is_ended=lambda: facts.get("is_ended", False),
            is_left=lambda: facts.get("is_left", False),
        )
        self.reviser.put(job)

    def count(self, outcome: str) -> float | None:
        """Turns with this outcome."""
        return self.registry.get_sample_value("streamer_revisions_total", {"outcome": outcome})

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Decode while the block runs."""
        task = asyncio.create_task(self.reviser.run())
        try:
            async with asyncio.timeout(120):
                yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds; the time-out of `running` ends the wait."""
        while not condition():
            self._news.clear()
            await self._news.wait()

    def _settle(self, turn: int, event: TurnRevised | None) -> None:
        assert turn not in self.told
        self.told[turn] = event
        self._news.set()


def decoding(engine: ScriptedEngine) -> RevisionThread:
    """Decodes turns with an engine of this process."""
    return RevisionThread(RevisionDecoder([reviser(engine)]))


class BusyEngines:
    """Engines that have no time for so many turns, and leave the text of those that follow."""

    models = ("second",)

    def __init__(self, n_turns: int) -> None:
        self._n_left = n_turns

    async def decode(self, _: Revision) -> Revised:
        """As `TurnDecoder.decode`."""
        self._n_left -= 1
        if self._n_left >= 0:
            raise OverloadError("no engine has time", retry_after_s=1.0)
        return Revised(None, 0.0)

    def close(self) -> None:
        """Nothing is held."""


@pytest.fixture
def queue() -> Queue:
    """An empty one."""
    return Queue(decoding(ScriptedEngine()))


def revisions(events: list[Event]) -> list[TurnRevised]:
    """Events of this kind."""
    return [event for event in events if isinstance(event, TurnRevised)]


class TestQueue:
    """Which turns are decoded, and in which order."""

    async def test_turns_are_decoded_in_order(self, queue: Queue) -> None:
        """Each is told its result."""
        for turn in range(3):
            queue.put(turn)
        async with queue.running():
            await queue.until(lambda: len(queue.told) == 3)
        assert list(queue.told) == [0, 1, 2]
        assert [event and event.text for event in queue.told.values()] == ["c", "c", "c"]
        assert queue.count("revised") == 3

    async def test_turns_of_live_sessions_wait_for_room(self, queue: Queue) -> None:
        """Those of recordings do not."""
        has_room = False
        queue.reviser.has_room = lambda: has_room
        queue.put(0)
        queue.put(1, is_patient=True)
        async with queue.running():
            await queue.until(lambda: 1 in queue.told)
            assert 0 not in queue.told
            has_room = True
            await queue.until(lambda: 0 in queue.told)

    def test_over_the_bound_the_oldest_live_turn_is_dropped(self, queue: Queue) -> None:
        """Its text stays; no turn of a recording is dropped."""
        queue.put(1000, is_patient=True)
        for turn in range(MAX_WAITING + 2):
            queue.put(turn)
        assert queue.told == {0: None, 1: None}
        assert queue.count("dropped") == 2

    async def test_nobody_waits_for_a_turn_that_nobody_reads(self, queue: Queue) -> None:
        """It is dropped, and nothing is computed for it."""
        queue.put(0, is_left=True, is_patient=True)
        async with queue.running():
            await queue.until(lambda: 0 in queue.told)
        assert (queue.told, queue.count("dropped")) == ({0: None}, 1)

    async def test_an_ended_session_does_not_wait_without_room(self, queue: Queue) -> None:
        """Its turns are dropped at once; those of a session that goes on may still get room."""
        queue.reviser.has_room = lambda: False
        queue.put(0, is_ended=True)
        queue.put(1)
        async with queue.running():
            await queue.until(lambda: 0 in queue.told)
        assert queue.told == {0: None}

    async def test_an_ended_session_waits_for_a_while(self) -> None:
        """Behind others it waits `MAX_BYE_WAIT_S` at most."""
        engine = ScriptedEngine()
        queue = Queue(decoding(engine))

        def pass_time(_: object) -> None:
            queue.now_s += MAX_BYE_WAIT_S

        engine.on_step = pass_time
        for turn in range(2):
            queue.put(turn, is_ended=True)
        async with queue.running():
            await queue.until(lambda: len(queue.told) == 2)
        assert (queue.told[0] is not None, queue.told[1]) == (True, None)

    async def test_an_ended_session_does_not_wait_for_a_slow_turn(self) -> None:
        """Of a recording, before its own, where there is no room for this one."""
        engine = ScriptedEngine()
        engine.hold()
        queue = Queue(decoding(engine))
        has_ended = False
        queue.put(0, is_patient=True)
        async with queue.running():
            assert await asyncio.to_thread(engine.entered.wait, 60)
            queue.put(1)
            queue.put(2, is_ended=True)
            queue.reviser.has_room = lambda: not has_ended
            has_ended = True
            await queue.until(lambda: 2 in queue.told)
            has_ended = False
            engine.release()
            await queue.until(lambda: 1 in queue.told)
        assert queue.told[0] is not None
        assert queue.told[2] is None

    async def test_an_ended_session_does_not_wait_for_its_own_slow_turn(self) -> None:
        """Once there is no room for it any more; what is found all the same is told nobody."""
        engine = ScriptedEngine()
        engine.hold()
        queue = Queue(decoding(engine))
        queue.put(0, is_ended=True)
        async with queue.running():
            assert await asyncio.to_thread(engine.entered.wait, 60)
            queue.reviser.has_room = lambda: False
            await queue.until(lambda: 0 in queue.told)
            engine.release()
            queue.put(1, is_patient=True)
            await queue.until(lambda: 1 in queue.told)
        assert queue.told[0] is None
        assert queue.told[1] is not None
        assert queue.count("dropped") == 1

    async def test_engines_without_time_are_no_failure(self) -> None:
        """However often in a row: the turn keeps its text, and the next one is decoded as soon as there is time."""
        queue = Queue(BusyEngines(MAX_FAILURES + 1))
        async with queue.running():
            for turn in range(MAX_FAILURES + 2):
                queue.put(turn)
            await queue.until(lambda: len(queue.told) == MAX_FAILURES + 2)
        assert [queue.count(outcome) for outcome in ("dropped", "failed", "same")] == [MAX_FAILURES + 1, 0, 1]

    async def test_after_some_failures_it_gives_up_for_a_while(self) -> None:
        """A step that fails leaves the text; after `MAX_FAILURES` in a row nothing is computed for `RETRY_S`."""
        engine = ScriptedEngine()
        engine.poisoned["revision"] = MAX_FAILURES + 1
        queue = Queue(decoding(engine))
        async with queue.running():
            for turn in range(MAX_FAILURES + 2):
                queue.put(turn)
            await queue.until(lambda: len(queue.told) == MAX_FAILURES + 2)
            queue.put(100)
            assert set(queue.told.values()) == {None}
            assert len(engine.batches) == MAX_FAILURES
            for turn in (200, 201):
                queue.now_s += RETRY_S
                queue.put(turn)
                queue.put(turn + 10)
                await queue.until(lambda turn=turn: turn + 10 in queue.told)
        assert [queue.told[turn] is None for turn in (200, 210, 201, 211)] == [True, True, False, False]
        assert queue.count("failed") == MAX_FAILURES + 3 + 2


class TestSessions:
    """Second passes of sessions of a scheduler."""

    async def test_a_session_with_revise_is_told_before_bye(self) -> None:
        """Its turns end with their live text, the revisions follow, then it is over."""
        async with serving(revisers=[reviser(ScriptedEngine())]) as service:
            events = await recite(service.scheduler.open(REVISED), "b d b", pause_s=1.0)
        assert [event.text for event in events if isinstance(event, TurnEnd)] == ["b d b"]
        assert [event.text for event in revisions(events)] == ["c d c"]
        assert isinstance(events[-1], Bye)

    @pytest.mark.parametrize("revisers", [[], [ScriptedEngine()]])
    async def test_a_session_without_revise_ends_as_ever(self, revisers: list[ScriptedEngine]) -> None:
        """And so does one that asks where nobody makes second passes."""
        options = REVISED if not revisers else structs.replace(REVISED, revise=False)
        async with serving(revisers=[reviser(engine) for engine in revisers]) as service:
            events = await recite(service.scheduler.open(options), "b d b", pause_s=1.0)
        assert revisions(events) == []
        assert isinstance(events[-1], Bye)

    async def test_every_turn_of_a_recording_is_revised(self) -> None:
        """However many there are, and although sessions speak."""
        engine = ScriptedEngine()
        async with serving(revisers=[reviser(engine)]) as service:
            assert service.reviser
            service.reviser.has_room = lambda: False
            stream = service.scheduler.open(REVISED, revises_all=True)
            feeding = asyncio.create_task(feed(stream, [story(5, seed) for seed in range(8)]))
            turns, n_revised = FinalTurns(), 0
            async for event in stream:
                turns.take(event)
                n_revised += isinstance(event, TurnRevised)
            await feeding
        assert [turn.text for turn in turns] == [story(5, seed).replace("b", "c") for seed in range(8)]
        assert n_revised == 8

    async def test_a_client_that_leaves_is_not_waited_for(self) -> None:
        """Its session is over at once, and its place is free."""
        engine = ScriptedEngine()
        engine.hold()
        async with serving(revisers=[reviser(engine)]) as service:
            stream = service.scheduler.open(REVISED)
            await stream.feed(spoken("b d b", pause_s=1.0))
            await stream.feed(spoken("d f d", pause_s=1.0))
            assert await asyncio.to_thread(engine.entered.wait, 60)
            stream.detach(is_final=True)
            engine.release()
            while service.scheduler.n_sessions:
                await until_idle()

    async def test_a_failed_session_is_told_nothing(self) -> None:
        """A result that comes late changes nothing."""
        engine = ScriptedEngine()
        engine.hold()
        async with serving(revisers=[reviser(engine)]) as service:
            stream = service.scheduler.open(REVISED)
            service.engine.poisoned = {}
            await stream.feed(spoken("b d b", pause_s=1.0))
            assert await asyncio.to_thread(engine.entered.wait, 60)
            service.engine.poisoned[stream.id] = 1000
            await stream.feed(spoken("d f d", pause_s=1.0))
            turns = FinalTurns()
            with pytest.raises(EngineError, match="steps failed"):
                await take_all(stream, turns)
            engine.release()
            await until_idle()
        assert [turn.text for turn in turns] == ["b d b"]

    def test_the_scheduler_names_the_models(self) -> None:
        """For the check of what clients ask for."""
        decoder = RevisionDecoder([reviser(ScriptedEngine(), "base"), reviser(ScriptedEngine(), "tiny.en")])
        assert Reviser(RevisionThread(decoder), ServiceMetrics(CollectorRegistry())).models == ("base", "tiny.en")


async def take_all(stream: SessionHandle, turns: FinalTurns) -> None:
    """Take the turns of a session until it ends."""
    async for event in stream:
        turns.take(event)


async def feed(stream: SessionHandle, stories: list[str]) -> None:
    """Say stories with pauses between them, and end."""
    for text in stories:
        await stream.feed(spoken(text, pause_s=1.0))
    stream.end()
