"""Tests of streamer/audio/frontend.py: what is heard does not depend on blocks or on company."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from streamer.audio.frontend import Features, FeatureState, FrontEnd
from streamer.audio.mel import HOP_LENGTH, N_FFT, MelSpectrogram
from streamer.audio.pcm import SAMPLE_RATE
from streamer.audio.vad import FRAME_SAMPLES, VoiceDetector, VoiceState
from streamer.errors import DeviceError
from tests.helpers.hearing import cut_at, front_end, noise, voice_weights
from tests.helpers.recordings import Recording

FRONT_END = front_end()


def hear(blocks: list[Tensor], using: FrontEnd = FRONT_END) -> Features:
    """What one session hears of these blocks, joined."""
    state = FeatureState()
    return joined([using.extract([state], [block])[0] for block in blocks])


def joined(parts: list[Features]) -> Features:
    """Several pieces of hearing as one."""
    return Features(torch.cat([part.frames for part in parts]), [p for part in parts for p in part.probabilities])


def assert_same(one: Features, other: Features) -> None:
    """Equal but for the order of additions."""
    torch.testing.assert_close(one.frames, other.frames, rtol=0, atol=1e-3)
    torch.testing.assert_close(torch.tensor(one.probabilities), torch.tensor(other.probabilities), rtol=0, atol=1e-4)


def test_nothing_in_nothing_out() -> None:
    """Blocks too short for a frame yield none yet, and none is lost."""
    state = FeatureState()
    [heard] = FRONT_END.extract([state], [noise(N_FFT // 2)])
    assert heard.frames.shape == (0, 80)
    assert heard.probabilities == []
    assert FRONT_END.extract([], []) == []


@settings(max_examples=25)
@given(places=st.lists(st.integers(0, 4000), max_size=6), n_samples=st.integers(1, 4000))
def test_blocks_make_no_difference(places: list[int], n_samples: int) -> None:
    """Any chunking hears the same frames and the same voice as the whole."""
    samples = noise(n_samples)
    heard = hear(cut_at(samples, places))
    assert_same(heard, hear([samples]))
    assert len(heard.probabilities) == n_samples // FRAME_SAMPLES


class FailingDetector(VoiceDetector):
    """Fails each second time, when it has heard the frames."""

    n_calls = 0

    def __call__(self, frames: list[Tensor], states: list[VoiceState]) -> list[list[float]]:
        found = super().__call__(frames, states)
        self.n_calls += 1
        if self.n_calls % 2:
            raise RuntimeError("CUDA error: out of memory")
        return found


def test_a_device_that_fails_is_asked_again() -> None:
    """Nothing is lost and nothing heard twice: a call that fails changes no state."""
    failing, state, parts = FrontEnd(MelSpectrogram(80), FailingDetector(voice_weights())), FeatureState(), []
    blocks = [noise(n) for n in (3000, 700, 4000)]
    for block in blocks:
        with pytest.raises(DeviceError, match="of 1 sessions failed on the device: CUDA error"):
            failing.extract([state], [block])
        parts += failing.extract([state], [block])
    assert_same(joined(parts), hear(blocks))


def test_together_as_alone(recordings: dict[str, Recording]) -> None:
    """Sessions heard in one go, some with nothing to say, hear what each hears alone."""
    names = ["dev-cv-22058266", "dev-LJ002-0020", "dev-de-cheetah"]
    sounds = [torch.from_numpy(recordings[name].samples) for name in names]
    states = [FeatureState() for _ in sounds]
    parts: list[list[Features]] = [[] for _ in sounds]
    sizes = [1600, 4800, 333]
    for turn in range(12):
        blocks = [sound[turn * n : (turn + 1) * n] for sound, n in zip(sounds, sizes, strict=True)]
        for mine, heard in zip(parts, FRONT_END.extract(states, blocks), strict=True):
            mine.append(heard)
    for sound, n, mine in zip(sounds, sizes, parts, strict=True):
        assert_same(joined(mine), hear([sound[: 12 * n]]))


def test_speech_is_heard(recordings: dict[str, Recording]) -> None:
    """Real speech has one mel frame each 10 ms, one probability each 32 ms, and voice in it."""
    samples = torch.from_numpy(recordings["dev-LJ002-0020"].samples)
    heard = hear(list(samples.split(1600)), front_end(128))
    assert heard.frames.shape == ((samples.shape[0] - N_FFT // 2) // HOP_LENGTH + 1, 128)
    assert len(heard.probabilities) == samples.shape[0] // FRAME_SAMPLES
    assert max(heard.probabilities) > 0.9


@pytest.mark.parametrize("offset", [-0.9, 0.6])
def test_speech_on_a_constant_offset_is_heard(offset: float, recordings: dict[str, Recording]) -> None:
    """Nearly as much voice as without it, although the speech is 20 dB quieter than the offset."""
    samples = 0.1 * torch.cat([torch.zeros(SAMPLE_RATE // 2), torch.from_numpy(recordings["dev-LJ002-0020"].samples)])

    def voiced(heard: Features) -> int:
        return sum(probability > 0.5 for probability in heard.probabilities)

    assert voiced(hear([samples + offset])) > 0.9 * voiced(hear([samples]))
