"""Tests of streamer/evaluation/evaluate.py: manifests, and whole runs."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamer.config import Config, ModelConfig, SchedulerConfig
from streamer.errors import ConfigError
from streamer.evaluation.evaluate import EvaluationOptions, Pace, read_word_times, run
from streamer.evaluation.manifest import ManifestRow, read_manifest

CONFIG = Config(model=ModelConfig(name="tiny.en", threads=1), scheduler=SchedulerConfig(max_sessions=4))


def manifest(folder: Path, *rows: object) -> Path:
    """A manifest of these rows; text is written as it is."""
    path = folder / "manifest.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


class TestManifest:
    """Reading JSON lines."""

    def test_rows(self, tmp_path: Path) -> None:
        """Blank lines and unknown fields are skipped; text, language and kind may be missing."""
        path = manifest(
            tmp_path, {"id": "a", "file": "a.wav", "text": "so", "language": "en", "kind": "short", "licence": "CC0"},
            "", {"id": "b", "file": "b.wav"},
        )  # fmt: skip
        assert read_manifest(path) == [
            ManifestRow(id="a", file="a.wav", text="so", language="en", kind="short"),
            ManifestRow(id="b", file="b.wav"),
        ]

    @pytest.mark.parametrize("line", ["{", "[]", '{"id": "b"}', '{"id": 3, "file": "b.wav"}', "b.wav"])
    def test_errors_name_the_line(self, tmp_path: Path, line: str) -> None:
        """A line that is no row is named with its number and what is expected."""
        path = manifest(tmp_path, {"id": "a", "file": "a.wav"}, line)
        with pytest.raises(ConfigError, match=r"manifest\.jsonl line 2: .* expected an object with id, file and text"):
            read_manifest(path)

    def test_bytes_that_are_no_text(self, tmp_path: Path) -> None:
        """A file that is not UTF-8, such as a recording given by mistake, is named as what it is not."""
        path = tmp_path / "speech.flac"
        path.write_bytes(b"fLaC\xff\xfe\x00")
        with pytest.raises(ConfigError, match=r"speech\.flac"):
            read_manifest(path)


@pytest.fixture
def quiet_weights() -> object:
    """Reading the voice activity weights warns, see tests/streamer/test_vad.py."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


@pytest.mark.usefixtures("quiet_weights")
@pytest.mark.parametrize("pace", ["fast", "simulated"])
def test_run(
    pace: Pace, tmp_path: Path, speech: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Speech and silence become the figures of the contract and a table; unknown languages are left out."""
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
    options = EvaluationOptions(pace=pace, one_shot=True, differences=True, word_times=times, kinds=("short", "noise"))
    assert run(CONFIG, path, options, out) == 0
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
    assert report["word_start_error_s"]["p95"] < 0.25
    assert report["utterance_end_error_s"]["p95"] < 0.5
    assert len(list((tmp_path / "cache").rglob("one-shot/*.json"))) == 2
    captured = capsys.readouterr()
    assert "left out: 1 recordings" in captured.err
    assert "short" in captured.out


@pytest.mark.usefixtures("quiet_weights")
def test_nothing_to_evaluate(tmp_path: Path) -> None:
    """A choice that leaves no recording is an error before anything is played."""
    path = manifest(tmp_path, {"id": "a", "file": "a.wav", "kind": "short"})
    with pytest.raises(ConfigError, match="no recording of the kinds"):
        run(CONFIG, path, EvaluationOptions(pace="fast", kinds=("long",)), None)


@pytest.mark.usefixtures("quiet_weights")
def test_recordings_behind_silence(tmp_path: Path, speech: Path) -> None:
    """Each is played once behind each length of it, and its times count from where it begins."""
    path = manifest(
        tmp_path,
        {"id": "year", "file": str(speech / "dev-LJ002-0020.flac"), "text": "In eighteen thirteen", "language": "en",
         "segments": [{"start": 0.0, "end": 1.5, "text": ""}]},
    )  # fmt: skip
    out = tmp_path / "report.json"

    assert run(CONFIG, path, EvaluationOptions(pace="simulated", lead_ins_s=(0.0, 1.13)), out) == 0

    report = json.loads(out.read_text())
    assert [file["id"] for file in report["files"]] == ["year", "year"]
    assert report["files"][1]["turns"][0]["start_s"] - report["files"][0]["turns"][0]["start_s"] == pytest.approx(
        1.13, abs=0.2
    )
    assert report["utterance_end_error_s"]["p95"] < 0.5


@pytest.mark.usefixtures("quiet_weights")
def test_all_delays_in_one_picture(tmp_path: Path, speech: Path) -> None:
    """Every setting is measured, and named in the figures and in the picture."""
    path = manifest(
        tmp_path, {"id": "year", "file": str(speech / "dev-LJ002-0020.flac"), "text": "In 1813", "language": "en"}
    )
    out, picture = tmp_path / "report.json", tmp_path / "curve.svg"

    assert run(CONFIG, path, EvaluationOptions(pace="simulated", plot=picture), out) == 0

    delays = json.loads(out.read_text())["delays"]
    assert list(delays) == ["minimal", "low", "medium", "high"]
    assert all(f">{name}<" in picture.read_text() for name in delays)
    assert delays["minimal"]["commit_latency_s"]["p50"] <= delays["high"]["commit_latency_s"]["p50"]


@pytest.mark.parametrize("text", ["[]", '{"a": [{"word": "so"}]}', "{"])
def test_word_times_that_are_none(tmp_path: Path, text: str) -> None:
    """A file of another shape is named, with what is expected."""
    path = tmp_path / "times.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"times\.json: .*expected id -> list of objects with word"):
        read_word_times(path)
