"""Tests of streamer/audio/fragments.py: heads of fragments as FFmpeg writes them, and with bytes that are wrong."""

from __future__ import annotations

import functools
import io
import re

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.audio.fragments import is_readable, tracks_of
from tests.helpers.damaged_recordings import heard, with_patch
from tests.helpers.live_recordings import RATE, tone

FLAGS = (
    "frag_keyframe+empty_moov",
    "frag_keyframe+empty_moov+default_base_moof",
    "frag_every_frame+empty_moov+omit_tfhd_offset",
    "frag_keyframe+delay_moov+negative_cts_offsets",
    "dash+delay_moov",
    "cmaf",
)


@functools.cache
def written(flags: str, *, has_picture: bool = False) -> bytes:
    """A tone in fragments of half a second."""
    file = io.BytesIO()
    options = {"movflags": flags, "frag_duration": "500000"}
    with av.open(file, "w", format="mp4", options=options) as out:
        picture = out.add_stream("mpeg4", rate=25, width=32, height=32, pix_fmt="yuv420p") if has_picture else None
        sound = out.add_stream("aac", rate=RATE, layout="mono")
        samples = tone()
        for at in range(0, len(samples) - 1024, 1024):
            frame = av.AudioFrame.from_ndarray(samples[None, at : at + 1024], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = RATE, at
            out.mux(sound.encode(frame))
            if picture is not None:
                out.mux(picture.encode(av.VideoFrame(32, 32, "yuv420p")))
        for stream in filter(None, (sound, picture)):
            out.mux(stream.encode(None))
    return file.getvalue()


def heads(data: bytes) -> list[tuple[int, int]]:
    """Place and length of the head of each fragment."""
    places = [found.start() - 4 for found in re.finditer(b"moof....mfhd", data, re.DOTALL)]
    return [(at, int.from_bytes(data[at : at + 4], "big")) for at in places]


@pytest.mark.parametrize("has_picture", [False, True])
@pytest.mark.parametrize("flags", FLAGS)
def test_every_head_that_is_whole_is_readable(flags: str, *, has_picture: bool) -> None:
    """However it is written, and however many tracks there are."""
    data = written(flags, has_picture=has_picture)
    tracks = tracks_of(data[: heads(data)[0][0]])
    assert tracks == ({1, 2} if has_picture else {1})
    assert len(heads(data)) >= 3
    for at, n_bytes in heads(data):
        assert is_readable(data[at : at + n_bytes], tracks)
        assert is_readable(data[at : at + n_bytes], frozenset())


@given(at=st.integers(8, 200), byte=st.integers(0, 255))
def test_a_wrong_byte_is_no_wrong_recording(at: int, byte: int) -> None:
    """What stands before the fragment is heard, whichever of its bytes is wrong."""
    data = written(FLAGS[0])
    place, n_bytes = heads(data)[2]
    assert heard(with_patch(data, place + at % n_bytes, bytes([byte])))[0] > 0.9


def test_what_does_not_fill_a_head_is_not_readable() -> None:
    """A byte more or less, a part that is longer than it says, and no track at all."""
    data = written(FLAGS[0])
    at, n_bytes = heads(data)[1]
    head, track = data[at : at + n_bytes], data[at : at + n_bytes].index(b"trun") - 4
    for wrong in (head[:-1], head + b"\0", head[:24], with_patch(head, track + 12, b"\0\0\0\x63")):
        assert not is_readable(wrong, frozenset())
    assert not is_readable(head, frozenset({7}))
