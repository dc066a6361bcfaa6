"""Tests of streamer.audio.channels: which channels and tracks are chosen, over random layouts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamer.audio.channels import LevelMeter, Levels, choose_mix, choose_track, plain_mean, sounds
from streamer.audio.pcm import Samples

RATE = 8000
SURROUND = ("FL", "FR", "FC", "LFE", "BL", "BR")
N = 6 * RATE


def speech(seed: int = 0) -> Samples:
    """Noise that comes and goes as syllables and pauses do, (n,): lively."""
    source = np.random.default_rng(seed)
    loudness = np.repeat(source.choice([0.001, 0.02, 0.1, 0.3], N * 5 // RATE), RATE // 5)
    return (source.standard_normal(N) * loudness * 0.3).astype(np.float32)


def noise(seed: int = 1, level: float = 0.05) -> Samples:
    """Steady noise, (n,)."""
    return (level * np.random.default_rng(seed).standard_normal(N)).astype(np.float32)


def hum() -> Samples:
    """Of the mains, (n,)."""
    return (0.2 * np.sin(2 * np.pi * 50 * np.arange(N) / RATE)).astype(np.float32)


NOTHING = np.zeros(N, np.float32)


def levels(*channels: NDArray[np.float32]) -> Levels:
    """Levels of channels, measured in pieces."""
    samples = np.stack(channels, axis=1)
    meter = LevelMeter(len(channels), RATE)
    for at in range(0, len(samples), 3001):
        meter.add(samples[at : at + 3001])
    return meter.levels()


def weights(*channels: NDArray[np.float32], speakers: tuple[str, ...] = ()) -> list[float]:
    """Weights of channels."""
    return [round(float(weight), 3) for weight in choose_mix(levels(*channels), speakers).weights]


def test_channels_that_sound_are_mixed_to_their_mean() -> None:
    """One copied, two speakers, a quiet one beside a loud one, and nothing at all: nothing is to be told."""
    for channels in ((speech(), speech()), (speech(1), speech(2)), (speech(1), speech(2) * 0.02), (NOTHING, NOTHING)):
        mix = choose_mix(levels(*channels))
        assert (mix.weights.tolist(), mix.about) == ([0.5, 0.5], "")


@settings(max_examples=60)
@given(st.integers(2, 8), st.data())
def test_speech_in_any_one_channel_is_heard_in_full(n_channels: int, data: st.DataObject) -> None:
    """Wherever it stands among silence, noise and hum; and it is told."""
    place = data.draw(st.integers(0, n_channels - 1))
    others = st.sampled_from([NOTHING, noise(), noise(2, 0.2), hum()])
    channels = [data.draw(others) for _ in range(n_channels)]
    channels[place] = speech()
    mix = choose_mix(levels(*channels))
    assert np.flatnonzero(mix.weights).tolist() == [place]
    assert mix.weights[place] == 1
    assert f"channel {place + 1} is transcribed" in mix.about


@settings(max_examples=60)
@given(st.lists(st.tuples(st.booleans(), st.floats(0.4, 1.0)), min_size=2, max_size=6))
def test_channels_out_of_phase_never_cancel_each_other(signs: list[tuple[bool, float]]) -> None:
    """One sound with any signs and levels: what is mixed has the level of a channel."""
    source = speech()
    channels = [source * gain * (-1 if is_turned else 1) for is_turned, gain in signs]
    mixed = np.stack(channels, axis=1) @ choose_mix(levels(*channels)).weights
    assert np.sqrt((mixed**2).mean()) > 0.19 * np.sqrt((source**2).mean())


def test_opposite_channels_are_turned_over() -> None:
    """And no longer once they are in phase again."""
    source = speech()
    mix = choose_mix(levels(source, -source))
    assert mix.weights.tolist() == [0.5, -0.5]
    assert mix.is_turned
    assert mix.about.startswith("the channels are out of phase: channels 1, 2 are transcribed, some turned over")
    assert not choose_mix(levels(source, source), was_turned=True).is_turned
    assert not choose_mix(levels(speech(1), speech(2)), was_turned=True).is_turned


def test_the_centre_is_heard_most() -> None:
    """Among many channels with sound; the channel for deep sound is left out, unless it is alone."""
    sounding = [speech(seed) for seed in range(6)]
    found = weights(*sounding, speakers=SURROUND)
    assert found[2] == max(found)
    assert found[3] == 0
    assert sum(found) == pytest.approx(1, abs=0.01)
    assert weights(*(NOTHING,) * 3, speech(), NOTHING, NOTHING, speakers=SURROUND) == [0, 0, 0, 1, 0, 0]
    assert weights(*sounding) == [0.167] * 6, "of unknown speakers the mean is taken"


def test_noise_alone_is_heard() -> None:
    """A steady channel is left out only where another one may hold speech."""
    assert weights(noise(1), noise(2)) == [0.5, 0.5]
    assert weights(noise(1), NOTHING) == [1, 0]


def test_time_in_which_channels_cancel_is_counted() -> None:
    """However short against the whole."""
    source = speech()
    meter = LevelMeter(2, RATE)
    meter.add(np.stack([source, np.where(np.arange(N) < N // 2, source, -source)], axis=1))
    assert meter.cancelled_s == pytest.approx(N / RATE / 2, abs=0.5)


def test_a_recording_shorter_than_a_frame_has_levels() -> None:
    """So that its channels are chosen too."""
    meter = LevelMeter(2, RATE)
    meter.add(np.stack([NOTHING[:50], speech()[:50]], axis=1))
    assert meter.levels().sounding.tolist() == [False, True]


def test_tracks_are_chosen_by_what_sounds() -> None:
    """The first with something lively, else the first that sounds, else the first that could be decoded."""
    silent, steady, lively = [levels(NOTHING)], [levels(noise())], [levels(speech())]
    assert choose_track([silent, lively]) == 1
    assert choose_track([lively, lively]) == 0
    assert choose_track([steady, silent, lively]) == 2
    assert choose_track([silent, steady]) == 1
    assert choose_track([[], silent]) == 1
    assert choose_track([silent, silent]) == 0
    assert choose_track([[]]) == 0
    assert [sounds(layouts) for layouts in (silent, steady, [])] == [False, True, False]


def test_the_plain_mean_is_of_all() -> None:
    """Each channel alike."""
    assert plain_mean(4).weights.tolist() == [0.25] * 4
