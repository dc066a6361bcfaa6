"""Tests of streamer.scheduling.scheduler and the streams it hands out, with an instant engine that is never wrong."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence

import numpy as np
import pytest
import structlog

from streamer.errors import OverloadError
from streamer.protocol.events import Bye, Caption, Event, Flushed, Speech, TurnEnd
from streamer.protocol.options import SessionOptions, Update
from streamer.scheduling.places import Place
from streamer.step import StepRequest
from tests.helpers.scripted_engine import ScriptedService, collect, recite, serving, spoken, story, texts
from tests.helpers.waiting import is_waiting, until_idle


async def to_flushed(events: AsyncIterator[Event], id_: int) -> AsyncIterator[Event]:
    """What a session says up to the answer to a flush; more can be read afterwards."""
    while (event := await anext(events)) != Flushed(id=id_):
        yield event


# --- from sound to text


async def test_every_word_is_said_once() -> None:
    """A stream longer than a window, with a pause: two turns, growing captions, each word in its place."""
    first, second = story(40), story(12, seed=1)
    async with serving() as service:
        stream = service.open()
        await stream.feed(spoken(first, pause_s=4.0))
        events = await recite(stream, second)

    assert texts(events) == [first, second]
    assert isinstance(events[-1], Bye)
    assert events[-1].turns == 2
    assert events[-1].audio_s == pytest.approx(len(spoken(first, 4.0)) / 16000 + len(spoken(second)) / 16000, abs=0.06)
    stable = [event.stable for event in events if isinstance(event, Caption) and event.turn == 0]
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(stable))
    assert service.count("streamer_words_total") == 52


async def test_sound_faster_than_real_time_waits() -> None:
    """A sender that is ahead is slowed down at `max_backlog_s`; nothing it sends is lost."""
    text = story(60)
    async with serving(max_backlog_s=1.0) as service:
        service.engine.hold()
        stream = service.open()

        async def send() -> None:
            for chunk in np.split(spoken(text), range(1600, len(spoken(text)), 1600)):
                await stream.feed(chunk)
            stream.end()

        sending = asyncio.create_task(send())
        await service.held()
        assert await is_waiting(sending)
        assert 1.0 <= stream.backlog_s <= 1.1
        assert stream.received_s < 3.0

        service.engine.release()
        assert texts(await collect(stream)) == [text]


async def test_the_log_says_who_opened_a_session() -> None:
    """The key, and the address of the request within which it was opened."""
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        async with serving() as service:
            with structlog.contextvars.bound_contextvars(address="192.0.2.1"):
                stream = service.scheduler.open(SessionOptions(language="en"), caller="kitchen")
            stream.end()
            await collect(stream)

    [opened] = [line for line in lines if line["event"] == "session_opened"]
    assert (opened["session"], opened["caller"], opened["address"]) == (stream.id, "kitchen", "192.0.2.1")


async def test_flush_and_update_take_effect_where_they_were_said() -> None:
    """Commands wait for the sound before them, and for no more."""
    async with serving() as service:
        stream = service.open()
        await stream.feed(spoken("b c d f"))
        stream.flush(7)
        stream.update(Update(language="en", endpoint_ms=2000))
        await stream.feed(spoken("g h", pause_s=1.0))
        await stream.feed(spoken("j k"))
        stream.end()
        events = await collect(stream)

    kinds = [event for event in events if isinstance(event, TurnEnd | Flushed)]
    assert [event.text if isinstance(event, TurnEnd) else event.id for event in kinds] == ["b c d f", 7, "g h j k"]
    assert [event.reason for event in kinds if isinstance(event, TurnEnd)] == ["flush", "end"]
    assert stream.options.endpoint_ms == 2000


async def test_captions_that_nobody_read_are_replaced() -> None:
    """A slow reader finds the newest caption of a turn, and every turn, speech and answer."""
    async with serving() as service:
        stream = service.open()
        await stream.feed(spoken(story(20), pause_s=1.0))
        stream.end()
        await service.scheduler.drain(10)
        events = await collect(stream)

    kinds = [type(event) for event in events]
    assert kinds.count(Caption) <= 1
    assert kinds.count(Speech) == 2
    assert texts(events) == [story(20)]


# --- sessions come and go


async def test_a_session_that_its_client_was_not_told_of_is_resumed_by_the_one_before() -> None:
    """The network was lost before the answer: the client can show no other name. Sound says that it was told."""
    async with serving() as service:
        scheduler, before = service.scheduler, ("s_before", "r_before")
        stream = await scheduler.begin(SessionOptions(language="en"), resumed=before)
        assert scheduler.resume("s_before", "r_wrong") is None
        assert scheduler.resume("s_before", "") is None
        assert scheduler.resume(*before) is stream

        await stream.feed(spoken("b c"))

        assert scheduler.resume(*before) is None
        assert scheduler.resume(stream.id, stream.token) is stream


async def test_a_lost_connection_is_resumed() -> None:
    """The same session goes on, for who shows its token and while nobody is attached; the text has no seam."""
    text = story(20)
    sound = spoken(text, pause_s=1.0)
    async with serving(resume_s=3600) as service:
        scheduler = service.scheduler
        stream = service.open()
        await stream.feed(sound[:40_000])
        stream.detach()
        assert scheduler.resume(stream.id, "r_wrong") is None
        assert scheduler.resume(stream.id, "r_é\ud800") is None, "text that is not ASCII"
        assert scheduler.resume("s_unknown", stream.token) is None

        again = scheduler.resume(stream.id, stream.token)

        assert again is stream
        await again.feed(sound[round(again.received_s * 16000) :])
        again.end()
        assert texts(await collect(again)) == [text]
        assert scheduler.resume(stream.id, stream.token) is None, "over"


async def test_a_session_nobody_comes_back_to_ends() -> None:
    """After `resume_s` the tail is transcribed and the place is free."""
    async with serving(resume_s=0) as service:
        stream = service.open()
        await stream.feed(spoken("b c d f"))
        stream.detach()
        events = await collect(stream)

        assert texts(events) == ["b c d f"]
        assert isinstance(events[-1], Bye)
        assert service.scheduler.statistics().n_sessions == 0
        assert service.count("streamer_sessions") == 0


async def test_who_comes_too_late_gets_a_session_of_its_own() -> None:
    """The old one takes no more audio while its last step is under way: what is sent to it would be lost."""
    async with serving(resume_s=0) as service:
        service.engine.hold()
        stream = service.open()
        await stream.feed(spoken("b c d f"))
        await service.held()
        stream.detach()
        await until_idle()

        assert service.scheduler.statistics().n_sessions == 1
        assert service.scheduler.resume(stream.id, stream.token) is None

        service.engine.release()
        assert texts(await collect(stream)) == ["b c d f"]


async def test_a_token_takes_over() -> None:
    """
    A client may be back before its old connection is found dead.

    The old reader's events end without a Bye, and when its connection goes at last the session does not notice.
    """
    text = story(20)
    sound = spoken(text, pause_s=1.0)
    async with serving(resume_s=0) as service:
        stream = service.open()
        await stream.feed(sound[:40_000])
        old = asyncio.create_task(collect(stream))
        await until_idle()

        again = service.scheduler.resume(stream.id, stream.token)

        assert again is stream
        assert not any(isinstance(event, Bye) for event in await old)
        stream.detach()
        assert stream.expiry is None
        await again.feed(sound[round(again.received_s * 16000) :])
        again.flush(1)
        reader = aiter(again)
        assert texts([event async for event in to_flushed(reader, 1)]) == [text]

        again.detach()
        assert isinstance([event async for event in reader][-1], Bye), "nobody is left: after resume_s it ends"


async def test_turns_that_a_client_lacks_are_said_again() -> None:
    """Those that ended where its text ends or later, under their numbers, before anything new."""
    async with serving(resume_s=3600) as service:
        stream = service.open()
        for n, text in enumerate(("b c d f", "g h j k", "d f b c")):
            await stream.feed(spoken(text, pause_s=1.0))
            stream.flush(n)
        lost = [event async for event in to_flushed(aiter(stream), 2)]
        _, second, third = (event for event in lost if isinstance(event, TurnEnd))
        stream.detach()

        again = service.scheduler.resume(stream.id, stream.token, stable_s=second.end_s)

        assert again is stream
        again.end()
        events = await collect(again)
        assert events[:2] == [second, third]
        assert texts(events) == ["g h j k", "d f b c"]


async def test_a_new_session_continues_an_unknown_one() -> None:
    """Stream time goes on where the client says it was."""
    async with serving() as service:
        stream = service.open(session="s_mine", token="r_mine", offset_s=100.0, context="what was said")
        assert (stream.id, stream.token, stream.received_s) == ("s_mine", "r_mine", 100.0)
        events = await recite(stream, "b c d f")

    turn = next(event for event in events if isinstance(event, TurnEnd))
    assert 100.0 <= turn.start_s < turn.end_s <= 101.3
    assert isinstance(events[-1], Bye)
    assert events[-1].audio_s == pytest.approx(101.2, abs=0.06)


class NoPlaces:
    """The places of all processes of a daemon that is full."""

    async def take(
        self, session: str, token: str, caller: str, capacity: int, resumed: tuple[str, str] | None
    ) -> Place:
        """As `Places.take`."""
        raise OverloadError("no free place", retry_after_s=10.0)


async def test_a_session_that_all_processes_refuse_is_counted() -> None:
    """As one that this process refuses: an operator is told when places do not suffice."""
    async with serving() as service:
        service.scheduler._all_places = NoPlaces()
        with pytest.raises(OverloadError, match="no free place"):
            await service.scheduler.begin(SessionOptions(language="en"))
    assert service.count("streamer_sessions_refused_total") == 1


async def test_drain_ends_all() -> None:
    """Open sessions, attached or not, get their text and say Bye; new ones are refused."""
    async with serving(resume_s=3600) as service:
        streams = [service.open() for _ in range(3)]
        for i, stream in enumerate(streams):
            await stream.feed(spoken(story(8, seed=i), pause_s=0.3))
        streams[0].detach()

        await service.scheduler.drain(10)

        assert service.scheduler.statistics().n_sessions == 0
        assert not service.scheduler.is_ready()
        with pytest.raises(OverloadError, match="shutting down"):
            service.open()
        for i, stream in enumerate(streams):
            events = await collect(stream)
            assert texts(events) == [story(8, seed=i)]
            assert isinstance(events[-1], Bye)


async def test_drain_waits_no_longer_than_its_deadline() -> None:
    """A device that hangs does not keep the daemon from stopping."""
    async with serving() as service:
        service.engine.hold()
        stream = service.open()
        await stream.feed(spoken("b c d f"))
        await service.held()

        await service.scheduler.drain(0)

        assert service.scheduler.statistics().n_sessions == 1


async def test_ready_while_the_device_answers() -> None:
    """Not before the loops run, and not while a step hangs on any worker."""
    assert not ScriptedService().scheduler.is_ready()
    async with serving(n_workers=2, liveness_s=-1.0) as service:
        assert service.scheduler.is_ready()
        service.engine.hold()
        await service.open().feed(spoken("b c d f"))
        await service.held()
        assert service.workers[1].is_alive
        assert not service.scheduler.is_ready()


# --- several workers


async def test_a_fault_on_one_worker_ends_all() -> None:
    """What is not a failed step is a fault of the program: `run` raises it, and no worker goes on alone."""
    service = ScriptedService(n_workers=2)

    def fault(_: Sequence[StepRequest]) -> None:
        raise ZeroDivisionError

    service.engines[1].on_step = fault
    for _ in range(2):
        await service.open().feed(spoken("b c d"))

    with pytest.raises(ExceptionGroup) as raised:
        await service.scheduler.run()

    assert raised.group_contains(ZeroDivisionError)
    assert not service.scheduler.is_ready()
    assert not any(worker.is_alive for worker in service.workers)


async def test_drain_ends_the_sessions_of_every_worker() -> None:
    """It waits for the slowest of them."""
    async with serving(n_workers=2) as service:
        streams = [service.open() for _ in range(4)]
        for i, stream in enumerate(streams):
            await stream.feed(spoken(story(8, seed=i), pause_s=0.3))
        service.engine.hold()
        draining = asyncio.create_task(service.scheduler.drain(10))
        await service.held()
        assert not draining.done()
        service.engine.release()
        await draining

        assert [texts(await collect(stream)) for stream in streams] == [[story(8, seed=i)] for i in range(4)]
