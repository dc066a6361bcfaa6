"""Tests of streamer/audio/vad.py: the published network, for many sessions at once."""

from __future__ import annotations

import sys
import warnings
from importlib import metadata
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from streamer.audio.vad import CONTEXT_SAMPLES, FRAME_SAMPLES, PIECE_FRAMES, VoiceDetector, VoiceState, read_weights
from streamer.errors import ModelNotFoundError
from tests.helpers.hearing import noise, voice_weights
from tests.helpers.recordings import Recording

DETECTOR = VoiceDetector(voice_weights())


def frames_of(recording: Recording) -> Tensor:
    """Its whole frames, (n, 512)."""
    samples = torch.from_numpy(recording.samples)
    n = samples.shape[0] // FRAME_SAMPLES
    return samples[: n * FRAME_SAMPLES].reshape(n, FRAME_SAMPLES)


def published(frames: Tensor) -> list[float]:
    """What the published file, run as it is, says of each frame."""
    file = next(f for f in metadata.files("silero-vad") or [] if f.name == "silero_vad.jit")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        network: Any = torch.jit.load(str(file.locate()), map_location="cpu")
    network.reset_states()
    with torch.inference_mode():
        return [float(network(frame[None], 16_000)) for frame in frames]


@pytest.mark.parametrize("name", ["dev-cv-22058266", "dev-de-cheetah"])
def test_says_what_the_published_network_says(recordings: dict[str, Recording], name: str) -> None:
    """Frame by frame the same probability as the file it takes its weights from."""
    frames = frames_of(recordings[name])
    [found] = DETECTOR([frames], [VoiceState()])
    torch.testing.assert_close(torch.tensor(found), torch.tensor(published(frames)), rtol=0, atol=1e-4)
    assert max(found) > 0.9
    assert min(found) < 0.1


@pytest.mark.parametrize("decibels", [24, 30, 36])
@pytest.mark.parametrize("name", ["dev-cv-22058266", "dev-de-cheetah"])
def test_a_quiet_voice_after_a_loud_one_is_found(recordings: dict[str, Recording], name: str, decibels: int) -> None:
    """A voice far below the voice before it, after a pause of a second or more, is found as if it were alone."""
    frames = frames_of(recordings[name])
    pause = noise(40 * FRAME_SAMPLES).reshape(40, FRAME_SAMPLES) * 1e-4
    quiet = frames * 10 ** (-decibels / 20)
    [alone] = DETECTOR([quiet], [VoiceState()])
    [found] = DETECTOR([torch.cat([frames, pause, quiet])], [VoiceState()])
    n_alone, n_after = (sum(p > 0.5 for p in each[-len(quiet) :]) for each in (alone, found))
    assert n_alone > 10
    assert n_after >= 0.8 * n_alone


def test_silence_and_noise_are_no_voice() -> None:
    """Zeros and white noise stay well below the threshold."""
    silence, hiss = torch.zeros(40, FRAME_SAMPLES), noise(40 * FRAME_SAMPLES).reshape(40, FRAME_SAMPLES) * 0.1
    found = DETECTOR([silence, hiss], [VoiceState(), VoiceState()])
    assert max(found[0] + found[1]) < 0.3


@settings(max_examples=25)
@given(counts=st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=3), min_size=1, max_size=5))
def test_together_as_alone(counts: list[list[int]]) -> None:
    """Sessions judged together, in blocks of any length, are judged as each alone in one go."""
    sessions = [noise(sum(blocks) * FRAME_SAMPLES, seed).reshape(-1, FRAME_SAMPLES) for seed, blocks in
                enumerate(counts)]  # fmt: skip
    states = [VoiceState() for _ in sessions]
    together: list[list[float]] = [[] for _ in sessions]
    for turn in range(3):
        rows = [i for i, blocks in enumerate(counts) if len(blocks) > turn]
        if rows:
            blocks = [sessions[i].split(counts[i])[turn] for i in rows]
            for i, found in zip(rows, DETECTOR(blocks, [states[i] for i in rows]), strict=True):
                together[i] += found
    for i, frames in enumerate(sessions):
        [alone] = DETECTOR([frames], [VoiceState()])
        assert together[i] == pytest.approx(alone, abs=1e-5)


def test_more_frames_than_a_piece_make_no_difference() -> None:
    """What many sessions have waiting for them is judged in pieces: memory does not grow with it."""
    frames = noise((2 * PIECE_FRAMES + 3) * FRAME_SAMPLES).reshape(-1, FRAME_SAMPLES)
    state = VoiceState()
    in_blocks = [found for block in frames.split(100) for found in DETECTOR([block], [state])[0]]
    assert DETECTOR([frames], [VoiceState()])[0] == pytest.approx(in_blocks, abs=1e-5)


def test_state_remembers_the_end_of_the_frame() -> None:
    """The last samples of a frame are seen again with the next; earlier ones are gone."""
    state, frames = VoiceState(), noise(2 * FRAME_SAMPLES).reshape(2, FRAME_SAMPLES)
    DETECTOR([frames], [state])
    assert torch.equal(state.context, frames[1, -CONTEXT_SAMPLES:])
    assert state.hidden.abs().sum() > 0


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the wheel the error says what to install."""
    missing = metadata.PackageNotFoundError("silero-vad")

    def no_files(_name: str) -> None:
        raise missing

    monkeypatch.setattr(metadata, "files", no_files)
    with pytest.raises(ModelNotFoundError, match="pip install 'silero-vad"):
        read_weights()


def test_wheel_without_the_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheel that lacks the weights is as good as none."""
    monkeypatch.setattr(metadata, "files", lambda _name: [])
    with pytest.raises(ModelNotFoundError, match="voice activity"):
        read_weights()


@pytest.mark.filterwarnings("ignore:.torch.jit.load. is deprecated:DeprecationWarning")
def test_reading_leaves_the_threads_alone() -> None:
    """The package would set torch to one thread on import; its file is read without importing it."""
    before = torch.get_num_threads()
    assert read_weights().keys() == voice_weights().keys()
    assert torch.get_num_threads() == before
    assert "silero_vad" not in sys.modules
