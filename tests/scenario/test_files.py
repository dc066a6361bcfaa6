"""`streamer transcribe` and `streamer eval` as users run them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.helpers.daemon_process import streamer, word_errors
from tests.helpers.recordings import Recording


@pytest.fixture
def clip(speech: Path) -> Path:
    """Seven seconds of one sentence."""
    return speech / "dev-sns-0870.flac"


@pytest.mark.parametrize("format_", ["srt", "json"])
def test_transcribe(clip: Path, recordings: dict[str, Recording], format_: str) -> None:
    """The text on standard output, the log elsewhere."""
    result = streamer("transcribe", clip, "--format", format_)

    assert result.returncode == 0, result.stderr
    assert word_errors(recordings["dev-sns-0870"].text, text_of(result.stdout, format_)) < 0.2


def text_of(out: str, format_: str) -> str:
    """The words alone."""
    if format_ == "json":
        document = json.loads(out)
        assert document["turns"][0]["words"][0]["start_s"] < 1.0
        return str(document["text"])
    if format_ == "srt":
        cues = re.findall(r"(\d+)\n(00:00:\d\d,\d{3}) --> (00:00:\d\d,\d{3})\n(.*?)\n\n", out, re.DOTALL)
        assert [int(number) for number, *_ in cues] == list(range(1, len(cues) + 1))
        return " ".join(text for *_, text in cues)
    return out


def test_eval(speech: Path, tmp_path: Path) -> None:
    """The figures of the contract, over the recordings that the model knows."""
    out = tmp_path / "report.json"

    # a machine that is busy, or admits few: that bounds a service, not an evaluation
    few = {"STREAMER_SCHEDULER_MAX_SESSIONS": "1"}

    result = streamer("eval", speech / "manifest.jsonl", "--model", "tiny.en", "--pace", "fast", "--json", out, **few)

    assert result.returncode == 0, result.stderr
    report = json.loads(out.read_text())
    assert {
        "model",
        "files",
        "wer",
        "words",
        "commit_latency_s",
        "first_partial_latency_s",
        "partial_churn",
        "rtf",
        "decoder_token_ms",
        "hallucinated_words_nonspeech",
    } <= set(report)
    assert report["model"] == "tiny.en"
    assert {"id", "wer", "reference", "text"} <= set(report["files"][0])
    assert len(report["files"]) == 5
    assert report["wer"] < 0.2
    for latency in ("commit_latency_s", "first_partial_latency_s", "decoder_token_ms"):
        assert report[latency]["p50"] <= report[latency]["p95"]
    assert "left out: 1 recordings in languages tiny.en does not know" in result.stderr
