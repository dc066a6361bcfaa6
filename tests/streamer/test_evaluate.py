"""Tests of streamer/evaluate.py: manifests, scores of hand-made recitals, and one whole run."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamer.config import Config, ModelConfig, SchedulerConfig
from streamer.errors import ConfigError
from streamer.evaluate import ManifestRow, Scored, _scorer, percentiles, read_manifest, run
from streamer.events import TurnEnd
from streamer.recital import Recital

CONFIG = Config(model=ModelConfig(name="tiny.en", threads=1), scheduler=SchedulerConfig(max_sessions=4))


def recital(*texts: str) -> Recital:
    """A recital of these turns."""
    turns = [
        TurnEnd(turn=i, text=text, start_s=0.0, end_s=1.0, language="en", reason="silence", words=())
        for i, text in enumerate(texts)
    ]
    return Recital(duration_s=2.0, turns=turns)


def scored(text: str, *heard: str, language: str = "en") -> Scored:
    """The score of one recording."""
    return _scorer()(ManifestRow(id="x", file="x.wav", text=text, language=language), recital(*heard))


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


class TestScore:
    """Word errors under Whisper's normaliser."""

    def test_spelling_is_no_error(self) -> None:
        """Case, marks, numbers and British spelling do not count in English; turns are joined."""
        score = scored("In eighteen thirteen, the colour wasn't grey.", "in 1813 the color", "was not gray")
        assert (score.errors, score.words) == (0, 7)

    def test_errors_are_counted(self) -> None:
        """Substitutions, deletions and insertions are one error each."""
        assert scored("a cat sat there", "a dog sat there").errors == 1
        assert scored("red blue green", "red green").errors == 1
        assert scored("red blue", "red dark blue sky").errors == 2
        assert scored("red blue").errors == 2

    def test_other_languages_have_the_basic_normaliser(self) -> None:
        """Outside English only case and marks are levelled."""
        score = scored("Die Werbung, ja!", "die werbung ja", language="de")
        assert (score.errors, score.words) == (0, 3)

    def test_nothing_said_has_no_rate(self) -> None:
        """A recording without speech has no words to be wrong; what was heard is kept for the count."""
        score = scored("", "Thank you.")
        assert (score.errors, score.words, score.reference) == (0, 0, "")
        assert score.hypothesis


def testpercentiles() -> None:
    """Median and 95th percentile, in milliseconds' precision; none where nothing was measured."""
    assert percentiles([]) is None
    assert percentiles([float(x) for x in range(101)]) == {"p50": 50.0, "p95": 95.0}


@pytest.fixture
def quiet_weights() -> object:
    """Reading the voice activity weights warns, see tests/streamer/test_vad.py."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


@pytest.mark.usefixtures("quiet_weights")
def test_run(tmp_path: Path, speech: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Speech and silence become the figures of the contract and a table; unknown languages are left out."""
    soundfile.write(tmp_path / "silence.wav", np.zeros(8000, np.float32), 16_000)
    path = manifest(
        tmp_path,
        {"id": "year", "file": str(speech / "dev-LJ002-0020.flac"), "text": "In eighteen thirteen", "language": "en",
         "kind": "short"},
        {"id": "silence", "file": "silence.wav", "language": "en", "kind": "noise"},
        {"id": "foreign", "file": "missing.wav", "text": "ja", "language": "de", "kind": "short"},
        {"id": "other", "file": "missing.wav", "text": "so", "language": "en", "kind": "long"},
    )  # fmt: skip
    out = tmp_path / "report.json"
    assert run(CONFIG, path, "fast", out, ["short", "noise"], []) == 0
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
    captured = capsys.readouterr()
    assert "left out: 1 recordings" in captured.err
    assert "short" in captured.out


@pytest.mark.usefixtures("quiet_weights")
def test_nothing_to_evaluate(tmp_path: Path) -> None:
    """A choice that leaves no recording is an error before anything is played."""
    path = manifest(tmp_path, {"id": "a", "file": "a.wav", "kind": "short"})
    with pytest.raises(ConfigError, match="no recording of the kinds"):
        run(CONFIG, path, "fast", None, ["long"], [])
