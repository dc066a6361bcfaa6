"""Tests of streamer.host.microphone."""

from __future__ import annotations

import asyncio
import ctypes.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from structlog.testing import capture_logs

from streamer.audio.pcm import SAMPLE_RATE
from streamer.config import CaptureConfig
from streamer.errors import CaptureError, DeviceNotFoundError, PortAudioMissingError
from streamer.host.microphone import BlockRing, InputDevice, MicrophoneSource, RecoveryPolicy, devices, find_device

DEVICES = [
    InputDevice(index=1, name="Built-in Audio", rate=48000, is_default=False),
    InputDevice(index=4, name="USB Microphone 2", rate=44100, is_default=True),
]
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
    return [float((await anext(source))[0]) for _ in range(n_chunks)]


async def test_blocks_arrive_in_order() -> None:
    """Chunks are the blocks, in order, and closing closes the device."""
    driver = FakeDriver(plays(0.1, 0.2, 0.3))
    source = MicrophoneSource(CaptureConfig(), driver, PATIENT)
    assert await heard(source, 3) == pytest.approx([0.1, 0.2, 0.3])
    source.close()
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
        may_open.wait(timeout=30)
        return Stream()

    listening = asyncio.ensure_future(anext(MicrophoneSource(CaptureConfig(), open_slowly, PATIENT)))
    await opening.wait()
    listening.cancel()
    await asyncio.wait([listening])
    may_open.set()
    await asyncio.wait_for(closed.wait(), timeout=30)


@pytest.mark.parametrize(("name", "index"), [("", 4), ("1", 1), ("usb", 4), ("Built-in", 1), ("phone 2", 4)])
def test_devices_are_found_by_number_and_part_of_the_name(name: str, index: int) -> None:
    """Empty is the default device; digits are the number; text is looked for in the name, in any case."""
    assert find_device(name, DEVICES).index == index


def test_without_a_default_the_first_device_serves() -> None:
    """PortAudio may name no default device."""
    assert find_device("", DEVICES[:1]).index == 1


@pytest.mark.parametrize("name", ["headset", "2"])
def test_an_unknown_device_names_the_known(name: str) -> None:
    """The error lists what there is; a number is a number, never part of a name."""
    with pytest.raises(DeviceNotFoundError) as caught:
        find_device(name, DEVICES)
    expected = f'no input device "{name}": expected one of 1 "Built-in Audio", 4 "USB Microphone 2"'
    assert str(caught.value) == expected


def test_a_machine_without_devices_is_refused() -> None:
    """The error tells to connect a microphone."""
    with pytest.raises(DeviceNotFoundError, match="no input device found: connect a microphone"):
        find_device("", [])


def test_a_missing_portaudio_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where sounddevice finds no PortAudio, using the microphone is the error, with the remedy."""
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    with pytest.raises(PortAudioMissingError, match=r"not installed: apt-get install libportaudio2"):
        devices()


RECORD = """
import asyncio, contextlib, json, sys
import numpy as np
from streamer.host.microphone import MicrophoneSource, devices
from streamer.config import CaptureConfig

async def record(n_chunks):
    with contextlib.closing(MicrophoneSource(CaptureConfig(device="loudspeaker"))) as source:
        return [await anext(source) for _ in range(n_chunks)]

chunks = asyncio.run(record(40))[5:]
json.dump({
    "devices": [device.name for device in devices()],
    "hertz": float(np.median([np.abs(np.fft.rfft(chunk, 16000)).argmax() for chunk in chunks])),
    "peak": float(np.median([np.abs(chunk).max() for chunk in chunks])),
}, sys.stdout)
"""


@pytest.mark.skipif(ctypes.util.find_library("portaudio") is None, reason="needs libportaudio2")
def test_a_real_device_is_heard(tmp_path: Path) -> None:
    """PortAudio, ALSA and the callback thread deliver the tone that ALSA's file device plays."""
    rate, hertz = 48000, 440
    tone = 0.5 * np.sin(2 * np.pi * hertz * np.arange(rate) / rate)
    (tmp_path / "tone.raw").write_bytes((tone * 32767).astype("<i2").tobytes())
    (tmp_path / "asound.conf").write_text(
        f'pcm.tone {{ type file slave.pcm {{ type null }} file "/dev/null" '
        f'infile "{tmp_path}/tone.raw" format "raw" }}\n'
        f"pcm.loudspeaker {{ type plug slave {{ pcm tone rate {rate} channels 1 format S16_LE }} }}\n"
        # PortAudio aborts where ALSA has no default device
        "pcm.default { type plug slave.pcm loudspeaker }\n"
    )
    environment = {**os.environ, "ALSA_CONFIG_PATH": str(tmp_path / "asound.conf"), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, "-c", RECORD],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    recorded = json.loads(result.stdout.splitlines()[-1])
    assert "loudspeaker" in recorded["devices"]
    # the file device has no clock, so blocks are dropped and some chunks hold a jump
    assert recorded["hertz"] == pytest.approx(hertz, abs=10)
    assert recorded["peak"] == pytest.approx(0.5, abs=0.01)
