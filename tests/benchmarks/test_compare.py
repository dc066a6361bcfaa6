"""Tests of benchmarks.compare: its arithmetic, and what a run is given and leaves; the runs are measurements."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import compare
from benchmarks.compare import Side, figures_of, lines
from streamer.weights import default_store


def test_ratios_are_taken_round_by_round() -> None:
    """The median of the ratios, not the ratio of the medians: rounds differ by what else the machine does."""
    of_a = [{"start, s": 1.0}, {"start, s": 10.0}, {"start, s": 4.0}]
    of_b = [{"start, s": 0.5}, {"start, s": 5.0}, {"start, s": 8.0}]

    [line] = lines(of_a, of_b)

    assert line.split() == ["start,", "s", "4.000", "5.000", "0.50"]


def test_what_one_commit_does_not_measure_is_left_out() -> None:
    """Figures have been added from commit to commit; a figure of zero has no ratio."""
    [line] = lines([{"places": 0.0, "old": 1.0}], [{"places": 6.0, "new": 1.0}])

    assert line.split() == ["places", "0.000", "6.000", "-"]


def test_figures_of_a_run_are_those_it_has() -> None:
    """Percentiles are read out of their objects; what is null is none."""
    result = {"commit_latency_s": {"p50": 0.9, "p95": 1.4}, "decoder_token_ms": None, "cpu_s_per_audio_s": 0.2}

    assert figures_of(result) == {"commit, P50, s": 0.9, "commit, P95, s": 1.4, "processor s / audio s": 0.2}


def test_a_run_that_fails_has_no_figures(tmp_path: Path) -> None:
    """Those that the round before has left are not taken for its own."""
    (tmp_path / "bench.json").write_text(json.dumps({"results": [{"cpu_s_per_audio_s": 0.2}]}))
    side = Side("HEAD", Path(compare.__file__).parents[1], tmp_path)

    with pytest.raises(FileNotFoundError):
        compare._bench(side, "no-such-model", 1, 1.0)


def test_a_side_finds_the_models_of_this_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cache folder is its own; the models that were pulled are not there, but a way to them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    (default_store() / "small").mkdir(parents=True)
    variables = Side("HEAD", tmp_path, tmp_path / "side" / "cache").variables

    monkeypatch.setenv("XDG_CACHE_HOME", variables["XDG_CACHE_HOME"])

    assert variables["PYTHONPATH"] == str(tmp_path)
    assert default_store().is_relative_to(tmp_path / "side")
    assert (default_store() / "small").is_dir()
