"""Tests of streamer.host.portaudio: devices by name, and what its errors become."""

from __future__ import annotations

import asyncio
import ctypes.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from streamer.config import CaptureConfig
from streamer.errors import CaptureError, DeviceNotFoundError, PortAudioMissingError
from streamer.host.block_ring import BlockRing
from streamer.host.portaudio import InputDevice, PortAudioStream, devices, find_device

DEVICES = [
    InputDevice(index=1, name="Built-in Audio", rate=48000, is_default=False),
    InputDevice(index=4, name="USB Microphone 2", rate=44100, is_default=True),
]


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
from streamer.host.microphone import MicrophoneSource
from streamer.host.portaudio import devices
from streamer.config import CaptureConfig

async def record(n_chunks):
    async with contextlib.aclosing(MicrophoneSource(CaptureConfig(device="loudspeaker"))) as source:
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
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    recorded = json.loads(result.stdout.splitlines()[-1])
    assert "loudspeaker" in recorded["devices"]
    # the file device has no clock, so blocks are dropped and some chunks hold a jump
    assert recorded["hertz"] == pytest.approx(hertz, abs=10)
    assert recorded["peak"] == pytest.approx(0.5, abs=0.01)


class FakePortAudio(SimpleNamespace):
    """A library like sounddevice that fails where it is told to."""

    class PortAudioError(Exception):
        """As the library raises it."""

    def __init__(self, fails_in: str) -> None:
        super().__init__(default=SimpleNamespace(device=(0, 0)))
        self.fails_in, self.is_running = fails_in, True

    def _call(self, name: str) -> None:
        if self.fails_in == name:
            raise self.PortAudioError(f"{name} failed", -9999)

    def _terminate(self) -> None:
        if not self.is_running:
            raise self.PortAudioError("not initialized", -10000)
        self._call("terminate")
        self.is_running = False

    def _initialize(self) -> None:
        self._call("initialize")
        self.is_running = True

    def query_devices(self) -> list[dict[str, object]]:
        """One input device."""
        self._call("query")
        return [{"index": 0, "name": "USB mic", "default_samplerate": 16000.0, "max_input_channels": 1}]

    def InputStream(self, **_: object) -> SimpleNamespace:  # noqa: N802 - the library's name
        """A stream of that device."""
        self._call("open")
        return SimpleNamespace(start=lambda: self._call("start"), close=lambda: self._call("close"))


@pytest.mark.parametrize("fails_in", ["initialize", "query", "open", "start"])
async def test_every_error_of_portaudio_is_a_capture_error_that_can_be_tried_again(
    fails_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it comes: the caller knows one kind of error, and the next attempt starts the library again."""
    library = FakePortAudio(fails_in)
    monkeypatch.setitem(sys.modules, "sounddevice", library)
    ring = BlockRing()
    for _ in range(2):
        with pytest.raises(CaptureError, match=f"{fails_in} failed"):
            await asyncio.to_thread(PortAudioStream, CaptureConfig(), ring)
    library.fails_in = ""
    assert PortAudioStream(CaptureConfig(), ring).name == "USB mic"


async def test_a_device_that_cannot_be_released_is_a_capture_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """As an unplugged one."""
    library = FakePortAudio("close")
    monkeypatch.setitem(sys.modules, "sounddevice", library)
    with pytest.raises(CaptureError, match='cannot release "USB mic" \\(close failed\\)'):
        PortAudioStream(CaptureConfig(), BlockRing()).close()


async def test_a_library_that_cannot_be_stopped_is_started_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt before may have left it stopped."""
    library = FakePortAudio("terminate")
    monkeypatch.setitem(sys.modules, "sounddevice", library)
    assert PortAudioStream(CaptureConfig(), BlockRing()).rate == 16000
