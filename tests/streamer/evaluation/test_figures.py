"""Tests of streamer/evaluation/figures.py: the keys of `streamer eval --json`, which scripts of users read."""

from __future__ import annotations

import json
from dataclasses import replace

import msgspec

from streamer.evaluation.figures import Figures, to_json
from streamer.evaluation.report import report
from tests.helpers.judged import judged

RATES = {
    "recordings", "wer", "wer_interval", "words", "errors",
    "formatted_wer", "formatted_wer_interval", "formatted_words",
}  # fmt: skip
ALWAYS = RATES | {
    "tags",
    "model",
    "files",
    "kinds",
    "commit_latency_s",
    "first_partial_latency_s",
    "partial_churn",
    "rtf",
    "decoder_token_ms",
    "hallucinated_words_nonspeech",
}


def everything() -> Figures:
    """Figures with every optional part."""
    one = replace(judged("red sun", "rat sun", "red sun"), word_errors_s=[0.1], utterance_errors_s=([0.2], [0.3]))
    figures = report("tiny.en", [one, judged("sky", "sky", "sky", name="y")], [3.0], 1.0)
    return msgspec.structs.replace(figures, delays={"low": figures.of_delay()})


def test_keys_of_the_document() -> None:
    """Without what was not asked for."""
    document = json.loads(to_json(report("tiny.en", [judged("red", "rat")], [], 1.0)))

    assert document.keys() == ALWAYS
    assert document["kinds"][0].keys() == RATES | {"kind", "language"}
    assert document["files"][0].keys() == {
        "id", "kind", "language", "wer", "errors", "words", "reference", "text", "turns", "differences",
        "formatted_wer", "formatted_differences",
    }  # fmt: skip
    assert document["files"][0]["turns"][0] == {
        "start_s": 0.0,
        "end_s": 1.0,
        "reason": "silence",
        "language": "en",
        "words": [{"text": "rat", "start_s": 0.1, "end_s": 0.5, "confidence": 0.9}],
    }
    assert document["files"][0]["differences"] == [{"at": 0, "said": "red", "heard": "rat"}]
    assert document["commit_latency_s"] == {"p50": 0.8, "p95": 0.89}


def test_keys_of_what_is_asked_for() -> None:
    """A comparison, times and delays add keys and change none."""
    document = json.loads(to_json(everything()))

    assert document.keys() == ALWAYS | {
        "one_shot", "word_start_error_s", "utterance_start_error_s", "utterance_end_error_s", "delays",
    }  # fmt: skip
    assert document["one_shot"].keys() == document["kinds"][0]["one_shot"].keys()
    assert document["one_shot"].keys() == {
        "wer", "wer_interval", "difference", "difference_interval", "errors_only_live", "errors_only_one_shot",
        "formatted_wer", "formatted_difference", "formatted_difference_interval",
    }  # fmt: skip
    assert document["files"][0]["one_shot"] == {"errors": 0, "text": "red sun"}
    assert document["delays"]["low"].keys() == {
        "wer", "wer_interval", "commit_latency_s", "first_partial_latency_s", "partial_churn",
    }  # fmt: skip
    assert document["wer_interval"] == [0.0, 0.5]


def test_what_could_not_be_measured_is_null() -> None:
    """Its key stays."""
    document = json.loads(to_json(report("tiny.en", [judged("", "")], [], 1.0)))

    assert (document["wer"], document["wer_interval"], document["decoder_token_ms"]) == (None, None, None)
