"""Tests of streamer.scheduler and the streams it hands out, with an engine that is instant and never wrong."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from streamer.errors import EngineError, OverloadError
from streamer.events import Ack, Bye, Caption, Event, Flushed, Speech, TurnEnd
from streamer.step import StepRequest
from streamer.stream import Stream
from streamer.transcribe import running
from tests.helpers.scripted_engine import INTERVAL_S, Service, spoken, story


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[Service]:
    """A running scheduler; a test that hangs, or whose scheduler fails, ends."""
    service = Service(**options)
    async with asyncio.timeout(20), running(service.scheduler):
        await asyncio.sleep(0)  # the loop has begun
        try:
            yield service
        finally:
            service.engine.release()


async def collect(stream: Stream) -> list[Event]:
    """Everything until Bye."""
    return [event async for event in stream]


async def recite(stream: Stream, text: str, pause_s: float = 0.0) -> list[Event]:
    """Say words to a session, end it, and take what it says."""
    await stream.feed(spoken(text, pause_s))
    stream.end()
    return await collect(stream)


def texts(events: Sequence[Event]) -> list[str]:
    """Of the turns."""
    return [event.text for event in events if isinstance(event, TurnEnd)]


async def until(stream: Stream, kind: type[Event]) -> Event:
    """The next event of a kind."""
    async for event in stream:
        if isinstance(event, kind):
            return event
    raise AssertionError(f"no {kind.__name__}")


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
        for _ in range(1000):
            await asyncio.sleep(0)
        assert not sending.done()
        assert 1.0 <= stream.unheard_s <= 1.1
        assert stream.received_s < 3.0

        service.engine.release()
        assert texts(await collect(stream)) == [text]


async def test_a_long_message_is_heard_in_many_steps() -> None:
    """Ten seconds in one message meet about as many steps as ten seconds of speech."""
    text = story(33)
    async with serving() as service:
        events = await recite(service.open(), text)

    assert texts(events) == [text]
    assert len(service.engine.batches) >= 20


async def test_silence_costs_no_step() -> None:
    """Where nobody speaks the engine is left alone, and the session says how far it is."""
    async with serving() as service:
        stream = service.open()
        await stream.feed(np.zeros(160_000, np.float32))
        stream.end()
        events = await collect(stream)

    assert service.engine.batches == []
    assert {type(event) for event in events} == {Ack, Bye}


async def test_flush_and_update_take_effect_where_they_were_said() -> None:
    """Commands wait for the sound before them, and for no more."""
    async with serving() as service:
        stream = service.open()
        await stream.feed(spoken("b c d f"))
        stream.flush(7)
        stream.update(language="en", endpoint_ms=2000)
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


# --- who is next


async def test_finals_go_before_partials() -> None:
    """With one place in a step, no caption is renewed while the end of another session's turn waits."""
    met = []
    async with serving(max_batch=1) as service:
        streams = [service.open() for _ in range(5)]

        def look(batch: Sequence[StepRequest]) -> None:
            waiting = [s for s in streams if s.id != batch[0].session and s.session.is_due(INTERVAL_S)]
            met.append((batch[0].final, any(s.session.wants_final for s in waiting), len(waiting)))

        service.engine.on_step = look
        said = await asyncio.gather(
            *(recite(stream, story(6 + 3 * i, seed=i), pause_s=1.0) for i, stream in enumerate(streams))
        )

    assert [texts(events) for events in said] == [[story(6 + 3 * i, seed=i)] for i in range(5)]
    assert not any(waits for final, waits, _ in met if not final)
    assert any(final and n for final, _, n in met), "no final had to be preferred: the test shows nothing"


async def test_sessions_share_steps() -> None:
    """Who speaks at the same time is decoded in the same step, each once, at most `max_batch`."""
    async with serving(max_batch=3) as service:
        streams = [service.open() for _ in range(4)]
        said = await asyncio.gather(*(recite(stream, story(10, seed=i)) for i, stream in enumerate(streams)))

    assert [texts(events) for events in said] == [[story(10, seed=i)] for i in range(4)]
    sessions = [[asked.session for asked in batch] for batch in service.engine.batches]
    assert all(len(set(batch)) == len(batch) for batch in sessions)
    assert max(map(len, sessions)) == 3


async def test_one_step_in_flight() -> None:
    """While a step runs, sound goes on coming in; the session is asked about it afterwards."""
    async with serving() as service:
        service.engine.hold()
        stream = service.open()
        await stream.feed(spoken("b c d"))
        await service.held()
        await stream.feed(spoken("f g"))
        stream.end()
        n_steps = len(service.engine.batches)
        service.engine.release()
        events = await collect(stream)

    assert n_steps == 1
    assert texts(events) == ["b c d f g"]


# --- what fails


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


async def test_a_fault_ends_the_service() -> None:
    """What is not a failed step is a fault of the program: `run` raises it."""
    service = Service()

    def fault(_: Sequence[StepRequest]) -> None:
        raise ZeroDivisionError

    service.engine.on_step = fault
    stream = service.open()
    await stream.feed(spoken("b c d"))

    with pytest.raises(ZeroDivisionError):
        await service.scheduler.run()
    assert not service.scheduler.is_ready()


async def test_impossible_requests_end_their_session_alone() -> None:
    """A request that the engine refuses (ValueError) is that session's failure, not the daemon's."""
    async with serving() as service:
        bad, good = service.open(), service.open()

        def refuse(batch: Sequence[StepRequest]) -> None:
            if any(asked.session == bad.id for asked in batch):
                raise ValueError("prefix of 500 tokens leaves -54 of 448 for new ones")

        service.engine.on_step = refuse
        await bad.feed(spoken("b c d f"))
        bad.end()
        events = await recite(good, story(10))

        assert texts(events) == [story(10)]
        with pytest.raises(EngineError):
            await collect(bad)


# --- sessions come and go


async def test_no_more_than_the_capacity() -> None:
    """One more is refused with the seconds after which to try again; a place that is left is given away."""
    async with serving(max_sessions=2) as service:
        first, _ = service.open(), service.open()
        with pytest.raises(OverloadError, match="2 of 2 sessions open") as refused:
            service.open()
        assert refused.value.retry_after_s > 0
        assert service.count("streamer_sessions") == 2
        assert service.count("streamer_sessions_refused_total") == 1

        first.end()
        await collect(first)
        service.open()


async def test_a_lost_connection_is_resumed() -> None:
    """The same session goes on, for who shows its token and while nobody is attached; the text has no seam."""
    text = story(20)
    sound = spoken(text, pause_s=1.0)
    async with serving(resume_s=3600) as service:
        scheduler = service.scheduler
        stream = service.open()
        await stream.feed(sound[:40_000])
        assert scheduler.resume(stream.id, stream.token) is None, "still attached"
        stream.detach()
        assert scheduler.resume(stream.id, "r_wrong") is None
        assert scheduler.resume("s_unknown", stream.token) is None

        again = scheduler.resume(stream.id, stream.token)

        assert again is stream
        assert scheduler.resume(stream.id, stream.token) is None, "attached again"
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


async def test_drain_ends_all() -> None:
    """Open sessions, attached or not, get their text and say Bye; new ones are refused."""
    async with serving(resume_s=3600) as service:
        streams = [service.open() for _ in range(3)]
        for i, stream in enumerate(streams):
            await stream.feed(spoken(story(8, seed=i)))
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


async def test_ready_while_the_device_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not before the loop runs, and not while a step hangs."""
    assert not Service().scheduler.is_ready()
    async with serving() as service:
        assert service.scheduler.is_ready()
        service.engine.hold()
        await service.open().feed(spoken("b c d f"))
        await service.held()
        monkeypatch.setattr("streamer.scheduler.LIVENESS_S", -1.0)
        assert not service.scheduler.is_ready()


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
