"""
Input devices through PortAudio: their list, and one that fills a ring with blocks.

PortAudio calls back on a thread of its own. The library is loaded when a device is first needed: this module can be
imported without it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from streamer.audio.pcm import Samples
from streamer.config import CaptureConfig
from streamer.errors import CaptureError, DeviceNotFoundError, PortAudioMissingError
from streamer.host.block_ring import BLOCK_S, BlockRing


@dataclass(frozen=True, slots=True, kw_only=True)
class InputDevice:
    """An input device of PortAudio."""

    index: int
    name: str
    rate: int
    """Its own sample rate, in hertz."""
    is_default: bool


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
        with _capture_errors(portaudio, "PortAudio cannot list the devices"):
            _restart(portaudio)
        device = find_device(config.device, devices())
        self.name = device.name
        self.rate = config.rate or device.rate
        self._portaudio = portaudio

        def on_block(indata: Samples, _n_frames: int, _time: Any, status: Any) -> None:
            # PortAudio reuses the memory of indata
            ring.put(indata[:, 0].copy(), overflowed=bool(status.input_overflow))

        refused = f'cannot record from "{device.name}" at {self.rate} hertz'
        with _capture_errors(portaudio, refused, "another program may hold it; see: streamer doctor"):
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

    def close(self) -> None:
        """
        Stop and release the device.

        Raises:
            CaptureError: The driver refused, for example because the device is unplugged.
        """
        with _capture_errors(self._portaudio, f'cannot release "{self.name}"'):
            self._stream.close()


def devices() -> list[InputDevice]:
    """
    The input devices, in PortAudio's order.

    Raises:
        PortAudioMissingError: The library is not installed.
        CaptureError: PortAudio cannot list the devices.
    """
    portaudio = _load_portaudio()
    with _capture_errors(portaudio, "PortAudio cannot list the devices"):
        default, listed = portaudio.default.device[0], [*portaudio.query_devices()]
    return [
        InputDevice(
            index=found["index"],
            name=found["name"],
            rate=round(found["default_samplerate"]),
            is_default=found["index"] == default,
        )
        for found in listed
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
    # PortAudio is not running where an earlier attempt to start it failed
    with contextlib.suppress(portaudio.PortAudioError):
        portaudio._terminate()
    portaudio._initialize()


@contextlib.contextmanager
def _capture_errors(portaudio: ModuleType, what: str, remedy: str = "") -> Iterator[None]:
    """Raise errors of PortAudio as CaptureError."""
    try:
        yield
    except portaudio.PortAudioError as error:
        raise CaptureError(f"{what} ({error.args[0]})" + (f": {remedy}" if remedy else "")) from None
