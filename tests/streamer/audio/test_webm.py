"""Tests of streamer/audio/webm.py: recordings made here, element by element; those of FFmpeg are in test_opus."""

from __future__ import annotations

import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.audio.webm import MAX_DAMAGED_BYTES, MAX_SOUNDLESS, Packet, WebmReader
from streamer.errors import AudioFormatError

EBML, SEGMENT, CLUSTER, BLOCK_GROUP = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75", b"\xa0"
DOC_TYPE, INFO, TIME_SCALE = b"\x42\x82", b"\x15\x49\xa9\x66", b"\x2a\xd7\xb1"
TRACKS, TRACK, CODEC = b"\x16\x54\xae\x6b", b"\xae", b"\x86"
CLUSTER_TIME, SIMPLE_BLOCK, BLOCK, VOID = b"\xe7", b"\xa3", b"\xa1", b"\xec"


def element(id_: bytes, body: bytes, n_size: int = 0) -> bytes:
    """An element whose size takes `n_size` bytes, by default as few as it can."""
    n_size = n_size or next(n for n in range(1, 9) if len(body) < 2 ** (7 * n) - 1)
    return id_ + (len(body) | 1 << 7 * n_size).to_bytes(n_size, "big") + body


def unsized(id_: bytes, body: bytes) -> bytes:
    """An element that lasts until the next of its kind, as live recordings have them."""
    return id_ + b"\x01" + 7 * b"\xff" + body


def beginning(scale_ns: int) -> bytes:
    """Everything before the first cluster."""
    track = element(TRACKS, element(TRACK, element(CODEC, b"A_OPUS")))
    info = element(INFO, element(TIME_SCALE, scale_ns.to_bytes(4, "big")))
    return element(EBML, element(DOC_TYPE, b"webm")) + unsized(SEGMENT, info + track)


@st.composite
def clusters(draw: st.DrawFn) -> tuple[bytes, list[tuple[int, bytes]]]:
    """A cluster, sized or not, with what else may stand in it; the ticks and packets that it holds."""
    time = draw(st.integers(0, 10_000))
    body, packets = element(CLUSTER_TIME, time.to_bytes(draw(st.integers(2, 4)), "big")), []
    for offset in draw(st.lists(st.integers(-100, 32_000), max_size=4)):
        packet = draw(st.binary(min_size=1, max_size=300))
        packets.append((max(time + offset, 0), packet))
        content = draw(st.sampled_from([b"\x81", b"\x40\x01"])) + offset.to_bytes(2, "big", signed=True)
        if draw(st.booleans()):
            body += element(SIMPLE_BLOCK, content + b"\x80" + packet, draw(st.sampled_from([0, 4, 8])))
        else:
            body += element(BLOCK_GROUP, element(BLOCK, content + b"\0" + packet))
        body += draw(st.sampled_from([b"", element(VOID, bytes(200))]))
    return draw(st.sampled_from([element, unsized]))(CLUSTER, body), packets


@given(
    st.lists(clusters(), max_size=3), st.sampled_from([1_000_000, 20_000]), st.lists(st.integers(1, 400), min_size=1)
)
def test_packets_come_back_with_their_times(
    recorded: list[tuple[bytes, list[tuple[int, bytes]]]], scale_ns: int, cuts: list[int]
) -> None:
    """However elements are written, whatever stands between them, and wherever the bytes are cut."""
    data = beginning(scale_ns) + b"".join(cluster for cluster, _ in recorded)
    reader, found, at = WebmReader(), [], 0
    for n in itertools.cycle(cuts):
        found += reader.read(data[at : at + n])
        at += n
        if at >= len(data):
            break

    assert found == [Packet(tick * (scale_ns / 1e9), packet) for _, packets in recorded for tick, packet in packets]


@given(st.lists(st.binary(max_size=30), max_size=6))
def test_any_bytes_are_packets_or_an_audio_error(pieces: list[bytes]) -> None:
    """Behind a good beginning too, where more of it is looked at."""
    for start in (b"", beginning(1_000_000)):
        reader = WebmReader()
        with contextlib.suppress(AudioFormatError):
            for piece in [start, *pieces]:
                assert all(isinstance(packet, Packet) for packet in reader.read(piece))


def test_what_is_passed_over_is_not_kept() -> None:
    """A long element that nobody needs costs no memory while it comes."""
    reader = WebmReader()
    list(reader.read(beginning(1_000_000) + VOID + (10**7 | 1 << 28).to_bytes(4, "big")))
    for _ in range(100):
        list(reader.read(bytes(10**5)))
        assert reader.n_buffered < 100

    block = element(SIMPLE_BLOCK, b"\x81\0\x05\x80x")
    assert list(reader.read(block)) == [Packet(0.005, b"x")]


@given(st.binary(max_size=300), st.lists(st.integers(1, 900), min_size=1, max_size=5))
def test_damage_between_packets_costs_no_others(damage: bytes, cuts: list[int]) -> None:
    """Reading goes on with the next block, whatever stands before it and wherever the bytes are cut."""
    blocks = [element(SIMPLE_BLOCK, b"\x81\0" + bytes([n]) + b"\x80" + bytes([n]) * 90) for n in range(120)]
    data = beginning(1_000_000) + blocks[0] + blocks[1] + damage + b"".join(blocks[2:])
    reader, found, at = WebmReader(), [], 0
    for n in itertools.cycle(cuts):
        found += reader.read(data[at : at + n])
        at += n
        if at >= len(data):
            break

    assert [packet.data[-1] for packet in found][:2] == [0, 1]
    assert found[-1].data[-1] == 119


@pytest.mark.parametrize("begins_well", [False, True])
def test_damage_has_an_end(begins_well: bool) -> None:
    """Before the first packet it is told at once, and behind it where no other packet comes in a megabyte."""
    reader = WebmReader()
    list(reader.read(beginning(1_000_000) + element(SIMPLE_BLOCK, b"\x81\0\0\x80x") * begins_well))
    list(reader.read(b"\0" * 4000 * begins_well))
    with pytest.raises(AudioFormatError, match="damaged"):
        list(reader.read(b"\0" * (MAX_DAMAGED_BYTES if begins_well else 1)))


@pytest.mark.parametrize(
    "soundless", [element(VOID, b""), element(CLUSTER_TIME, b"\0"), element(CLUSTER, b""), element(BLOCK_GROUP, b"")]
)
def test_elements_without_sound_have_a_bound(soundless: bytes) -> None:
    """Thousands of them in a row are no recording; between packets there may be some."""
    block = element(SIMPLE_BLOCK, b"\x81\0\x05\x80x")
    reader = WebmReader()
    list(reader.read(beginning(1_000_000)))
    for _ in range(3):
        assert len(list(reader.read(soundless * (MAX_SOUNDLESS - 20) + block))) == 1

    with pytest.raises(AudioFormatError, match=f"{MAX_SOUNDLESS} elements in a row without sound"):
        list(reader.read(soundless * 30_000))
