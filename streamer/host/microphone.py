"""
The microphone: blocks of a PortAudio input device as 16 kHz samples.

PortAudio calls back on a thread of its own. The callback copies its block into a bounded ring and returns; the event
loop takes blocks out. A device that is lost is reported and opened again, a limited number of times. PortAudio is
loaded when a device is first needed: this module can be imported without it.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

import structlog

from streamer.audio.pcm import Resampler, Samples
from streamer.config import CaptureConfig
from streamer.errors import CaptureError, DeviceNotFoundError, PortAudioMissingError

BLOCK_S = 0.02
"""Length of a block, in seconds."""
RING_S = 10.0
"""Audio that the ring holds while the event loop is late, in seconds."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class InputDevice:
    """An input device of PortAudio."""

    index: int
    name: str
    rate: int
    """Its own sample rate, in hertz."""
    is_default: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryPolicy:
    """When a device counts as lost, and how often it is opened again."""

    block_timeout_s: float = 2.0
    """Seconds without a block after which the device is lost."""
    backoff_s: tuple[float, ...] = (0.5, 1, 2, 4, 8, 15, 30)
    """Seconds before each attempt; after the last attempt capture fails."""


class BlockRing:
    """
    A bounded queue of blocks from the thread of PortAudio to the event loop that created the ring.

    When the event loop is late and the ring is full, the oldest block is dropped and counted: a microphone cannot wait.
    """

    def __init__(self, capacity: int = round(RING_S / BLOCK_S)) -> None:
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._lock = threading.Lock()
        self._blocks: deque[Samples] = deque()
        self._capacity = capacity
        self._finished = False
        self.dropped_samples = 0
        """Samples that were dropped because the ring was full."""
        self.n_overflows = 0
        """How often the driver lost samples; it does not say how many."""

    def put(self, block: Samples, *, overflowed: bool = False) -> None:
        """Add a block, (n,), from any thread; never waits for the event loop."""
        with self._lock:
            was_empty = not self._blocks
            if len(self._blocks) == self._capacity:
                self.dropped_samples += len(self._blocks.popleft())
            self._blocks.append(block)
            self.n_overflows += overflowed
        if was_empty:
            self._loop.call_soon_threadsafe(self._changed.set)

    def finish(self) -> None:
        """Tell the ring that no block follows, from any thread."""
        self._finished = True
        self._loop.call_soon_threadsafe(self._changed.set)

    async def get(self) -> Samples:
        """
        Take the oldest block, (n,); wait if there is none. Cancelling is safe: no block is lost.

        Raises:
            CaptureError: The device has stopped and every block was taken.
        """
        while not self._blocks:
            if self._finished:
                raise CaptureError("the device has stopped")
            self._changed.clear()
            await self._changed.wait()
        with self._lock:
            return self._blocks.popleft()


class InputStream(Protocol):
    """An open input device that fills a ring until it is closed."""

    name: str
    rate: int

    def close(self) -> None:
        """Stop and release the device."""


OpenStream = Callable[[CaptureConfig, BlockRing], InputStream]
"""Opens the configured device or raises CaptureError. Called on a worker thread: drivers can take seconds."""


class MicrophoneSource:
    """
    Async iterator over the microphone: blocks of mono float32 samples at 16 kHz. Close it after use.

    If the device cannot be opened at first, the error is raised: the device is probably named wrongly. A device that
    was open and stops, or delivers nothing for a while, is opened again by the recovery policy.

    Args:
        config: Device and sample rate.
        open_stream: Opens the device; None for PortAudio.
        policy: When the device counts as lost, and how often it is opened again.
    """

    def __init__(
        self,
        config: CaptureConfig,
        open_stream: OpenStream | None = None,
        policy: RecoveryPolicy = RecoveryPolicy(),
    ) -> None:
        self._config = config
        self._open_stream = open_stream or PortAudioStream
        self._policy = policy
        self._stream: InputStream | None = None
        self._n_failures = 0
        self.total_dropped_samples = 0
        """Samples dropped before the event loop took them, at the rate of the device."""
        self._n_overflows = 0

    def __aiter__(self) -> MicrophoneSource:
        return self

    async def __anext__(self) -> Samples:
        """
        The next samples, (n,), n > 0. Cancelling is safe: no block is lost, and no device stays open.

        Raises:
            CaptureError: The device cannot be opened, or is lost and did not come back.
        """
        if self._stream is None:
            await self._open()
        while True:
            block = await self._next_block()
            samples = self._resampler.resample(block)
            if len(samples):
                return samples

    def close(self) -> None:
        """Release the device."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    async def _open(self) -> None:
        self._ring = BlockRing()
        self._reported = (0, 0)
        loop = asyncio.get_running_loop()
        opening = loop.run_in_executor(None, self._open_stream, self._config, self._ring)
        try:
            self._stream = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_opened)
            raise
        self._resampler = Resampler(self._stream.rate)
        log.info("capture_started", device=self._stream.name, rate=self._stream.rate)

    async def _next_block(self) -> Samples:
        while True:
            try:
                async with asyncio.timeout(self._policy.block_timeout_s):
                    block = await self._ring.get()
            except TimeoutError:
                await self._recover(f"no sound for {self._policy.block_timeout_s:g} s")
            except CaptureError as error:
                await self._recover(str(error))
            else:
                self._n_failures = 0
                self._report_overrun()
                return block

    async def _recover(self, reason: str) -> None:
        device = self._config.device or "default input device"
        self.close()
        while self._n_failures < len(self._policy.backoff_s):
            retry_s = self._policy.backoff_s[self._n_failures]
            self._n_failures += 1
            log.warning("capture_lost", device=device, reason=reason, attempt=self._n_failures, retry_s=retry_s)
            await asyncio.sleep(retry_s)
            try:
                return await self._open()
            except CaptureError as error:
                reason = str(error)
        raise CaptureError(f"{device} is lost, {self._n_failures} attempts to open it failed: {reason}")

    def _report_overrun(self) -> None:
        counted = (self._ring.dropped_samples, self._ring.n_overflows)
        if counted == self._reported:
            return
        dropped_samples = counted[0] - self._reported[0]
        self.total_dropped_samples += dropped_samples
        self._n_overflows += counted[1] - self._reported[1]
        self._reported = counted
        log.warning(
            "capture_overrun",
            device=self._stream.name if self._stream else "",
            dropped_samples=dropped_samples,
            total_dropped_samples=self.total_dropped_samples,
            driver_overflows=self._n_overflows,
        )


def _close_opened(opening: asyncio.Future[InputStream]) -> None:
    """Close a device that was opened after its opening had been cancelled."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


class PortAudioStream:
    """
    An input device opened through PortAudio, its first channel.

    PortAudio lists devices only when it starts. So it is started again, to find a device that was plugged in since;
    this ends other streams of the process, which has one microphone.

    Raises:
        CaptureError: No PortAudio, no such device, or the driver refused.
    """

    def __init__(self, config: CaptureConfig, ring: BlockRing) -> None:
        portaudio = _load_portaudio()
        _restart(portaudio)
        device = find_device(config.device, devices())
        self.name = device.name
        self.rate = config.rate or device.rate

        def on_block(indata: Samples, _n_frames: int, _time: Any, status: Any) -> None:
            # PortAudio reuses the memory of indata
            ring.put(indata[:, 0].copy(), overflowed=bool(status.input_overflow))

        try:
            self._stream = portaudio.InputStream(
                device=device.index,
                samplerate=self.rate,
                blocksize=round(self.rate * BLOCK_S),
                channels=1,
                dtype="float32",
                callback=on_block,
                finished_callback=ring.finish,
            )
            self._stream.start()
        except portaudio.PortAudioError as error:
            raise CaptureError(
                f'cannot record from "{device.name}" at {self.rate} hertz ({error.args[0]}): '
                "another program may hold it; see: streamer doctor"
            ) from None

    def close(self) -> None:
        """Stop and release the device."""
        self._stream.close()


def devices() -> list[InputDevice]:
    """
    The input devices, in PortAudio's order.

    Raises:
        PortAudioMissingError: The library is not installed.
    """
    portaudio = _load_portaudio()
    default = portaudio.default.device[0]
    return [
        InputDevice(
            index=found["index"],
            name=found["name"],
            rate=round(found["default_samplerate"]),
            is_default=found["index"] == default,
        )
        for found in portaudio.query_devices()
        if found["max_input_channels"] > 0
    ]


def find_device(name: str, available: list[InputDevice]) -> InputDevice:
    """
    Find an input device.

    Args:
        name: Number of a device or part of its name, in any case; empty for the default device.
        available: All input devices.

    Raises:
        DeviceNotFoundError: There is no such device; the message lists all devices.
    """
    if not available:
        raise DeviceNotFoundError(
            "no input device found: connect a microphone; on Linux the user must be in the group audio"
        )
    if not name:
        return next((device for device in available if device.is_default), available[0])
    for device in available:
        if name == str(device.index) or (not name.isdigit() and name.lower() in device.name.lower()):
            return device
    listed = ", ".join(f'{device.index} "{device.name}"' for device in available)
    raise DeviceNotFoundError(f'no input device "{name}": expected one of {listed}')


def _load_portaudio() -> ModuleType:
    try:
        import sounddevice
    except OSError:
        raise PortAudioMissingError("the PortAudio library is not installed: apt-get install libportaudio2") from None
    module: ModuleType = sounddevice
    return module


def _restart(portaudio: ModuleType) -> None:
    """Make PortAudio list the devices again; sounddevice has no public function for that."""
    portaudio._terminate()
    portaudio._initialize()
