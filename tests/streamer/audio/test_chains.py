"""Tests of streamer/audio/chains.py: recordings one behind the other in Matroska, Ogg and ASF."""

from __future__ import annotations

import functools
import io

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.audio.chains import chain
from streamer.audio.parts import SCANNED_BYTES
from tests.helpers.damaged_recordings import FRAME_S, heard
from tests.helpers.live_recordings import RATE, SECONDS, recorded, tone

KINDS = {
    "webm": ("webm", "libopus"),
    "matroska": ("matroska", "aac"),
    "ogg": ("ogg", "libopus"),
    "other ogg": ("ogg", "flac"),
    "asf": ("asf", "wmav2"),
}


@functools.cache
def written(kind: str, n_tracks: int = 1) -> bytes:
    """The tone, with an index and the length in its header, where the container has them."""
    container, codec = KINDS[kind]
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        streams = [out.add_stream(codec, rate=RATE, layout="mono") for _ in range(n_tracks)]
        frame = av.AudioFrame.from_ndarray(tone()[None], format="flt", layout="mono")
        frame.sample_rate, frame.pts = RATE, 0
        for stream in streams:
            stream.codec_context.bit_rate = 64_000
            stream.codec_context.open()
        for stream in streams:
            fifo = av.AudioFifo()
            resampler = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=RATE)
            fifo.write(resampler.resample(frame)[0])
            while (block := fifo.read(stream.codec_context.frame_size or 1024, partial=True)) is not None:
                out.mux(stream.encode(block))
            out.mux(stream.encode(None))
    return file.getvalue()


def starts(data: bytes) -> list[int]:
    """Where recordings are found to begin."""
    return [part.start for part in chain(io.BytesIO(data), 0, len(data)) or ()]


@settings(max_examples=40)
@given(st.lists(st.sampled_from(sorted(KINDS)), min_size=2, max_size=4))
def test_all_of_one_kind_are_heard(kinds: list[str]) -> None:
    """However many, and where nothing is lost, nothing is told."""
    kinds = [kind for kind in kinds if KINDS[kind][0] == KINDS[kinds[0]][0]]
    seconds, notes = heard(b"".join(map(written, kinds)))
    assert seconds == pytest.approx(len(kinds) * SECONDS, abs=len(kinds) * FRAME_S)
    assert not notes


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_one_that_breaks_off_before_the_next_is_told(kind: str) -> None:
    """With its place, and all of the next one is heard."""
    whole = written(kind)
    cut = whole[: len(whole) * 2 // 3]
    seconds, notes = heard(cut + whole)
    assert seconds >= heard(cut)[0] + SECONDS - FRAME_S
    assert notes
    assert 0 < (notes[-1].at_s or 0) < SECONDS


def test_tracks_of_ogg_are_one_recording() -> None:
    """Their first pages follow each other."""
    two = written("other ogg", 2)
    assert two.count(b"fLaC") == 2
    assert starts(3 * two) == [0, len(two), 2 * len(two)]


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("left", [-70, -20, -1, 0, 3])
def test_a_header_may_stand_anywhere(kind: str, left: int) -> None:
    """Also across the pieces in which a file is read."""
    first = written(kind).ljust(SCANNED_BYTES + left, b"\0")
    assert starts(first + written(kind)) == [0, len(first)]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_bytes_in_front_are_passed_over(kind: str) -> None:
    """Tags, a line, and a byte order mark."""
    for junk in (b"ID3\x04\0\0\0\0\x08\0" + bytes(1024), b"\r\n", b"\xef\xbb\xbf"):
        assert heard(junk + written(kind))[0] == pytest.approx(SECONDS, abs=FRAME_S)


def test_other_files_are_no_chains() -> None:
    """They are told apart by others, or not at all."""
    assert not any(map(starts, (recorded("mp3"), recorded("flac"), b"", bytes(100))))
    assert starts(b"OggS\0\2") == [0]
