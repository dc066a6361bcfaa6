"""Tests of streamer/audio/opus_packet.py."""

from __future__ import annotations

import pytest

from streamer.audio.opus_packet import n_samples


@pytest.mark.parametrize(
    ("packet", "milliseconds"),
    [
        (b"\x00", 10),
        (b"\x18", 60),
        (b"\x68", 20),
        (b"\x80", 2.5),
        (b"\xf8", 20),
        (b"\xf9", 40),
        (b"\xfb\x03", 60),
        (b"\xfb", 0),
    ],
)
def test_a_packet_tells_its_duration(packet: bytes, milliseconds: float) -> None:
    """By mode, length of a frame and number of frames."""
    assert n_samples(packet) == milliseconds * 48
