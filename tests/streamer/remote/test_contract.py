"""
The contract of `Decoder`, of every implementation: in this process, behind the messages of an engine process, and on a
cluster. `test_ray.py` has it on Ray itself.

Whatever meets the steps of a session, its text is exact: the language of the scripted engine shows every word that is
lost, doubled or out of place.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from streamer.audio.pcm import SAMPLE_RATE
from streamer.errors import DeviceLostError, EngineError, OverloadError
from streamer.protocol.events import Event
from streamer.remote import wire
from streamer.scheduling.calibration import Clocks
from streamer.scheduling.decoder import Decoder, LocalDecoder
from streamer.scheduling.device_thread import DeviceThread
from streamer.scheduling.session_handle import SessionHandle
from streamer.scheduling.worker import WorkerOptions
from streamer.step import StepResult
from tests.helpers.engines import request
from tests.helpers.hosted_engines import DEADLY, Faults, MemoryPool, asked, meter, rows_of
from tests.helpers.scripted_engine import (
    POISONED,
    ScriptedEngine,
    ScriptedService,
    collect,
    running,
    spoken,
    story,
    texts,
)
from tests.helpers.tcp_engines import TcpEngine, pool_of
from tests.helpers.waiting import until

WINDOW = torch.full((5, 60), 0.1)


@dataclass(frozen=True)
class Under:
    """A decoder under test, and its engines."""

    decoder: Decoder
    engines: Sequence[ScriptedEngine]


@contextlib.asynccontextmanager
async def here() -> AsyncIterator[Under]:
    """In this process."""
    engine = ScriptedEngine()
    decoder = LocalDecoder("0", engine, meter(), DeviceThread())
    yield Under(decoder, [engine])
    decoder.close()


@contextlib.asynccontextmanager
async def hosted() -> AsyncIterator[Under]:
    """Behind the messages of two engine processes, in memory."""
    pool = MemoryPool(2)
    decoder = pool.decoder()
    task = asyncio.create_task(pool.run())
    yield Under(decoder, [place.engine for place in pool.places])
    task.cancel()
    decoder.close()


@contextlib.asynccontextmanager
async def on_cluster() -> AsyncIterator[Under]:
    """On two engines over TCP."""
    engines = [TcpEngine(index) for index in range(2)]
    async with pool_of(engines) as (pool, _):
        decoder = pool.decoder(patience_s=5.0)
        task = asyncio.create_task(pool.run())
        await pool.until_alive(0, 1)
        yield Under(decoder, [each.engine for each in engines])
        task.cancel()
        decoder.close()


@pytest.fixture(params=[here, hosted, on_cluster], ids=["here", "processes", "cluster"])
async def under(request: pytest.FixtureRequest) -> AsyncIterator[Under]:
    """Each implementation."""
    async with request.param() as found:
        yield found


# --- one call


async def test_answers_are_in_the_order_of_the_requests(under: Under) -> None:
    """And are those of the engine, with what the step has cost."""
    requests = [request(torch.full((5, 60), 0.1 * n), f"s{n}") for n in (3, 1, 2)]
    before = under.decoder.statistics().n_rows

    stepped = await under.decoder.step(requests)

    assert list(stepped.answers) == ScriptedEngine().step(requests)
    assert stepped.n_rows == 3
    assert stepped.seconds > 0
    assert under.decoder.statistics().n_rows == before + 3
    assert under.decoder.is_alive
    assert under.decoder.is_ready
    assert under.decoder.has_place
    assert under.decoder.capacity == under.decoder.load.capacity > 0


async def test_a_poisoned_row_affects_no_other(under: Under) -> None:
    """It is answered by an error of its own."""
    stepped = await under.decoder.step([request(WINDOW, name) for name in ("a", POISONED, "c")])

    assert [type(answer) for answer in stepped.answers] == [StepResult, EngineError, StepResult]
    assert str(stepped.answers[1]) == "poisoned row"


async def test_sessions_that_are_over_are_forgotten(under: Under) -> None:
    """By the engine that has cached their windows."""
    await under.decoder.step([request(WINDOW, "a")])
    await under.decoder.forget(["a"])
    await under.decoder.step([request(WINDOW, "b")])

    assert under.engines[0].forgotten[:1] == ["a"]


async def test_a_step_is_measured_where_it_is_run(under: Under) -> None:
    """For the calibration while nobody speaks; a failure is an error of the step."""
    timing = await under.decoder.time_step([request(WINDOW, name) for name in "ab"], Clocks())
    assert timing.wall_s > 0

    with pytest.raises(EngineError, match="poisoned"):
        await under.decoder.time_step([request(WINDOW, name) for name in ("a", POISONED)], Clocks())


# --- whole sessions


async def say(stream: SessionHandle, turns: Sequence[str]) -> list[Event]:
    """Speak in chunks of 0.1 s, eight times as fast as speech; everything the session says."""
    sound = np.concatenate([spoken(text, 0.9) for text in turns])
    reading = asyncio.create_task(collect(stream))
    for at in range(0, len(sound), SAMPLE_RATE // 10):
        await stream.feed(sound[at : at + SAMPLE_RATE // 10])
        await asyncio.sleep(0.1 / 8)
    stream.end()
    return await reading


FAULTS = {
    "none": Faults(),
    "late": Faults(late_s=0.05),
    "lost": Faults(lost=0.2),
    "doubled": Faults(doubled=0.5, late_s=0.02),
    "not known": Faults(not_known=0.5),
    "poisoned": Faults(poisoned=0.1),
    "away": Faults(away=0.2),
    "all": Faults(late_s=0.03, lost=0.05, doubled=0.2, not_known=0.1, poisoned=0.05, away=0.05),
}


async def recited(service: ScriptedService, seed: int, n: int = 5) -> tuple[list[str], list[str]]:
    """What so many sessions said, and what was said to them."""
    said = [story(8 + 3 * (i % 5), seed=100 * seed + i) for i in range(n)]
    async with asyncio.timeout(120), running(service.scheduler):
        await until(service.scheduler.is_ready)
        events = await asyncio.gather(*(say(service.open(), [text]) for text in said))
    return [" ".join(texts(each)) for each in events], said


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", FAULTS)
async def test_text_is_exact_whatever_meets_the_calls(kind: str, seed: int) -> None:
    """Five sessions on two engines; no word is lost, none comes twice, and no session is told of it."""
    pool = MemoryPool(2, FAULTS[kind], seed)
    homes = iter(range(2))
    service = ScriptedService(
        n_workers=2,
        worker=WorkerOptions(tick_s=0.01),
        decoder=lambda _, __: pool.decoder(next(homes)),
        supervision=pool.run,
    )

    found, said = await recited(service, seed)

    assert found == said
    if kind != "none":
        assert sum(place.n_faults for place in pool.places) or kind == "late"
    assert bool(pool.count("streamer_engine_resent_total")) == (kind in ("not known", "all"))


@pytest.mark.parametrize("kind", FAULTS)
async def test_text_is_exact_whatever_meets_the_calls_on_a_cluster(kind: str) -> None:
    """The same over TCP."""
    engines = [TcpEngine(index, FAULTS[kind], 10 + index) for index in range(2)]
    async with pool_of(engines) as (pool, _):
        homes = iter(range(2))
        service = ScriptedService(
            max_sessions=20,
            n_workers=2,
            worker=WorkerOptions(tick_s=0.01),
            decoder=lambda _, __: pool.decoder(next(homes)),
            supervision=pool.run,
        )

        found, said = await recited(service, 3, n=13)

    assert found == said
    if kind != "none":
        assert sum(engine.n_faults for engine in engines) or kind == "late"


async def test_text_is_exact_while_every_engine_is_replaced() -> None:
    """One after the other, by another process at another address: a rolling change."""
    engines = [TcpEngine(index) for index in range(2)]
    async with pool_of(engines) as (pool, keeper), contextlib.AsyncExitStack() as stack:
        homes = iter(range(2))
        service = ScriptedService(
            max_sessions=20,
            n_workers=2,
            worker=WorkerOptions(tick_s=0.01),
            decoder=lambda _, __: pool.decoder(next(homes), patience_s=1.0),
            supervision=pool.run,
        )

        async def replace_all() -> None:
            for index, old in enumerate(engines):
                await asyncio.sleep(0.3)
                keeper.tell(await stack.enter_async_context(TcpEngine(index).open()), n=2)
                await until(lambda place=pool.places[index]: place.n_restarts and not place.is_lost)
                old.lose()

        replacing = asyncio.create_task(replace_all())
        found, said = await recited(service, 4, n=13)
        await replacing

    assert found == said
    assert [place.n_restarts for place in pool.places] == [1, 1]


@pytest.mark.parametrize("seed", range(3))
async def test_text_is_exact_in_this_process(seed: int) -> None:
    """With a row that fails now and then."""
    service = ScriptedService(n_workers=2, worker=WorkerOptions(tick_s=0.01))
    for engine in service.engines:
        engine.on_step = lambda batch, engine=engine: poison(engine, [each.session for each in batch])

    found, said = await recited(service, seed)

    assert found == said


def poison(engine: ScriptedEngine, sessions: Sequence[str]) -> None:
    """Make one row of every seventh step fail."""
    if len(engine.batches) % 7 == 0:
        engine.poisoned[sessions[0]] = 1


@pytest.mark.parametrize(("n_turns", "n_words"), [(1, 60), (10, 5)])
@pytest.mark.parametrize("seed", range(3))
async def test_no_word_is_lost_while_no_engine_answers(seed: int, n_turns: int, n_words: int) -> None:
    """For 12 s of sound, in one turn or in many: all of it is decoded once an engine is back."""
    pool = MemoryPool(2, seed=seed)
    homes = iter(range(2))
    service = ScriptedService(
        n_workers=2,
        worker=WorkerOptions(tick_s=0.01),
        decoder=lambda _, __: pool.decoder(next(homes)),
        supervision=pool.run,
    )
    said = [[story(n_words, seed=100 * seed + 10 * i + j) for j in range(n_turns)] for i in range(5)]
    async with asyncio.timeout(120), running(service.scheduler):
        speaking = [asyncio.create_task(say(service.open(), turns)) for turns in said]
        await asyncio.sleep(3.0 / 8)
        for place in pool.places:
            place.is_lost = True
            place.link.lose()
        await asyncio.sleep(12.0 / 8)
        for place in pool.places:
            place.connect()
            place.is_lost = False
        events = await asyncio.gather(*speaking)

    assert [" ".join(texts(each)) for each in events] == [" ".join(each) for each in said]


# --- where steps go


def calls(pool: MemoryPool, index: int) -> list[wire.FromGateway]:
    """Calls that an engine was sent."""
    return [message for message in pool.places[index].sent if rows_of(message)]


@contextlib.asynccontextmanager
async def running_pool(n: int = 2) -> AsyncIterator[MemoryPool]:
    """Engines in memory, without faults."""
    pool = MemoryPool(n)
    task = asyncio.create_task(pool.run())
    yield pool
    task.cancel()


async def test_audio_that_was_sent_is_not_sent_again() -> None:
    """A growing window crosses once, and not at all where no audio is new; another window crosses whole."""
    async with running_pool() as pool:
        decoder = pool.decoder()
        windows = [(0, 60), (0, 90), (0, 90), (0, 80), (0, 120), (50, 70)]
        for start, n_frames in windows:
            await decoder.step([request(torch.full((5, n_frames), 0.1), "a", window_start=start)])
        decoder.close()

        assert pool.places[0].engine.batches[-2][0].log_mel.shape == (5, 120)

    assert [rows_of(call)[0].first for call in calls(pool, 0)] == [0, 60, 90, 80, 80, 0]
    assert pool.count("streamer_engine_sent_bytes_total") > 0
    assert pool.count("streamer_engine_resent_total") == 0


async def test_a_window_that_is_not_known_is_sent_whole_once() -> None:
    """Only the rows that miss it, and the miss is counted."""
    async with running_pool() as pool:
        decoder = pool.decoder()
        for n_frames in (60, 90):
            batch = [request(torch.full((5, n_frames), 0.1), name, window_start=0) for name in "ab"]
            stepped = await decoder.step(batch)
            pool.places[0].host.windows.forget(["a"])
        decoder.close()

    assert all(isinstance(answer, StepResult) for answer in stepped.answers)
    sent = [[(row.request.session, row.first) for row in rows_of(call)] for call in calls(pool, 0)]
    assert sent == [[("a", 0), ("b", 0)], [("a", 60), ("b", 60)], [("a", 0)]]
    assert pool.count("streamer_engine_resent_total") == 1


async def test_a_measurement_for_which_no_engine_has_time_is_no_failure() -> None:
    """Of whoever asks for it: it is tried again later."""
    decoder = MemoryPool(1, Faults(lost=1.0)).decoder(patience_s=0.01)
    with pytest.raises(OverloadError, match="has not answered"):
        await decoder.time_step([request(WINDOW, "a")], Clocks())
    decoder.close()


async def test_an_engine_with_other_weights_is_not_asked_again() -> None:
    """The steps go to the other engine; this one is replaced."""
    async with running_pool() as pool:
        pool.places[0].host._fingerprint = "other"
        decoder = pool.decoder()
        for _ in range(3):
            stepped = await decoder.step([request(WINDOW, "a")])
            assert isinstance(stepped.answers[0], StepResult)
        decoder.close()

    assert (len(calls(pool, 0)), len(calls(pool, 1))) == (1, 3)
    assert pool.places[0].link.is_hanging
    assert pool.count("streamer_engine_moves_total") == 1


async def test_a_lost_engine_costs_one_move_there_and_one_back() -> None:
    """Its worker's steps go to the other engine, which gets whole windows, until it is back."""
    async with running_pool() as pool:
        decoder = pool.decoder()
        pool.places[0].is_lost = True
        pool.places[0].link.lose()
        assert decoder.capacity == 0
        for n_frames in (60, 90):
            await decoder.step([request(torch.full((5, n_frames), 0.1), "a", window_start=0)])
        pool.places[0].connect()
        pool.places[0].is_lost = False
        await decoder.step([request(torch.full((5, 120), 0.1), "a", window_start=0)])
        decoder.close()

    assert [rows_of(call)[0].first for call in calls(pool, 1)] == [0, 60]
    assert [rows_of(call)[0].first for call in calls(pool, 0)] == [0]
    assert pool.count("streamer_engine_moves_total") == 2


async def test_a_request_that_ends_every_engine_fails_alone() -> None:
    """After three processes, the last of them with nothing else to do; later steps of its session are not sent."""
    async with running_pool() as pool:
        decoder = pool.decoder()
        stepped = await decoder.step([request(WINDOW, name) for name in ("a", DEADLY, "b")])
        n_sent = sum(len(calls(pool, i)) for i in range(2))
        again = await decoder.step([request(WINDOW, DEADLY)])
        assert sum(len(calls(pool, i)) for i in range(2)) == n_sent
        await decoder.forget([DEADLY])
        decoder.close()

    assert [type(answer) for answer in stepped.answers] == [StepResult, EngineError, StepResult]
    assert isinstance(again.answers[0], EngineError)
    deadly = [call for i in range(2) for call in calls(pool, i) if DEADLY in [each.session for each in asked(call)]]
    assert sorted(len(rows_of(call)) for call in deadly) == [1, 3, 3]


async def test_an_engine_that_is_too_slow_is_left_until_it_answers() -> None:
    """What it says then to the call that was given up is dropped, and later steps come home."""
    async with running_pool() as pool:
        slow, decoder = pool.places[0], pool.decoder()
        slow.engine.hold()
        stepped = await decoder.step([request(WINDOW, "a")])
        assert isinstance(stepped.answers[0], StepResult)
        await decoder.step([request(WINDOW, "b")])
        assert [len(calls(pool, i)) for i in range(2)] == [1, 2]

        slow.engine.release()
        while not slow.link.is_steady:
            await pool.changed()
        await decoder.step([request(WINDOW, "c")])
        decoder.close()

    assert [asked(call)[0].session for call in calls(pool, 0)] == ["a", "c"]


async def test_steps_wait_where_no_engine_answers() -> None:
    """Nothing is lost: they are answered when one is back; the service says that it is not ready."""
    async with running_pool(1) as pool:
        decoder = pool.decoder()
        pool.places[0].link.lose()
        step = asyncio.create_task(decoder.step([request(WINDOW, "a")]))
        await asyncio.sleep(0)
        assert not decoder.is_ready
        assert decoder.is_alive
        pool.places[0].connect()
        stepped = await step
        decoder.close()

    assert isinstance(stepped.answers[0], StepResult)


async def test_engines_that_were_given_up_end_the_service() -> None:
    """A new daemon may find a device that works."""
    async with running_pool(1) as pool:
        decoder = pool.decoder()
        pool.places[0].link.lose()
        step = asyncio.create_task(decoder.step([request(WINDOW, "a")]))
        await asyncio.sleep(0)
        pool.has_given_up = True
        pool.change()
        with pytest.raises(DeviceLostError, match="no engine process can be kept alive"):
            await step
        assert not decoder.is_alive
        decoder.close()


async def test_no_more_calls_are_under_way_than_may_be() -> None:
    """What is not asked for yet can still grow."""
    async with running_pool(1) as pool:
        decoder = pool.decoder(patience_s=10.0)
        pool.places[0].engine.hold()
        steps = [asyncio.create_task(decoder.step([request(WINDOW, name)])) for name in "ab"]
        await asyncio.sleep(0)
        assert not decoder.has_place
        pool.places[0].engine.release()
        await asyncio.gather(*steps)
        assert decoder.has_place
        decoder.close()
