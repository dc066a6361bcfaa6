"""Tests of streamer/library/windows.py: windows as published, and where recordings are cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import whisper
from prometheus_client import CollectorRegistry

from streamer.library.windows import WindowDecoder, cut_in_pauses
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
