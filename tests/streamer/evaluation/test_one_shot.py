"""Tests of streamer/evaluation/one_shot.py: texts are kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from streamer.evaluation.one_shot import OneShot
from streamer.telemetry.metrics import EngineMetrics
from tests.helpers.engines import published
from tests.helpers.hearing import front_end
from tests.helpers.recordings import Recording


def one_shot(folder: Path) -> OneShot:
    """On tiny.en, results kept in a folder."""
    metrics = EngineMetrics(CollectorRegistry())
    return OneShot(*published("tiny.en"), front_end(), metrics, folder=folder, weights="tiny.en float32")


def test_results_are_kept(tmp_path: Path, recordings: dict[str, Recording]) -> None:
    """The second time the text comes from the file, for the same samples, language and weights alone."""
    samples = recordings["dev-LJ002-0020"].samples
    assert one_shot(tmp_path).text(samples, "en").rstrip(".").lower() == "in 1813"

    (path,) = tmp_path.iterdir()
    path.write_text(json.dumps({"text": "from the file"}))

    assert one_shot(tmp_path).text(samples, "en") == "from the file"
    assert one_shot(tmp_path).text(np.zeros(1600, np.float32), "en") != "from the file"


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b'{"text": "In'])
def test_a_damaged_result_is_made_again(tmp_path: Path, content: bytes) -> None:
    """As if there were none; also where nothing can be kept."""
    silence = np.zeros(1600, np.float32)
    text = one_shot(tmp_path).text(silence, "en")
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(content)

    assert one_shot(tmp_path).text(silence, "en") == text
    assert path.read_bytes() == whole
    assert one_shot(path / "folder").text(silence, "en") == text
