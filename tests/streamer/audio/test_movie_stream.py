"""Tests of streamer/audio/movie_stream.py: MP4 that comes in pieces."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.audio.containers import ContainerDecoder
from streamer.audio.movie_stream import MAX_BOXES, MAX_LATE_BYTES
from streamer.audio.pcm import Samples
from streamer.errors import AudioFormatError
from tests.helpers.live_recordings import heard_by_ffmpeg, recorded
from tests.streamer.audio.test_movies import written

FILES = {"late": written(), "early": written(moov_size="4000"), "fragments": recorded("fragmented mp4")}


def decoded(data: bytes, n: int) -> tuple[Samples, int]:
    """All samples of messages of `n` bytes, (n_samples,), and how many of them came before the end."""
    decoder = ContainerDecoder()
    try:
        blocks = [block for at in range(0, len(data), n) for block in decoder.blocks(data[at : at + n])]
        n_early = sum(map(len, blocks))
        return np.concatenate([*blocks, *decoder.end()]), n_early
    finally:
        decoder.close()


@settings(max_examples=20)
@given(st.sampled_from(sorted(FILES)), st.integers(1, 9000))
def test_the_index_may_stand_anywhere(name: str, n: int) -> None:
    """The sound is that of the whole file; what comes behind its index is heard at once."""
    samples, n_early = decoded(FILES[name], n)
    assert np.array_equal(samples, heard_by_ffmpeg(FILES[name]))
    assert (n_early == 0) == (name == "late")


@pytest.mark.parametrize("n", [7, 4096, 100_000])
def test_boxes_before_the_index_have_an_end(n: int) -> None:
    """A few stand there; each of a hundred thousand would be looked at on the event loop."""
    movie, free = FILES["fragments"], b"\0\0\0\x08free"
    name = movie[: int.from_bytes(movie[:4], "big")]
    with pytest.raises(AudioFormatError, match="more than 1000 boxes before its index"):
        decoded(name + free * MAX_BOXES, n)
    assert np.array_equal(decoded(movie.replace(name, name + 9 * free, 1), n)[0], heard_by_ffmpeg(movie))


def test_what_is_kept_has_an_end() -> None:
    """With what to send instead."""
    data = FILES["late"]
    sound = data[: data.index(b"mdat") - 4] + (2**31).to_bytes(4, "big") + b"mdat"
    with pytest.raises(AudioFormatError, match="8 MiB at most: send it in fragments"):
        decoded(sound + bytes(MAX_LATE_BYTES), 1 << 20)


def test_a_recording_without_its_index_is_refused() -> None:
    """It broke off before that was written."""
    with pytest.raises(AudioFormatError, match="no audio that can be decoded"):
        decoded(FILES["late"][:-300], 5000)
