"""Tests of streamer/audio/container_stream.py: one recording, decoded while its bytes come."""

from __future__ import annotations

import io
import itertools
from fractions import Fraction

import av
import pytest

from streamer.audio.container_stream import MAX_DAMAGED, ContainerStream
from streamer.audio.pcm import SAMPLE_RATE
from streamer.errors import AudioFormatError
from tests.helpers.live_recordings import RATE, tone

PACKET = 1024
"""Samples of an AAC packet."""


def recording(*, n_damaged: int) -> bytes:
    """Two seconds of sound, packets that nobody can decode, and the same two seconds."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska", options={"live": "1"}) as out:
        stream = out.add_stream("aac", rate=RATE)
        stream.layout = "mono"
        samples, pts = tone(), 0
        packets = []
        for start in range(0, len(samples) - PACKET, PACKET):
            frame = av.AudioFrame.from_ndarray(samples[None, start : start + PACKET], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = RATE, start
            packets += [bytes(packet) for packet in stream.encode(frame)]
        for data in [*packets, *[b"\xff" * 64] * n_damaged, *packets]:
            packet = av.Packet(data)
            packet.stream, packet.time_base, packet.pts = stream, Fraction(1, RATE), pts
            packet.dts, packet.is_keyframe, pts = pts, True, pts + PACKET
            out.mux(packet)
    return file.getvalue()


def heard_s(stream: ContainerStream, data: bytes) -> float:
    """Seconds of sound in a whole recording."""
    blocks = [*stream.blocks(data), *stream.end()]
    return sum(map(len, blocks)) / SAMPLE_RATE


@pytest.mark.parametrize("n_damaged", [0, 1, 50, MAX_DAMAGED - 1])
def test_damaged_packets_are_passed_over(n_damaged: int) -> None:
    """The sound before them and the sound after them is heard."""
    stream = ContainerStream()

    assert heard_s(stream, recording(n_damaged=n_damaged)) == pytest.approx(4.0, abs=0.3)
    stream.close()


def test_a_recording_of_damaged_packets_is_given_up() -> None:
    """What came before them is heard; then there is an error, and nothing more."""
    stream, data = ContainerStream(), recording(n_damaged=MAX_DAMAGED)
    heard: list[int] = []

    with pytest.raises(AudioFormatError, match="1000 packets in a row cannot be decoded"):
        heard.extend(len(block) for block in itertools.chain(stream.blocks(data), stream.end()))

    assert sum(heard) / SAMPLE_RATE == pytest.approx(2.0, abs=0.2)
    assert [*stream.blocks(data), *stream.end()] == []
    stream.close()
