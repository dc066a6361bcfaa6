"""Tests of streamer/remote/revisions.py and revision_host.py: second passes in engine processes, and lost engines."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
import torch

from streamer.errors import DeviceLostError, EngineError, OverloadError
from streamer.protocol.events import Event, TurnEnd, TurnRevised
from streamer.protocol.options import SessionOptions
from streamer.protocol.turns import FinalTurns
from streamer.remote import revisions, wire
from streamer.remote.revision_host import MAX_WAITING, RevisionHost
from streamer.remote.revisions import MOST_TRIES
from streamer.scheduling.revision_decoder import RevisionDecoder, RevisionThread
from streamer.session.second_pass import Part, Revision
from tests.helpers.engines import request
from tests.helpers.hosted_engines import Faults, MemoryPool
from tests.helpers.scripted_engine import ScriptedEngine, ScriptedService, collect, reviser, running, spoken, story
from tests.helpers.waiting import until, until_idle

WORD = Part(log_mel=torch.full((5, 30), 0.1), gains=(), start_s=0.0, voiced=((0.0, 0.3),), text=" b")
NO_FAULTS = Faults()
REVISED = SessionOptions(language="en", revise=True, endpoint_ms=500)


def revision(language: str = "en", parts: tuple[Part, ...] = (WORD,)) -> Revision:
    """A turn of one word, b, in each part."""
    return Revision(
        turn=TurnEnd(turn=0, text="b", start_s=0.0, end_s=0.3, language=language, reason="silence"),
        parts=parts,
        model="",
        prompt="",
        keyterms=(),
        task="transcribe",
        has_words=True,
        begins_sentence=True,
    )


@contextlib.asynccontextmanager
async def running_pool(n: int = 2, faults: Faults = NO_FAULTS, seed: int = 0) -> AsyncIterator[MemoryPool]:
    """Engines in memory."""
    pool = MemoryPool(n, faults, seed)
    task = asyncio.create_task(pool.run())
    async with asyncio.timeout(120):
        yield pool
    task.cancel()


async def test_a_turn_is_decoded_by_an_engine_process() -> None:
    """Its text comes back, with the time that it took there; what the model does not know is not asked."""
    async with running_pool() as pool:
        revised, other = [await pool.revisions().decode(revision(language)) for language in ("en", "de")]

    assert revised.event is not None
    assert (revised.event.text, revised.event.model) == ("c", "second")
    assert revised.seconds > 0
    assert other.event is None
    assert sum(len(place.sent) for place in pool.places) == 1


@pytest.mark.parametrize("faults", [Faults(late_s=0.05, doubled=0.5), Faults(away=0.15)], ids=["late", "away"])
async def test_turns_of_a_recording_are_revised_whatever_meets_the_calls(faults: Faults) -> None:
    """Live text and second passes share the engines, and both are whole."""
    said = [story(5, seed) for seed in range(6)]
    async with running_pool(2, faults, seed=1) as pool:
        service = ScriptedService(decoder=lambda _, __: pool.decoder(), revisions=pool.revisions())
        async with running(service.scheduler):
            stream = service.scheduler.open(REVISED, revises_all=True)
            reading = asyncio.create_task(collect(stream))
            for text in said:
                await stream.feed(spoken(text, pause_s=1.0))
            stream.end()
            events = await reading

    assert sum(place.n_faults for place in pool.places)
    assert [event.text for event in events if isinstance(event, TurnEnd)] == said
    assert turns_of(events) == [text.replace("b", "c") for text in said]
    assert sum(isinstance(event, TurnRevised) for event in events) == len(said)


def turns_of(events: list[Event]) -> list[str]:
    """Final texts of the turns."""
    turns = FinalTurns()
    for event in events:
        turns.take(event)
    return [turn.text for turn in turns]


async def test_a_turn_with_which_engines_are_lost_keeps_its_text() -> None:
    """It is not tried for ever."""
    async with running_pool(1, Faults(away=1.0)) as pool:
        with pytest.raises(EngineError, match="did not answer to a second pass"):
            await pool.revisions().decode(revision())

    assert len(pool.places[0].sent) == MOST_TRIES


async def test_a_turn_waits_where_no_engine_answers() -> None:
    """Until one is back, or none will come."""
    async with running_pool(1) as pool:
        pool.places[0].link.lose()
        waiting = asyncio.create_task(pool.revisions().decode(revision()))
        await asyncio.sleep(0)
        pool.places[0].connect()
        assert (await waiting).event is not None

        pool.places[0].link.lose()
        pool.has_given_up = True
        with pytest.raises(DeviceLostError):
            await pool.revisions().decode(revision())


async def test_an_engine_that_has_no_room_is_left_for_another() -> None:
    """At once, and the turn is decoded there."""
    async with running_pool(2) as pool:
        await until_idle()
        pool.places[0].host.revisions = full_host()
        revised = await pool.revisions().decode(revision())

    assert revised.event is not None
    assert [len(place.sent) for place in pool.places] == [1, 1]


async def test_a_turn_waits_until_an_engine_has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no failure of anything, however often there is none."""
    monkeypatch.setattr(revisions, "FULL_S", 0.001)
    async with running_pool(1) as pool:
        await until_idle()
        place = pool.places[0]
        runs, place.host.revisions = place.host.revisions, full_host()
        decoding = asyncio.create_task(pool.revisions().decode(revision()))
        await until(lambda: len(place.sent) > MOST_TRIES)
        place.host.revisions = runs
        assert (await decoding).event is not None


async def test_engines_that_take_too_long_are_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """They have other work, and the turn keeps its text."""
    monkeypatch.setattr(revisions, "PATIENCE_S", 0.001)
    async with running_pool(1, Faults(lost=1.0)) as pool:
        with pytest.raises(OverloadError, match="3 engines did not answer to a second pass"):
            await pool.revisions().decode(revision())


async def test_a_step_that_fails_is_told() -> None:
    """To the one whose turn it is."""
    long = Part(log_mel=torch.zeros(5, 30), gains=(), start_s=0.0, voiced=(), text="")
    engine = ScriptedEngine()
    engine.poisoned["revision"] = 1
    async with running_pool(1) as pool:
        pool.places[0].host.revisions = host = RevisionHost(RevisionThread(RevisionDecoder([reviser(engine)])), 5)
        running = asyncio.create_task(host.run())
        with pytest.raises(EngineError, match="poisoned"):
            await pool.revisions().decode(revision(parts=(WORD, long)))
        running.cancel()


class Host:
    """A host, and what it has said."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.host = RevisionHost(RevisionThread(RevisionDecoder([reviser(ScriptedEngine())])), 5, lambda: self.now_s)
        self.said: list[wire.Message] = []
        self._said_more = asyncio.Event()

    def call(self, number: int, model: str = "second") -> None:
        """Ask for a turn."""
        row = wire.row_of(request(torch.full((5, 30), 0.1)), 0)
        asked = wire.Call(
            id=number, fingerprint="", deadline_s=self.now_s + 10, most_rows=1, rows=(row,), reviser=model
        )
        received = wire.from_gateway(wire.pack(asked)[wire.LENGTH.size :])
        assert isinstance(received, wire.Call)
        self.host.put(received, self._say)

    def _say(self, message: wire.Message) -> None:
        self.said.append(message)
        self._said_more.set()

    async def run(self, n: int) -> None:
        """Run until it has said so much."""
        task = asyncio.create_task(self.host.run())
        async with asyncio.timeout(120):
            while len(self.said) < n:
                self._said_more.clear()
                await self._said_more.wait()
        task.cancel()


def full_host() -> RevisionHost:
    """One that takes no more turns."""
    host = Host()
    for number in range(MAX_WAITING):
        host.call(number)
    return host.host


async def test_what_nobody_waits_for_any_more_is_not_decoded() -> None:
    """A process that stood still works off nothing that is stale."""
    host = Host()
    host.call(1)
    host.now_s += 11
    host.call(2)
    await host.run(2)

    assert host.said[0] == wire.Refused(id=1, reason="late")
    assert isinstance(host.said[1], wire.Reply)


async def test_a_model_that_is_not_loaded_is_an_error_of_its_call() -> None:
    """Whatever a gateway asks for."""
    host = Host()
    host.call(1, "third")
    await host.run(1)

    [reply] = host.said
    assert isinstance(reply, wire.Reply)
    assert reply.rows[0].error == "no model third for second passes: second"


def test_more_turns_than_can_wait_are_refused() -> None:
    """Their gateways look for another engine."""
    host = Host()
    for number in range(MAX_WAITING + 1):
        host.call(number)

    assert host.said == [wire.Refused(id=MAX_WAITING, reason="full")]
