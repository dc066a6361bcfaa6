"""Tests of streamer/library/windows.py: windows as published, and where recordings are cut."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
import whisper
from prometheus_client import CollectorRegistry

from streamer.audio.frontend import Features, FeatureState, FrontEnd
from streamer.audio.mel import MelSpectrogram
from streamer.audio.vad import VoiceDetector, read_weights
from streamer.library.windows import HEARD_AT_ONCE, WindowDecoder, cut_in_pauses, voice_probabilities
from streamer.telemetry.metrics import EngineMetrics
from tests.helpers.engines import published
from tests.helpers.recordings import Recording

FRAMES_PER_S = 31.25


def test_windows_are_the_published_ones(recordings: dict[str, Recording]) -> None:
    """The same mel window as the published front end makes of the same padded samples."""
    samples = recordings["dev-LJ002-0020"].samples
    decoder = WindowDecoder(*published("tiny.en"), EngineMetrics(CollectorRegistry()))

    theirs = whisper.log_mel_spectrogram(whisper.pad_or_trim(samples))
    ours = (decoder.log_mel(samples) + 4.0) / 4.0

    torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=0)


class CountingFrontEnd(FrontEnd):
    """Remembers how many samples each call had."""

    def __init__(self) -> None:
        super().__init__(MelSpectrogram(80), VoiceDetector(read_weights()))
        self.counts: list[int] = []

    def extract(self, states: Sequence[FeatureState], samples: Sequence[torch.Tensor]) -> list[Features]:
        self.counts += [len(block) for block in samples]
        return super().extract(states, samples)


def test_a_long_recording_is_heard_in_pieces(recordings: dict[str, Recording]) -> None:
    """Memory does not grow with its length, and the pieces hear what one call hears."""
    samples = np.resize(recordings["dev-LJ002-0020"].samples, 2 * HEARD_AT_ONCE + 1000)
    front_end = CountingFrontEnd()

    voice = voice_probabilities(front_end, samples)
    whole = front_end.extract([FeatureState()], [torch.from_numpy(samples)])[0].probabilities

    assert max(front_end.counts[:-1]) == HEARD_AT_ONCE
    np.testing.assert_allclose(voice, whole, atol=1e-3)
    assert voice_probabilities(front_end, samples[:0]) == []


class TestCuts:
    """Where recordings of more than 30 s are cut."""

    @staticmethod
    def lengths(seconds: float, *pauses: tuple[float, float]) -> list[float]:
        """Lengths of the windows, seconds, of a recording with these pauses."""
        voice = np.ones(int(seconds * FRAMES_PER_S))
        for start, end in pauses:
            voice[int(start * FRAMES_PER_S) : int(end * FRAMES_PER_S)] = 0.0
        samples = np.zeros(int(seconds * 16_000), np.float32)
        return [len(window) / 16_000 for window in cut_in_pauses(samples, voice.tolist())]

    def test_short_recordings_stay_whole(self) -> None:
        """Up to 30 s, whatever pauses there are."""
        assert self.lengths(30.0, (17.0, 25.0)) == [30.0]

    def test_the_longest_pause_in_reach(self) -> None:
        """In its middle; pauses of the first half of a window do not count."""
        found = self.lengths(50.0, (5.0, 9.0), (18.0, 20.0), (27.0, 27.5))

        assert found[0] == pytest.approx(19.0, abs=0.1)
        assert (round(sum(found), 3), max(found) <= 30.0) == (50.0, True)

    def test_speech_without_pause_is_cut_at_30_s(self) -> None:
        """Is cut at 30 s, since it must be."""
        assert self.lengths(70.0) == pytest.approx([30.0, 30.0, 10.0])
