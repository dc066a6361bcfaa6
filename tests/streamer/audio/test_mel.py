"""Tests of streamer/audio/mel.py: the published spectrogram, in any chunking, in a bounded window."""

from __future__ import annotations

import pytest
import torch
import whisper.audio
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from streamer.audio.mel import (
    FIXED_MAXIMUM,
    HOP_LENGTH,
    N_FFT,
    PIECE_FRAMES,
    FrameStream,
    MelSpectrogram,
    MelWindow,
    mel_filters,
    scale,
    silence_value,
    window_gain,
)
from tests.helpers.hearing import cut_at, noise
from tests.helpers.recordings import Recording

RECORDINGS = ["dev-jfk", "dev-cv-22058266", "dev-de-cheetah"]
SPECTROGRAM = MelSpectrogram(80)


def numbered(first: int, n: int) -> Tensor:
    """Frames (n, 2) that say their own number in the first band."""
    return torch.arange(first, first + n, dtype=torch.float32)[:, None].repeat(1, 2)


def test_only_quiet_sound_is_raised() -> None:
    """By whole factors of ten, until its loudest entry is that of quiet speech; ordinary speech is left alone."""
    assert [window_gain(loudest) for loudest in (2.0, -0.5, -1.0, -1.01, -2.0, -2.6)] == [0, 0, 0, 1, 1, 2]
    assert [window_gain(loudest) for loudest in (-4.9, -5.1, -10.0)] == [4, 4, 4]


@pytest.mark.parametrize("n_mels", [80, 128])
def test_filters_are_the_published_ones(n_mels: int) -> None:
    """The triangles computed here are those that the published front end reads from its file."""
    published = whisper.audio.mel_filters(torch.device("cpu"), n_mels)
    torch.testing.assert_close(mel_filters(n_mels), published, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("n_mels", [80, 128])
@pytest.mark.parametrize("name", RECORDINGS)
def test_spectrogram_is_the_published_one(recordings: dict[str, Recording], name: str, n_mels: int) -> None:
    """A recording has the published features once it is scaled under its own maximum."""
    samples = torch.from_numpy(recordings[name].samples)
    log_mel = MelSpectrogram(n_mels).whole(samples)
    published = whisper.audio.log_mel_spectrogram(samples, n_mels, padding=whisper.audio.N_SAMPLES)
    assert log_mel.shape == (n_mels, samples.shape[0] // HOP_LENGTH)
    # float32 filters from two sources, and a logarithm near its floor
    expected = published[:, : log_mel.shape[1]]
    torch.testing.assert_close(scale(log_mel, float(log_mel.max())), expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize("n_samples", [0, 1, 159, 160, 200, 201, 400, 719])
def test_short_recordings_have_their_frames(n_samples: int) -> None:
    """A recording has one frame for each whole hop, however short it is."""
    assert SPECTROGRAM.whole(noise(n_samples)).shape == (80, n_samples // HOP_LENGTH)


def test_more_frames_than_a_piece_make_no_difference() -> None:
    """What many sessions have waiting for them is computed in pieces: memory does not grow with it."""
    frames = noise((2 * PIECE_FRAMES + 3) * N_FFT).reshape(-1, N_FFT)
    torch.testing.assert_close(SPECTROGRAM(frames), torch.cat([SPECTROGRAM(block) for block in frames.split(100)]))


def test_digital_silence_is_finite() -> None:
    """Zeros have the lowest power, not minus infinity, and scale to the value of silence."""
    log_mel = SPECTROGRAM.whole(torch.zeros(1600))
    assert log_mel.unique().tolist() == [-10.0]
    assert scale(log_mel).unique().tolist() == [silence_value()]


def test_scale_clamps_below_the_floor() -> None:
    """Eight decades below the maximum become one value; the maximum maps to a fixed one."""
    scaled = scale(torch.tensor([-10.0, FIXED_MAXIMUM - 9, FIXED_MAXIMUM - 8, FIXED_MAXIMUM, 2.0]))
    floor = silence_value()
    assert scaled.tolist() == pytest.approx([floor, floor, floor, (FIXED_MAXIMUM + 4) / 4, 1.5])


@given(places=st.lists(st.integers(0, 6000), max_size=12), n_samples=st.integers(0, 6000))
def test_chunking_makes_no_difference(places: list[int], n_samples: int) -> None:
    """Frames cut from blocks of any length are those cut from the whole."""
    samples = noise(n_samples)
    stream = FrameStream()
    cut = [frames for block in cut_at(samples, places) for frames in stream.push(block)]
    whole = list(FrameStream().push(samples))
    assert sum(frames.shape[0] for frames in cut) == sum(frames.shape[0] for frames in whole)
    if whole:
        assert torch.equal(torch.cat(cut), whole[0])


def test_frames_come_as_soon_as_they_are_complete() -> None:
    """Frame i is centred on sample 160 i, so it is complete 200 samples later."""
    stream = FrameStream()
    n_frames = [sum(f.shape[0] for f in stream.push(block)) for block in noise(2000).split(40)]
    for n_samples, n in zip(range(40, 2001, 40), torch.tensor(n_frames).cumsum(0).tolist(), strict=True):
        expected = 0 if n_samples <= N_FFT // 2 else (n_samples - N_FFT // 2) // HOP_LENGTH + 1
        assert n == expected


def test_incremental_features_equal_the_whole(recordings: dict[str, Recording]) -> None:
    """A recording fed in 100 ms blocks has the features of the whole, to the last bit but a few."""
    samples = torch.from_numpy(recordings["dev-cv-22058266"].samples)
    stream = FrameStream()
    frames = [SPECTROGRAM(frames) for block in samples.split(1600) for frames in stream.push(block)]
    live = torch.cat(frames).T
    # products of other shapes may add in another order
    torch.testing.assert_close(live, SPECTROGRAM.whole(samples)[:, : live.shape[1]], rtol=0, atol=1e-4)


class TestMelWindow:
    """The rolling tail of frames."""

    @given(
        capacity=st.integers(1, 20),
        doings=st.lists(st.tuples(st.sampled_from(["append", "forget"]), st.integers(0, 30)), max_size=40),
    )
    def test_a_window_holds_what_a_cut_list_would_hold(self, capacity: int, doings: list[tuple[str, int]]) -> None:
        """Under any use it holds what a list cut to its capacity would hold, under the same numbers."""
        window = MelWindow(2, capacity)
        start = end = 0
        for what, n in doings:
            if what == "append":
                window.append(numbered(end, n))
                end += n
                start = max(start, end - capacity)
            else:
                window.forget(n)
                start = min(max(start, n), end)
            assert (window.start, window.end) == (start, end)
            if start < end:
                assert window.gather(start, end)[0].tolist() == list(range(start, end))

    def test_gathers_a_copy(self) -> None:
        """What was gathered stays as it was, whatever comes later."""
        window = MelWindow(2, 4)
        window.append(numbered(0, 4))
        gathered = window.gather(1, 3)
        window.append(numbered(4, 4))
        assert gathered.shape == (2, 2)
        assert gathered.is_contiguous()
        assert gathered[0].tolist() == [1.0, 2.0]

    @pytest.mark.parametrize(("start", "end"), [(0, 2), (1, 3), (4, 7), (3, 3), (4, 3)])
    def test_refuses_what_it_does_not_hold(self, start: int, end: int) -> None:
        """Frames that are gone, not there yet, or none at all are an error that names what is held."""
        window = MelWindow(2, 4)
        window.append(numbered(0, 4))
        window.append(numbered(4, 2))
        with pytest.raises(ValueError, match="held are 2 to 6"):
            window.gather(start, end)

    def test_memory_is_bounded(self) -> None:
        """A long stream needs no more room than a short one."""
        window = MelWindow(2, 30)
        held = set()
        for first in range(0, 3000, 7):
            window.append(numbered(first, 7))
            held.add(window.end - window.start)
        assert max(held) == 30
        assert window.end == 3003
