"""
The microphone: blocks of an input device as 16 kHz samples.

The driver calls back on a thread of its own. The callback copies its block into a bounded ring and returns; the event
loop takes blocks out. A device that is lost is reported and opened again, a limited number of times. Sound that is
missing, of a lost device or of a full ring, is replaced by as much silence: otherwise all later times would be early.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import structlog

from streamer.audio.pcm import SAMPLE_RATE, Resampler, Samples
from streamer.config import CaptureConfig
from streamer.errors import CaptureError
from streamer.host.block_ring import BlockRing
from streamer.host.portaudio import PortAudioStream

T = TypeVar("T")
log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryPolicy:
    """When a device counts as lost, and how often it is opened again."""

    block_timeout_s: float = 2.0
    """Seconds without a block after which the device is lost."""
    close_timeout_s: float = 2.0
    """Seconds that a driver may take to release a device before the attempt to open it again counts as failed."""
    backoff_s: tuple[float, ...] = (0.5, 1, 2, 4, 8, 15, 30)
    """Seconds before each attempt; after the last attempt capture fails."""


class InputStream(Protocol):
    """An open input device that fills a ring until it is closed."""

    name: str
    rate: int

    def close(self) -> None:
        """
        Stop and release the device; called on a worker thread, since drivers can take seconds.

        Raises:
            CaptureError: The driver refused.
        """


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
        clock: Monotonic time, seconds.
    """

    def __init__(
        self,
        config: CaptureConfig,
        open_stream: OpenStream | None = None,
        policy: RecoveryPolicy = RecoveryPolicy(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._open_stream = open_stream or PortAudioStream
        self._policy, self._clock = policy, clock
        self._stream: InputStream | None = None
        self._closing: asyncio.Future[None] | None = None
        self._n_failures = 0
        self.total_dropped_samples = 0
        """Samples dropped before the event loop took them, at the rate of the device."""
        self._n_overflows = 0
        self._heard_until_s: float | None = None
        self._missing_s = 0.0
        self._block: Samples | None = None

    def __aiter__(self) -> MicrophoneSource:
        return self

    async def __anext__(self) -> Samples:
        """
        The next samples, (n,), 0 < n. Cancelling is safe: no block is lost, and no device stays open.

        Raises:
            CaptureError: The device cannot be opened, or is lost and did not come back.
        """
        if self._stream is None and self._block is None:
            await self._open()
        while True:
            if self._block is None:
                self._block = await self._next_block()
            if len(silence := self._take_silence()):
                return silence
            block, self._block = self._block, None
            samples = self._resampler.resample(block)
            if len(samples):
                return samples

    async def aclose(self) -> None:
        """Release the device; a driver that does not do so in time is left to its own thread."""
        try:
            await self._close()
        except CaptureError as error:
            log.warning("capture_not_closed", reason=str(error))

    async def _close(self) -> None:
        """
        Wait until the device is released, within the time of the policy.

        Raises:
            CaptureError: The driver still holds the device.
        """
        self._begin_close()
        if self._closing is None:
            return
        done, _ = await asyncio.wait([self._closing], timeout=self._policy.close_timeout_s)
        if not done:
            raise CaptureError("the driver does not release the device")
        closing, self._closing = self._closing, None
        if error := closing.exception():  # the device is gone: there is nothing left to release
            log.warning("capture_not_closed", reason=str(error))

    def _begin_close(self) -> None:
        """Let a worker thread release the device; an earlier release may still be under way, never two."""
        if self._stream is not None:
            self._closing, self._stream = _on_thread(self._stream.close), None

    async def _open(self) -> None:
        await self._close()
        self._ring = BlockRing(clock=self._clock)
        self._reported = (0, 0)
        opening = _on_thread(lambda: self._open_stream(self._config, self._ring))
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
                self._count_missing(block)
                return block

    async def _recover(self, reason: str) -> None:
        device = self._config.device or "default input device"
        self._heard_until_s = self._heard_until_s if self._ring.last_s is None else self._ring.last_s
        self._begin_close()
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

    # --- missing sound

    def _count_missing(self, block: Samples) -> None:
        """Count the sound that is missing before a block: while the device was lost, and what the ring dropped."""
        assert self._stream is not None
        if self._heard_until_s is not None and self._ring.first_s is not None:
            began_s = self._ring.first_s - len(block) / self._stream.rate
            self._missing_s += max(0.0, began_s - self._heard_until_s)
            self._heard_until_s = None
        self._missing_s += self._report_overrun() / self._stream.rate

    def _take_silence(self) -> Samples:
        """Up to a second of the silence that replaces missing sound, (n,) at 16 kHz; n may be 0."""
        n_samples = min(SAMPLE_RATE, int(self._missing_s * SAMPLE_RATE))
        self._missing_s -= n_samples / SAMPLE_RATE
        return np.zeros(n_samples, np.float32)

    def _report_overrun(self) -> int:
        """Log losses since the last call; samples that the ring dropped since then, at the rate of the device."""
        counted = (self._ring.dropped_samples, self._ring.n_overflows)
        if counted == self._reported:
            return 0
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
        return dropped_samples


def _close_opened(opening: asyncio.Future[InputStream]) -> None:
    """Close a device that was opened after its opening had been cancelled."""
    if not opening.cancelled() and opening.exception() is None:
        _on_thread(opening.result().close)


def _on_thread(call: Callable[[], T]) -> asyncio.Future[T]:
    """
    Run a call of the driver on a thread of its own, which does not keep the process alive: drivers can hang.

    Returns:
        Its result; cancelling the future does not end the call.
    """
    done: concurrent.futures.Future[T] = concurrent.futures.Future()
    done.set_running_or_notify_cancel()

    def run() -> None:
        try:
            done.set_result(call())
        except BaseException as error:  # noqa: BLE001 - the awaiting side raises it
            done.set_exception(error)

    threading.Thread(target=run, name="microphone", daemon=True).start()
    return asyncio.wrap_future(done)
