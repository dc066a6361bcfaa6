"""Tests of streamer/evaluation/one_shot.py: whole recordings at once, equal to the published package; where cut."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import whisper
from prometheus_client import CollectorRegistry

from streamer.evaluation.one_shot import OneShot, cut_in_pauses
from streamer.telemetry.metrics import EngineMetrics
from tests.helpers.engines import published
from tests.helpers.hearing import front_end
from tests.helpers.recordings import Recording

FRAMES_PER_S = 31.25


def one_shot(folder: Path) -> OneShot:
    """On tiny.en, results kept in a folder."""
    metrics = EngineMetrics(CollectorRegistry())
    return OneShot(*published("tiny.en"), front_end(), metrics, folder=folder, weights="tiny.en float32")


def test_windows_are_the_published_ones(tmp_path: Path, recordings: dict[str, Recording]) -> None:
    """The same mel window as the published front end makes of the same padded samples."""
    samples = recordings["dev-LJ002-0020"].samples

    theirs = whisper.log_mel_spectrogram(whisper.pad_or_trim(samples))
    ours = (one_shot(tmp_path).log_mel(samples) + 4.0) / 4.0

    # the last own frame sees the padding in theirs and in ours
    torch.testing.assert_close(ours[:, : len(samples) // 160], theirs[:, : len(samples) // 160], atol=2e-3, rtol=0)
    torch.testing.assert_close(ours[:, -1000:], theirs[:, -1000:])


def test_results_are_kept(tmp_path: Path, recordings: dict[str, Recording]) -> None:
    """The second time the text comes from the file, for the same samples, language and weights alone."""
    samples = recordings["dev-LJ002-0020"].samples
    assert one_shot(tmp_path).text(samples, "en").rstrip(".").lower() == "in 1813"

    (path,) = tmp_path.iterdir()
    path.write_text(json.dumps({"text": "from the file"}))

    assert one_shot(tmp_path).text(samples, "en") == "from the file"
    assert one_shot(tmp_path).text(np.zeros(1600, np.float32), "en") != "from the file"


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
