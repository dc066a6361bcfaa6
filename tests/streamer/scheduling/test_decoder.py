"""Tests of streamer/scheduling/decoder.py, and of workers whose steps run beside them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest
import structlog.testing
import torch

from streamer.audio.pcm import SAMPLE_RATE
from streamer.errors import EngineError
from streamer.protocol.events import Ack, Event
from streamer.scheduling.decoder import LocalDecoder
from streamer.scheduling.device_thread import DeviceThread
from streamer.scheduling.load import LoadLimits, LoadMeter, StepCosts
from streamer.scheduling.session_handle import SessionHandle
from streamer.scheduling.worker import WorkerOptions
from streamer.step import Engine, StepRequest, StepResult
from tests.helpers.away_decoder import AwayDecoder
from tests.helpers.engines import request
from tests.helpers.scripted_engine import (
    INTERVAL_S,
    ScriptedEngine,
    ScriptedService,
    collect,
    serving,
    spoken,
    story,
    texts,
)


def meter() -> LoadMeter:
    """Of steps that cost a millisecond a row."""
    limits = LoadLimits(min_interval_s=INTERVAL_S, max_interval_s=INTERVAL_S)
    return LoadMeter(limits, max_batch=4, costs=StepCosts(0.0, 0.001))


async def test_a_bad_request_affects_no_other_of_its_step() -> None:
    """Each request is run alone then, and the log says so; the bad one is answered by its error, in its place."""
    engine = ScriptedEngine()
    engine.poisoned["b"] = 1
    decoder = LocalDecoder("0", engine, meter(), DeviceThread())

    with structlog.testing.capture_logs() as lines:
        stepped = await decoder.step([request(torch.full((5, 60), 0.1), session=name) for name in "abc"])
    decoder.close()

    assert [type(answer) for answer in stepped.answers] == [StepResult, EngineError, StepResult]
    assert stepped.n_rows == decoder.statistics().n_rows == 3
    assert stepped.seconds > 0
    assert [(line["event"], line["rows"]) for line in lines] == [("batch_failed", 3)]


# --- steps that run beside the worker


async def received_beyond(stream: SessionHandle, at_s: float) -> float:
    """How far the session says that it is, when it is beyond this stream time."""
    async for event in stream:
        if isinstance(event, Ack) and event.received_s > at_s:
            return event.received_s
    raise AssertionError(f"the session ended before {at_s} s")


async def say(stream: SessionHandle, text: str, *, realtime: bool) -> list[Event]:
    """Speak in chunks of 0.1 s, all at once or eight times as fast as speech; everything the session says."""
    sound = spoken(text, 0.9)
    reading = asyncio.create_task(collect(stream))
    for at in range(0, len(sound), SAMPLE_RATE // 10):
        await stream.feed(sound[at : at + SAMPLE_RATE // 10])
        if realtime:
            await asyncio.sleep(0.1 / 8)
    stream.end()
    return await reading


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("realtime", [True, False])
async def test_no_word_is_lost_or_doubled_where_answers_are_late_and_steps_are_lost(seed: int, realtime: bool) -> None:
    """Sessions take audio while their step is away; whatever comes late, each text is exact."""
    decoders = list[AwayDecoder]()

    def away(engine: Engine, load: LoadMeter) -> AwayDecoder:
        decoders.append(AwayDecoder(engine, load, seed))
        return decoders[0]

    said = [story(8 + 3 * i, seed=100 * seed + i) for i in range(5)]
    async with serving(max_batch=3, worker=WorkerOptions(tick_s=0.01), decoder=away) as service:
        events = await asyncio.gather(*(say(service.open(), text, realtime=realtime) for text in said))
        engine = service.engine

    assert [" ".join(texts(each)) for each in events] == said
    assert decoders[0].n_lost, "nothing was lost: the test shows nothing"
    assert decoders[0].most_under_way == 2
    assert max(map(len, engine.batches)) <= 3


def test_audio_is_taken_in_larger_pieces_where_there_are_more_sessions() -> None:
    """A lone speaker waits for no tick that he would notice; many share the cost of a round."""
    options = WorkerOptions(tick_s=0.02)

    assert [options.tick_beside_s(n) for n in (0, 1, 10, 32, 1000)] == pytest.approx([0.02, 0.02, 0.03, 0.096, 0.1])


async def test_audio_is_taken_while_a_step_is_away() -> None:
    """Up to a second of it for each session; what came faster than that waits for the step."""
    async with serving(decoder=lambda engine, load: AwayDecoder(engine, load, 0, late_s=0.0, lost=0.0)) as service:
        service.engine.hold()
        stream = service.open()
        await stream.feed(spoken("b c"))
        await service.held()
        await stream.feed(np.zeros(5 * SAMPLE_RATE, np.float32))
        taken_s = await received_beyond(stream, 1.0)
        service.engine.release()
        stream.end()
        events = await collect(stream)

    assert taken_s < 3.0
    assert texts(events) == ["b c"]


async def test_a_session_that_ends_while_its_step_is_away_is_forgotten_after_it() -> None:
    """Otherwise the engine would cache the window of a session that never comes back."""
    async with serving(decoder=lambda engine, load: AwayDecoder(engine, load, 0, late_s=0.0, lost=0.0)) as service:
        service.engine.hold()
        stream = service.open()
        await stream.feed(spoken("b c d"))
        await service.held()
        stream.give_way(EngineError("the place is needed"))
        while service.worker.streams:  # noqa: ASYNC110 — until the next tick; no event tells it
            await asyncio.sleep(0)
        assert service.engine.forgotten == []
        service.engine.release()
        assert await asyncio.to_thread(service.engine.forgot.wait, 60)

    assert service.engine.forgotten == [stream.id]


async def test_a_fault_of_a_step_beside_the_worker_ends_it() -> None:
    """As it does where the worker waits for its steps."""
    service = ScriptedService(decoder=lambda engine, load: AwayDecoder(engine, load, 0, lost=0.0))

    def fault(_: Sequence[StepRequest]) -> None:
        raise ZeroDivisionError

    service.engine.on_step = fault
    await service.open().feed(spoken("b c d"))

    with pytest.raises(ZeroDivisionError):
        await service.worker.run()
    assert not service.worker.is_alive
