"""Tests of streamer.scheduling.worker: who is stepped when, and what fails, with an engine that is never wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from torch import Tensor

from streamer.audio.frontend import Features, FeatureState
from streamer.audio.pcm import SAMPLE_RATE
from streamer.errors import DeviceError, DeviceLostError
from streamer.protocol.events import Ack, Bye, Caption, Event, Flushed, TurnEnd
from streamer.scheduling import worker
from streamer.scheduling.decoder import LocalDecoder
from streamer.scheduling.device_thread import DeviceThread
from streamer.scheduling.load import LoadLimits, LoadMeter, StepCosts
from streamer.scheduling.session_handle import SessionHandle
from streamer.scheduling.worker import CATCH_UP, LATE_S, WorkerOptions
from streamer.session.audio_window import MAX_AUDIO_S
from streamer.step import Engine, StepRequest
from tests.helpers.scripted_engine import (
    INTERVAL_S,
    LoudnessFrontEnd,
    ScriptedService,
    collect,
    recite,
    serving,
    spoken,
    story,
    texts,
)
from tests.helpers.waiting import until_idle


async def until(stream: SessionHandle, kind: type[Event]) -> Event:
    """The next event of a kind."""
    async for event in stream:
        if isinstance(event, kind):
            return event
    raise AssertionError(f"no {kind.__name__}")


# --- one round


async def test_a_long_message_is_heard_in_many_steps() -> None:
    """Ten seconds in one message meet as many steps as ten seconds of speech on a busy machine."""
    text = story(33)
    async with serving() as service:
        events = await recite(service.open(), text)

    assert texts(events) == [text]
    assert len(service.engine.batches) >= 10 / WorkerOptions().min_audio_s


def test_as_much_is_heard_as_time_has_passed() -> None:
    """And a little more, so that who is late catches up; never so much that one step could not see it."""
    options = WorkerOptions(min_audio_s=1.0)

    assert options.most_audio_s(0.0) == 1.0
    assert options.most_audio_s(2.0) == 2.0 * CATCH_UP > 2.0
    assert options.most_audio_s(60.0) == MAX_AUDIO_S


async def test_silence_costs_no_step() -> None:
    """Where nobody speaks the engine is left alone, and the session says how far it is."""
    async with serving() as service:
        stream = service.open()
        await stream.feed(np.zeros(160_000, np.float32))
        stream.end()
        events = await collect(stream)

    assert service.engine.batches == []
    assert {type(event) for event in events} == {Ack, Bye}


async def test_the_engine_forgets_a_session_that_is_over() -> None:
    """What it remembers of a session goes with it."""
    async with serving() as service:
        stream = service.open()
        await stream.feed(spoken("b c"))
        stream.end()
        await collect(stream)
        assert await asyncio.to_thread(service.engine.forgot.wait, 60)

    assert service.engine.forgotten == [stream.id]


async def test_commands_are_obeyed_between_steps() -> None:
    """What is said while a step runs is heard before the next one, so its result is not waited for twice."""
    async with serving() as service:
        service.engine.hold()
        stream = service.open()
        await stream.feed(spoken("b c d c b d"))
        await service.held()
        stream.flush(1)
        service.engine.release()
        turn = await until(stream, TurnEnd)

    assert isinstance(turn, TurnEnd)
    assert (turn.text, turn.reason) == ("b c d c b d", "flush")
    assert [asked.final for asked in service.engine.batches[-1]] == [True]


async def test_a_full_session_waits() -> None:
    """Sound that a late session has no room for stays in its stream; it is heard when steps have made room."""
    said = [story(120, seed=i) for i in range(40)]
    waited = 0
    async with serving(max_sessions=40, max_batch=1, worker=WorkerOptions(tick_s=0.0, min_audio_s=0.9)) as service:
        streams = [service.open() for _ in said]

        def look(_: Sequence[StepRequest]) -> None:
            nonlocal waited
            waited += any(stream.session.is_full and stream.backlog_s > 0 for stream in streams)

        service.engine.on_step = look
        events = await asyncio.gather(*(recite(stream, text) for stream, text in zip(streams, said, strict=True)))

    assert waited, "no session was full: the test shows nothing"
    assert [" ".join(texts(each)) for each in events] == said


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


async def test_who_has_waited_longest_goes_first() -> None:
    """With one place in a step, it goes to the session whose first word that is not stable is oldest."""
    met = []
    async with serving(max_batch=1, worker=WorkerOptions(tick_s=0.0, min_audio_s=0.3)) as service:
        streams = {stream.id: stream for stream in (service.open() for _ in range(5))}

        def look(batch: Sequence[StepRequest]) -> None:
            waiting = [s.session.waiting_s for s in streams.values() if s.session.is_due(INTERVAL_S)]
            if not batch[0].final and waiting:
                met.append((streams[batch[0].session].session.waiting_s, max(waiting)))

        service.engine.on_step = look
        await asyncio.gather(*(recite(stream, story(12)) for stream in streams.values()))

    assert all(chosen >= longest for chosen, longest in met)
    assert any(chosen > longest for chosen, longest in met), "all waited alike: the test shows nothing"


async def test_a_word_that_waits_too_long_is_heard_sooner() -> None:
    """Under load, where one step alone has heard it: the next one comes after half an interval."""

    def busy(engine: Engine, _: LoadMeter) -> LocalDecoder:
        limits = LoadLimits(min_interval_s=0.3, max_interval_s=1.0)
        return LocalDecoder("0", engine, LoadMeter(limits, max_batch=1, costs=StepCosts(0.0, 1.0)), DeviceThread())

    sound, first, second = spoken(story(12)), int(1.3 * SAMPLE_RATE), int(1.9 * SAMPLE_RATE)
    async with serving(decoder=busy) as service:
        stream = service.open()
        await stream.feed(sound[:first])
        await until(stream, Caption)
        assert stream.session.waiting_s < LATE_S
        service.engine.hold()
        await stream.feed(sound[first:second])
        await service.held()

        assert service.worker.interval_s == 1.0
        assert stream.session.waiting_s >= LATE_S


async def test_sessions_share_steps() -> None:
    """Who speaks at the same time is decoded in the same step, each once, at most `max_batch`."""
    async with serving(max_batch=3) as service:
        streams = [service.open() for _ in range(4)]
        said = await asyncio.gather(*(recite(stream, story(10, seed=i)) for i, stream in enumerate(streams)))

    assert [texts(events) for events in said] == [[story(10, seed=i)] for i in range(4)]
    sessions = [[asked.session for asked in batch] for batch in service.engine.batches]
    assert all(len(set(batch)) == len(batch) for batch in sessions)
    assert max(map(len, sessions)) == 3


async def test_who_is_soon_due_joins_a_step() -> None:
    """Half an interval of new sound is no step of its own, but goes along with one."""
    async with serving() as service:
        service.engine.hold()
        early, due = service.open(), service.open()
        await early.feed(spoken("b")[: int(0.2 * SAMPLE_RATE)])
        await due.feed(spoken("c d"))
        await service.held()

    assert [asked.session for asked in service.engine.batches[0]] == [due.id, early.id]


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


async def test_a_fault_ends_the_worker() -> None:
    """An error of what all sessions share, and no failed step, is a fault of the program: `run` raises it."""
    service = ScriptedService()

    def fault(_: Sequence[StepRequest]) -> None:
        raise ZeroDivisionError

    service.engine.on_step = fault
    await service.open().feed(spoken("b c d"))

    with pytest.raises(ZeroDivisionError):
        await service.worker.run()
    assert not service.worker.is_alive


class FailingFrontEnd(LoudnessFrontEnd):
    """Its device fails so many times."""

    def __init__(self, n_failures: int) -> None:
        self.n_failures = n_failures

    def extract(self, states: Sequence[FeatureState], samples: Sequence[Tensor]) -> list[Features]:
        """As `FrontEnd.extract`."""
        self.n_failures -= 1
        if self.n_failures >= 0:
            raise DeviceError("the device failed")
        return super().extract(states, samples)


async def test_audio_features_that_fail_are_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a step, nobody hears of a device that recovers."""
    monkeypatch.setattr(worker, "LISTENING_PAUSES_S", (0.0, 0.0, 0.0))
    async with serving(front_end=FailingFrontEnd(3)) as service:
        assert texts(await recite(service.open(), story(10))) == [story(10)]


async def test_a_device_that_does_not_recover_ends_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where audio features fail, as where steps do: a new process gets a new context on the device."""
    monkeypatch.setattr(worker, "LISTENING_PAUSES_S", (0.0, 0.0, 0.0))
    service = ScriptedService(front_end=FailingFrontEnd(4))
    await service.open().feed(spoken("b c d"))

    with pytest.raises(DeviceLostError, match="does not recover: the device failed"):
        await service.worker.run()


# --- whether it is alive


async def test_not_alive_while_a_step_takes_too_long() -> None:
    """The device hangs: an idle worker is alive, one that waits for its device longer than allowed is not."""
    async with serving(liveness_s=-1.0) as service:
        assert service.worker.is_alive
        service.engine.hold()
        await service.open().feed(spoken("b c d f"))
        await service.held()

        assert not service.worker.is_alive


async def test_alive_while_the_device_answers() -> None:
    """Not before the loop runs and not after its end; a step may take some time."""
    async with serving() as service:
        assert service.worker.is_alive
        service.engine.hold()
        stream = service.open()
        await stream.feed(spoken("b c d f"))
        await service.held()
        assert service.worker.is_alive
        service.engine.release()
        stream.end()
        await collect(stream)
        assert service.worker.is_alive

    assert not service.worker.is_alive
    assert not ScriptedService().worker.is_alive


async def test_what_a_worker_knows_of_itself() -> None:
    """Sessions that speak, that wait, and the sound that no step has seen."""
    async with serving() as service:
        assert (service.worker.n_speaking, service.worker.n_due, service.worker.worst_lag_s) == (0, 0, 0.0)
        service.engine.hold()
        stream, other = service.open(), service.open()
        await stream.feed(spoken("b c d f"))
        await service.held()
        await other.feed(spoken("g h j k l"))

        # 0.3 s are in the step that waits, the rest is unheard; the other session is not heard yet
        assert service.worker.n_speaking == 1
        assert service.worker.worst_lag_s == pytest.approx(1.5)
        assert service.worker.interval_s == INTERVAL_S
        assert service.worker.n_steps == 0

        service.engine.release()
        stream.end()
        await collect(stream)
        assert service.worker.n_steps == len(service.engine.batches)


async def test_a_recording_is_never_late() -> None:
    """It comes as fast as it is taken: neither its delays nor what waits of it tell how the daemon keeps up."""
    async with serving() as service:
        service.engine.hold()
        stream = service.open(revises_all=True)
        await stream.feed(spoken("b c d f"))
        await service.held()
        assert service.worker.worst_lag_s == 0.0
        service.engine.release()
        stream.end()
        await collect(stream)
        assert service.count("streamer_commit_latency_seconds_count") == 0

        await recite(service.open(), "b c d f")
        assert service.count("streamer_commit_latency_seconds_count") == 4


# --- clients that flush all the time


async def test_turns_of_one_session_end_a_step_interval_of_audio_or_time_apart() -> None:
    """Flushes that come faster wait and are answered together; the last turn, at the end, waits for nothing."""
    ended: list[tuple[float, float]] = []
    sound = spoken(story(24))
    chunks = np.split(sound, range(SAMPLE_RATE // 10, len(sound), SAMPLE_RATE // 10))

    async with serving() as service:
        stream = service.open()

        def look(batch: Sequence[StepRequest]) -> None:
            if batch[0].final:
                ended.append((time.monotonic(), stream.session.received_s))

        service.engine.on_step = look
        for n, chunk in enumerate(chunks):
            await stream.feed(chunk)
            stream.flush(n)
            await until_idle()
        stream.end()
        events = await collect(stream)

    assert [event.id for event in events if isinstance(event, Flushed)] == list(range(len(chunks)))
    apart = [(after[0] - before[0], after[1] - before[1]) for before, after in pairwise(ended[:-1])]
    assert apart, "no two turns ended: the test shows nothing"
    assert all(time_s >= INTERVAL_S or audio_s >= INTERVAL_S - 0.01 for time_s, audio_s in apart)


async def test_flushes_alone_do_not_occupy_the_device() -> None:
    """Nothing was said that they could make final: each is answered, and no audio is computed."""
    async with serving() as service:
        stream = service.open()
        for n in range(100):
            stream.flush(n)
        events = [await until(stream, Flushed) for _ in range(100)]

    assert [event.id for event in events if isinstance(event, Flushed)] == list(range(100))
    assert service.count("streamer_listen_latency_ms_count") == 0
    assert service.engine.batches == []
