"""Tests of streamer/audio/movies.py: MP4 whose boxes have wrong sizes."""

from __future__ import annotations

import functools
import io
import random
import re

import av
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamer.audio import movies
from tests.helpers.damaged_recordings import FRAME_S, heard, with_patch
from tests.helpers.live_recordings import RATE, SECONDS, recorded, tone


@functools.cache
def written(codec: str = "aac", **options: str) -> bytes:
    """The tone in an MP4 whose index follows its sound, as phones record."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4", options=options) as out:
        stream = out.add_stream(codec, rate=RATE, layout="mono")
        samples = tone()[: len(tone()) // 1024 * 1024]
        for at in range(0, len(samples), 1024):
            frame = av.AudioFrame.from_ndarray(samples[None, at : at + 1024], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = RATE, at
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return file.getvalue()


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1) | st.sampled_from([0, 1, 8, 2**31]))
def test_no_size_of_the_sound_is_believed(size: int) -> None:
    """The index is found behind it."""
    data = written()
    assert data.index(b"mdat") < data.index(b"moov")
    if size == 1:
        return  # stands for a size of 64 bits
    assert heard(with_patch(data, data.index(b"mdat") - 4, size.to_bytes(4, "big")))[0] == heard(data)[0]


def test_no_long_size_of_the_sound_is_believed_either() -> None:
    """One of 64 bits stands behind the name."""
    data = written()
    at = data.index(b"mdat") - 4
    for size in (0, 100, 2**40):
        damaged = with_patch(data, at - 8, b"\0\0\0\1mdat" + size.to_bytes(8, "big"))  # over the empty box before it
        assert heard(damaged)[0] == heard(data)[0]


@settings(max_examples=40)
@given(st.floats(0.3, 0.8), st.integers(1, 900), st.booleans(), st.integers(0, 99))
def test_bytes_lost_or_added_in_a_fragment_cost_no_others(part: float, n: int, is_more: bool, seed: int) -> None:
    """The next fragment is found, and the loss is told."""
    data = recorded("fragmented mp4")
    at = int(part * len(data))
    middle = random.Random(seed).randbytes(n) if is_more else b""
    seconds, notes = heard(data[:at] + middle + data[at + (0 if is_more else n) :])
    assert seconds > SECONDS - 1.0
    assert notes or seconds == pytest.approx(SECONDS, abs=FRAME_S)


def heads(data: bytes) -> list[int]:
    """Where the heads of fragments begin."""
    return [found.start() - 4 for found in re.finditer(b"moof....mfhd", data, re.DOTALL)]


@settings(max_examples=40)
@given(
    head=st.integers(2, 7),
    at=st.integers(-10, 130),
    n=st.integers(1, 130),
    kind=st.sampled_from(("lost", "more", "over")),
)
@example(head=5, at=15, n=56, kind="lost")
@example(head=2, at=36, n=1, kind="over")
def test_a_damaged_head_of_a_fragment_is_no_damaged_recording(head: int, at: int, n: int, kind: str) -> None:
    """FFmpeg would give up all of it. A place that leads astray may cost what follows."""
    data = recorded("fragmented mp4")
    at += heads(data)[head]
    middle = b"" if kind == "lost" else random.Random(n).randbytes(n)
    seconds, _ = heard(data[:at] + middle + data[at if kind == "more" else at + n :])
    assert seconds > SECONDS * (head - 1) / len(heads(data))


@pytest.mark.parametrize("size", [0, 9, 100, 2**31])
def test_a_wrong_size_of_the_head_of_a_fragment_costs_nothing(size: int) -> None:
    """Its parts tell where its sound begins."""
    data = recorded("fragmented mp4")
    for head in heads(data)[1:]:
        assert heard(with_patch(data, head, size.to_bytes(4, "big")))[0] == heard(data)[0]


def test_a_long_head_of_a_fragment_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One fragment may hold hours, and its head the size of each packet; what cannot be checked is left alone."""
    data = recorded("fragmented mp4")
    assert heard(data)[0] == pytest.approx(SECONDS, abs=FRAME_S)
    monkeypatch.setattr(movies, "MAX_CHECKED_BYTES", 100)
    assert heard(data)[0] == pytest.approx(SECONDS, abs=FRAME_S)


@pytest.mark.parametrize("n", [4, 9, 20])
def test_a_first_box_that_is_damaged_costs_nothing(n: int) -> None:
    """What stands behind it tells what it was."""
    for data in (written(), written(moov_size="4000"), recorded("fragmented mp4")):
        assert heard(random.Random(n).randbytes(n) + data[n:])[0] == heard(data)[0]
