"""Tests of streamer.host.microphone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from structlog.testing import capture_logs

from streamer.audio.pcm import SAMPLE_RATE
from streamer.config import CaptureConfig
from streamer.errors import CaptureError, DeviceNotFoundError
from streamer.host.block_ring import BlockRing
from streamer.host.microphone import MicrophoneSource, RecoveryPolicy

IMPATIENT = RecoveryPolicy(block_timeout_s=0.01, backoff_s=(0, 0, 0))
PATIENT = RecoveryPolicy(block_timeout_s=60, backoff_s=(0, 0, 0))


def block(value: float, n_samples: int = 320) -> NDArray[np.float32]:
    return np.full(n_samples, value, np.float32)


class FakeStream:
    """An open device that does as its script says."""

    name = "USB mic"

    def __init__(self, rate: int = SAMPLE_RATE) -> None:
        self.rate = rate
        self.closed = False

    def close(self) -> None:
        self.closed = True


class FakeDriver:
    """Opens one scripted stream after the other; an exception in place of a script is raised."""

    def __init__(self, *scripts: Callable[[BlockRing], None] | CaptureError, rate: int = SAMPLE_RATE) -> None:
        self.scripts = iter(scripts)
        self.streams: list[FakeStream] = []
        self.rate = rate

    def __call__(self, config: CaptureConfig, ring: BlockRing) -> FakeStream:
        script = next(self.scripts)
        if isinstance(script, CaptureError):
            raise script
        self.streams.append(FakeStream(self.rate))
        script(ring)
        return self.streams[-1]


def plays(*values: float) -> Callable[[BlockRing], None]:
    def script(ring: BlockRing) -> None:
        for value in values:
            ring.put(block(value))

    return script


def plays_then_stops(*values: float) -> Callable[[BlockRing], None]:
    def script(ring: BlockRing) -> None:
        plays(*values)(ring)
        ring.finish()

    return script


async def heard(source: MicrophoneSource, n_chunks: int) -> list[float]:
    """The first sample of each of the next chunks; silence in place of missing sound does not count."""
    found: list[float] = []
    while len(found) < n_chunks:
        chunk = await anext(source)
        found += [float(chunk[0])] if chunk.any() else []
    return found


async def test_blocks_arrive_in_order() -> None:
    """Chunks are the blocks, in order, and closing closes the device."""
    driver = FakeDriver(plays(0.1, 0.2, 0.3))
    source = MicrophoneSource(CaptureConfig(), driver, PATIENT)
    assert await heard(source, 3) == pytest.approx([0.1, 0.2, 0.3])
    await source.aclose()
    assert driver.streams[0].closed


async def test_the_device_rate_is_resampled() -> None:
    """48 kHz blocks come out as a third of the samples, and chunks are never empty."""
    driver = FakeDriver(plays(*[0.5] * 100), rate=48000)
    source = MicrophoneSource(CaptureConfig(), driver, PATIENT)
    chunks = [await anext(source) for _ in range(20)]
    assert all(len(chunk) for chunk in chunks)
    # 100 blocks of 320 samples, less what the resampler holds back; at the edge it rings
    assert sum(map(len, chunks)) <= 100 * 320 / 3
    assert chunks[-1][-50:] == pytest.approx(np.full(50, 0.5), abs=1e-3)


async def test_blocks_cross_threads() -> None:
    """A reader that waits is woken by a block put on another thread."""
    ring = BlockRing()
    waiting = asyncio.ensure_future(ring.get())
    await asyncio.sleep(0)
    thread = threading.Thread(target=ring.put, args=(block(0.5),))
    thread.start()
    assert (await waiting)[0] == 0.5
    thread.join()


async def test_a_full_ring_drops_the_oldest_and_counts() -> None:
    """The ring never grows and never blocks: the oldest blocks go, and their samples are counted."""
    ring = BlockRing(capacity=2)
    for value in (1, 2, 3, 4):
        ring.put(block(value, n_samples=10))
    assert [(await ring.get())[0] for _ in range(2)] == [3, 4]
    assert ring.dropped_samples == 20


async def test_cancelling_a_wait_loses_no_block() -> None:
    """A reader that gave up leaves the next block to the next reader."""
    ring = BlockRing()
    waiting = asyncio.ensure_future(ring.get())
    await asyncio.sleep(0)
    ring.put(block(0.5))
    waiting.cancel()
    await asyncio.wait([waiting])
    assert (await ring.get())[0] == 0.5


async def test_overruns_are_logged_and_totalled() -> None:
    """Blocks that fell out of the ring and losses of the driver are one log event each time they rise."""

    def floods(ring: BlockRing) -> None:
        for _ in range(503):
            ring.put(block(0.5))
        ring.put(block(0.5), overflowed=True)

    source = MicrophoneSource(CaptureConfig(), FakeDriver(floods), PATIENT)
    with capture_logs() as logs:
        await heard(source, 10)
    overruns = [entry for entry in logs if entry["event"] == "capture_overrun"]
    assert overruns == [
        {
            "event": "capture_overrun",
            "log_level": "warning",
            "device": "USB mic",
            "dropped_samples": 4 * 320,
            "total_dropped_samples": 4 * 320,
            "driver_overflows": 1,
        }
    ]
    assert source.total_dropped_samples == 4 * 320


async def test_an_unplugged_device_is_reopened() -> None:
    """What was recorded before the device went is delivered, then what it records when it is back."""
    driver = FakeDriver(plays_then_stops(0.1), CaptureError("unplugged"), plays(0.2))
    source = MicrophoneSource(CaptureConfig(device="usb"), driver, PATIENT)
    with capture_logs() as logs:
        assert await heard(source, 2) == pytest.approx([0.1, 0.2])
    lost = [(entry["reason"], entry["attempt"]) for entry in logs if entry["event"] == "capture_lost"]
    assert lost == [("the device has stopped", 1), ("unplugged", 2)]
    assert [stream.closed for stream in driver.streams] == [True, False]


async def test_a_silent_driver_is_reopened() -> None:
    """A stream that stays open and delivers nothing is as lost as one that stopped."""
    source = MicrophoneSource(CaptureConfig(), FakeDriver(plays(), plays(0.2)), IMPATIENT)
    assert await heard(source, 1) == pytest.approx([0.2])


async def test_recovery_gives_up() -> None:
    """After the last attempt of the policy the error says how often and why."""
    driver = FakeDriver(plays(0.1), plays(), CaptureError("gone"), CaptureError("still gone"))
    source = MicrophoneSource(CaptureConfig(device="usb"), driver, IMPATIENT)
    assert await heard(source, 1) == pytest.approx([0.1])
    with pytest.raises(CaptureError, match=r"usb is lost, 3 attempts to open it failed: still gone"):
        await anext(source)


async def test_a_block_resets_the_attempts() -> None:
    """A device that comes and goes for months is not given up as long as it delivers in between."""
    source = MicrophoneSource(CaptureConfig(), FakeDriver(*[plays_then_stops(0.1)] * 20), PATIENT)
    assert await heard(source, 20) == pytest.approx([0.1] * 20)


async def test_a_device_that_never_opened_is_not_retried() -> None:
    """The first failure to open is the user's mistake, told at once."""
    source = MicrophoneSource(CaptureConfig(), FakeDriver(DeviceNotFoundError("no such device")), IMPATIENT)
    with pytest.raises(DeviceNotFoundError, match="no such device"):
        await anext(source)


async def test_cancelling_while_a_device_opens_closes_it() -> None:
    """Drivers cannot be interrupted: a device that comes open too late is closed at once."""
    loop = asyncio.get_running_loop()
    opening, closed, may_open = asyncio.Event(), asyncio.Event(), threading.Event()

    class Stream(FakeStream):
        def close(self) -> None:
            closed.set()

    def open_slowly(_config: CaptureConfig, _ring: BlockRing) -> FakeStream:
        loop.call_soon_threadsafe(opening.set)
        may_open.wait(timeout=120)
        return Stream()

    listening = asyncio.ensure_future(anext(MicrophoneSource(CaptureConfig(), open_slowly, PATIENT)))
    await opening.wait()
    listening.cancel()
    await asyncio.wait([listening])
    may_open.set()
    await asyncio.wait_for(closed.wait(), timeout=120)


class Clock:
    """Time that tests set."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.mark.parametrize("outage_s", [0.0, 0.4, 3.5])
async def test_a_lost_device_leaves_as_much_silence_as_it_was_away(outage_s: float) -> None:
    """Words after the outage keep their time of day: silence fills the time without sound, a second at most at once."""
    clock = Clock()

    def comes_back(ring: BlockRing) -> None:
        clock.now_s += outage_s + 0.02
        ring.put(block(0.2))

    source = MicrophoneSource(CaptureConfig(), FakeDriver(plays_then_stops(0.1), comes_back), PATIENT, clock)
    chunks = [await anext(source)]
    while chunks[-1][0] != np.float32(0.2):
        chunks.append(await anext(source))

    silence = np.concatenate([np.zeros(0, np.float32), *chunks[1:-1]])
    assert len(silence) / SAMPLE_RATE == pytest.approx(outage_s, abs=0.001)
    assert not silence.any()
    assert all(len(chunk) <= SAMPLE_RATE for chunk in chunks)


async def test_blocks_that_the_ring_dropped_become_silence() -> None:
    """The sound after them keeps its time."""

    def floods(ring: BlockRing) -> None:
        for _ in range(503):
            ring.put(block(0.5))

    source = MicrophoneSource(CaptureConfig(), FakeDriver(floods), PATIENT)
    silence = await anext(source)
    assert (len(silence), silence.any()) == (3 * 320, False)
    assert (await anext(source))[0] == np.float32(0.5)


async def test_a_driver_that_hangs_in_close_holds_up_neither_the_loop_nor_the_next_attempt() -> None:
    """Closing runs on a thread; the attempt fails in time, and a later one finds the device released."""
    may_close = threading.Event()

    class Stuck(FakeStream):
        def close(self) -> None:
            may_close.wait(120)

    opened: list[FakeStream] = []

    def open_stream(_config: CaptureConfig, ring: BlockRing) -> FakeStream:
        opened.append(FakeStream() if opened else Stuck())
        (plays(0.2) if len(opened) == 2 else plays_then_stops(0.1))(ring)
        return opened[-1]

    policy = RecoveryPolicy(block_timeout_s=60, close_timeout_s=0.001, backoff_s=(0,) * 30_000)
    source = MicrophoneSource(CaptureConfig(), open_stream, policy)
    with capture_logs() as logs:
        assert await heard(source, 1) == pytest.approx([0.1])
        asyncio.get_running_loop().call_later(0.05, may_close.set)
        assert await heard(source, 1) == pytest.approx([0.2])
    assert "the driver does not release the device" in [entry.get("reason") for entry in logs]
    assert len(opened) == 2


async def test_an_unplugged_device_that_cannot_be_closed_is_no_reason_to_give_up() -> None:
    """The driver's error at close is logged, and the device opened again; so at the end."""

    class Unplugged(FakeStream):
        def close(self) -> None:
            raise CaptureError("cannot release: unanticipated host error")

    streams = iter([Unplugged(), Unplugged()])
    scripts = iter([plays_then_stops(0.1), plays(0.2)])

    def open_stream(_config: CaptureConfig, ring: BlockRing) -> FakeStream:
        next(scripts)(ring)
        return next(streams)

    source = MicrophoneSource(CaptureConfig(), open_stream, PATIENT)
    with capture_logs() as logs:
        assert (await heard(source, 1))[0] == np.float32(0.1)
        while (await anext(source))[0] != np.float32(0.2):
            pass
        await source.aclose()
    assert [entry["event"] for entry in logs].count("capture_not_closed") == 2
