"""Tests of streamer.audio.mixer: causal, without clicks, the same for every split."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamer.audio.mixer import FRAME_S, Mixer, MonoSignal
from streamer.audio.pcm import mean_of_channels
from streamer.errors import AudioFormatError
from tests.streamer.audio.test_channels import NOTHING, RATE, N, levels, noise, speech

FRAME = int(RATE * FRAME_S)


def stereo(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, 2)."""
    return np.stack([left, right], axis=1)


def power(samples: NDArray[np.float32]) -> float:
    """Mean square."""
    return float((samples.astype(np.float64) ** 2).mean())


def test_two_channels_with_sound_are_their_very_mean() -> None:
    """Bit for bit, as long as nothing else is called for."""
    for samples in (stereo(speech(), speech()), stereo(speech(1), speech(2)), stereo(NOTHING, NOTHING)):
        np.testing.assert_array_equal(Mixer(2, RATE).mix(samples), mean_of_channels(samples))


@settings(max_examples=50)
@given(
    st.lists(st.sampled_from(["speech", "turned", "noise", "nothing"]), min_size=2, max_size=5),
    st.lists(st.integers(0, 4000), max_size=20),
)
def test_any_split_gives_the_same_samples(names: list[str], cuts: list[int]) -> None:
    """However a stream is cut into messages."""
    known = {"speech": speech(), "turned": -speech(), "noise": noise(), "nothing": NOTHING}
    samples = np.stack([known[name] for name in names], axis=1)[:4000]
    whole = Mixer(len(names), RATE).mix(samples)
    mixer, edges = Mixer(len(names), RATE), [0, *sorted(cuts), 4000]
    split = [mixer.mix(samples[a:b]) for a, b in itertools.pairwise(edges)]
    np.testing.assert_array_equal(np.concatenate(split), whole)


def test_the_future_changes_nothing() -> None:
    """What is said of a sample depends on those before it alone."""
    first, second = stereo(speech(), -speech()), stereo(speech(), noise())
    for n in (100, FRAME, 5 * FRAME + 7):
        one = Mixer(2, RATE).mix(np.concatenate([first[:n], second[n:]]))
        other = Mixer(2, RATE).mix(first)
        np.testing.assert_array_equal(one[:n], other[:n])


@pytest.mark.parametrize(
    ("left", "right"),
    [(speech(), -speech()), (NOTHING, speech()), (speech(), NOTHING)],
    ids=["turned", "right", "left"],
)
def test_what_sounds_is_heard_in_full_after_two_frames(left: NDArray[np.float32], right: NDArray[np.float32]) -> None:
    """Channels that cancel each other, and a channel beside a silent one."""
    mixed = Mixer(2, RATE).mix(stereo(left, right))
    np.testing.assert_allclose(
        np.abs(mixed[3 * FRAME :]), np.abs((left + (right if not left.any() else 0))[3 * FRAME :]), atol=1e-6
    )


def test_a_noisy_channel_leaves_the_mix() -> None:
    """Once it has been steady for some seconds beside speech."""
    mixed = Mixer(2, RATE).mix(stereo(noise(), speech()))
    assert power(mixed[-RATE:] - speech()[-RATE:]) < 1e-9
    assert power(mixed[:RATE] - (speech() / 2 + noise() / 2)[:RATE]) < 1e-9


def test_a_channel_that_begins_to_speak_is_heard() -> None:
    """At once, and from then on both are, through the pauses of either."""
    left, right = np.concatenate([NOTHING, speech(1)]), np.concatenate([speech(2), speech(2)])
    mixed = Mixer(2, RATE).mix(stereo(left, right))
    both = (left + right) / 2
    np.testing.assert_allclose(mixed[N + 6 * FRAME :], both[N + 6 * FRAME :], atol=1e-6)


def test_changes_do_not_click() -> None:
    """Between two frames with other weights the mix moves no faster than the sound itself does, and a little more."""
    tone = (0.3 * np.sin(2 * np.pi * 100 * np.arange(N) / RATE)).astype(np.float32)
    half = N // 2
    for other in (-tone, np.where(np.arange(N) < half, tone, -tone), np.where(np.arange(N) < half, tone, 0)):
        mixed = Mixer(2, RATE).mix(stereo(tone, other.astype(np.float32)))
        # at the moment where the other channel itself jumps, so does the mean
        steps = np.abs(np.diff(mixed))
        steps[half - 2 : half + 1] = 0
        assert steps.max() <= np.abs(np.diff(tone)).max() + 0.3 / FRAME + 1e-6


def test_what_is_known_of_the_whole_holds_from_the_first_sample() -> None:
    """A survey found the silent channel before."""
    samples = stereo(NOTHING, speech())
    np.testing.assert_array_equal(Mixer(2, RATE, known=levels(NOTHING, speech())).mix(samples), speech())


def test_channels_that_are_turned_over_later_are_found_in_a_known_recording() -> None:
    """The whole is in phase on the average, its second half is not."""
    right = np.where(np.arange(N) < N // 2, speech(), -speech())
    mixed = Mixer(2, RATE, known=levels(speech(), right)).mix(stereo(speech(), right))
    heard = power(mixed[N // 2 + RATE :])
    assert heard == pytest.approx(power(speech()[N // 2 + RATE :]), rel=0.01)


def test_one_channel_passes_through() -> None:
    """And is resampled."""
    np.testing.assert_array_equal(Mixer(1, RATE).mix(speech()[:, None]), speech())
    signal = MonoSignal(1, RATE)
    assert len(signal.convert(speech()[:, None])) + len(signal.finish()) == 2 * N


def test_live_floats_in_the_range_of_integers_are_refused() -> None:
    """Clipped they would be noise; where the whole was measured before, they are divided."""
    samples = speech()[:, None]
    with pytest.raises(AudioFormatError, match="floats in the range of integers"):
        MonoSignal(1, RATE).convert(32768 * samples)
    known = MonoSignal(1, RATE, full_scale=32768)
    np.testing.assert_array_equal(known.convert(32768 * samples), MonoSignal(1, RATE).convert(samples))
