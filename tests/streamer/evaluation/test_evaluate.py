"""Tests of streamer/evaluation/evaluate.py: whole runs of the command, on two recordings."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamer.config import Config, ModelConfig, SchedulerConfig
from streamer.errors import ConfigError
from streamer.evaluation.evaluate import run
from streamer.evaluation.play import EvaluationOptions, Pace

CONFIG = Config(model=ModelConfig(name="tiny.en", threads=1), scheduler=SchedulerConfig(max_sessions=4))


def manifest(folder: Path, *rows: object) -> Path:
    """A manifest of these rows; text is written as it is."""
    path = folder / "manifest.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def quiet_weights() -> object:
    """Reading the voice activity weights warns, see tests/streamer/test_vad.py."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


@pytest.mark.usefixtures("quiet_weights")
@pytest.mark.parametrize("pace", ["fast", "simulated"])
def test_speech_and_silence_become_figures_and_a_table(
    pace: Pace, tmp_path: Path, speech: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the errors of decoding at once, of words and of utterances; unknown languages are left out."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    soundfile.write(tmp_path / "silence.wav", np.zeros(8000, np.float32), 16_000)
    path = manifest(
        tmp_path,
        {"id": "year", "file": str(speech / "dev-LJ002-0020.flac"), "text": "In eighteen thirteen", "language": "en",
         "kind": "short", "segments": [{"start": 0.0, "end": 1.5, "text": ""}]},
        {"id": "silence", "file": "silence.wav", "language": "en", "kind": "noise"},
        {"id": "foreign", "file": "missing.wav", "text": "ja", "language": "de", "kind": "short"},
        {"id": "other", "file": "missing.wav", "text": "so", "language": "en", "kind": "long"},
    )  # fmt: skip
    out = tmp_path / "report.json"
    times = tmp_path / "times.json"
    times.write_text('{"year": [{"word": "in", "start_s": 0.05, "end_s": 0.2}]}')
    options = EvaluationOptions(
        pace=pace,
        one_shot=True,
        revise=True,
        differences=True,
        word_times=times,
        kinds=("short", "noise"),
        json_out=out,
    )
    assert run(CONFIG, path, options) == 0
    report = json.loads(out.read_text())
    assert [file["id"] for file in report["files"]] == ["year", "silence"]
    assert {"id", "wer", "reference", "text"} <= report["files"][0].keys()
    assert report["files"][0]["wer"] == 0.0
    assert report["files"][0]["reference"] == "In eighteen thirteen"
    assert report["files"][1]["wer"] is None
    assert (report["model"], report["wer"], report["words"]) == ("tiny.en", 0.0, 2)
    for name in ("commit_latency_s", "first_partial_latency_s", "decoder_token_ms"):
        assert report[name].keys() == {"p50", "p95"}
    assert report["decoder_token_ms"]["p50"] > 0
    assert report["rtf"] > 0
    assert report["partial_churn"] >= 0
    assert report["hallucinated_words_nonspeech"] == 0
    assert (report["one_shot"]["wer"], report["one_shot"]["difference"]) == (0.0, 0.0)
    assert (report["revised_wer"], report["revised_difference"], report["files"][0]["revised_errors"]) == (0.0, 0.0, 0)
    assert report["revision_s_per_audio_s"] > 0
    assert report["word_start_error_s"]["p95"] < 0.25
    assert report["utterance_end_error_s"]["p95"] < 0.5
    assert len(list((tmp_path / "cache").rglob("one-shot/*.json"))) == 2
    captured = capsys.readouterr()
    assert "left out: 1 recordings" in captured.err
    assert "short" in captured.out


@pytest.mark.usefixtures("quiet_weights")
def test_a_choice_without_recordings_is_refused(tmp_path: Path) -> None:
    """Before anything is played; with what there is to choose from."""
    path = manifest(tmp_path, {"id": "a", "file": "a.wav", "kind": "short", "language": "en"})
    with pytest.raises(ConfigError, match=r"no recording of the kinds .*it has the kinds short and the languages en$"):
        run(CONFIG, path, EvaluationOptions(pace="fast", kinds=("long",)))
    path.write_text("\n")
    with pytest.raises(ConfigError, match="no recording; expected JSON lines with id, file and text"):
        run(CONFIG, path, EvaluationOptions(pace="fast"))


@pytest.mark.usefixtures("quiet_weights")
def test_each_recording_is_played_behind_each_lead_in(tmp_path: Path, speech: Path) -> None:
    """Errors of times count from where the recording begins."""
    path = manifest(
        tmp_path,
        {"id": "year", "file": str(speech / "dev-LJ002-0020.flac"), "text": "In eighteen thirteen", "language": "en",
         "segments": [{"start": 0.0, "end": 1.5, "text": ""}]},
    )  # fmt: skip
    out = tmp_path / "report.json"

    assert run(CONFIG, path, EvaluationOptions(pace="simulated", lead_ins_s=(0.0, 1.13), json_out=out)) == 0

    report = json.loads(out.read_text())
    assert [file["id"] for file in report["files"]] == ["year", "year"]
    assert report["files"][1]["turns"][0]["start_s"] - report["files"][0]["turns"][0]["start_s"] == pytest.approx(
        1.13, abs=0.2
    )
    assert report["utterance_end_error_s"]["p95"] < 0.5


@pytest.mark.usefixtures("quiet_weights")
def test_a_plot_measures_every_delay(tmp_path: Path, speech: Path) -> None:
    """Every setting is measured, and named in the figures and in the picture."""
    path = manifest(
        tmp_path, {"id": "year", "file": str(speech / "dev-LJ002-0020.flac"), "text": "In 1813", "language": "en"}
    )
    out, picture = tmp_path / "report.json", tmp_path / "curve.svg"

    assert run(CONFIG, path, EvaluationOptions(pace="simulated", plot=picture, json_out=out)) == 0

    delays = json.loads(out.read_text())["delays"]
    assert list(delays) == ["minimal", "low", "medium", "high"]
    assert all(f">{name}<" in picture.read_text() for name in delays)
    assert delays["minimal"]["commit_latency_s"]["p50"] <= delays["high"]["commit_latency_s"]["p50"]
