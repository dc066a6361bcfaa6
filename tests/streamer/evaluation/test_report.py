"""Tests of streamer/evaluation/report.py: figures and tables of hand-made transcripts."""

from __future__ import annotations

from dataclasses import replace

from streamer.evaluation.playback import LiveTranscript
from streamer.evaluation.report import Played, difference_lines, percentiles, report, table
from streamer.evaluation.scoring import word_scorer
from streamer.protocol.events import TurnEnd


def played(said: str, heard: str, whole: str | None = None, kind: str = "short", name: str = "x") -> Played:
    """A recording of two seconds, what was heard live, and what at once."""
    score = word_scorer()
    turn = TurnEnd(turn=0, text=heard, start_s=0.0, end_s=1.0, language="en", reason="silence", words=())
    return Played(
        id=name,
        kind=kind,
        language="en",
        text=said,
        transcript=LiveTranscript(
            duration_s=2.0, turns=[turn], first_sight_s=[0.1], commit_s=[0.7, 0.9], n_rewritten=1
        ),
        score=score("en", said, heard),
        one_shot=None if whole is None else score("en", said, whole),
        one_shot_text=whole,
    )


def test_rates_weigh_words_and_not_recordings() -> None:
    """Errors of all recordings over the words of all."""
    figures = report("tiny.en", [played("red", "blue"), played("cat dog bird", "cat dog bird")], [3.0], 1.0)

    assert (figures["wer"], figures["words"]) == (0.25, 4)
    assert figures["files"][0]["differences"] == [{"at": 0, "said": "red", "heard": "blue"}]
    assert (figures["partial_churn"], figures["rtf"]) == (0.5, 0.25)


def test_a_recording_played_twice_is_one_recording_to_the_interval() -> None:
    """Its performances are not independent: as many of one recording say no more of other recordings than one."""
    alone = [played("cat dog", "cat cow", name="a"), played("sun moon", "sun moon", name="b")]
    often = [p for p in alone for _ in range(4)]

    once, again = report("tiny.en", alone, [], 1.0), report("tiny.en", often, [], 1.0)

    assert again["wer"] == once["wer"] == 0.25
    assert again["wer_interval"] == once["wer_interval"] == (0.0, 0.5)


def test_words_on_non_speech_are_counted_apart() -> None:
    """They are in no rate."""
    figures = report("tiny.en", [played("", "Thank you.", kind="nonspeech")], [], 1.0)

    assert (figures["wer"], figures["words"], figures["hallucinated_words_nonspeech"]) == (None, 0, 2)


def test_errors_that_only_one_of_two_decodings_makes() -> None:
    """A word that both have wrong in the same way is in neither list."""
    both = played("red blue green", "rat blue gray", "rat blew green")

    figures = report("tiny.en", [both], [], 1.0)

    found = {key: figures["one_shot"][key] for key in ("wer", "difference", "errors_only_live", "errors_only_one_shot")}
    assert found == {"wer": 0.66667, "difference": 0.0, "errors_only_live": 1, "errors_only_one_shot": 1}
    assert list(difference_lines([both])) == [
        "x  live 2, one-shot 2",
        "    only live:     green→gray",
        "    only one-shot: blue→blew",
    ]


def test_wrong_words_are_listed_by_recording() -> None:
    """Recordings without any are left out."""
    assert list(difference_lines([played("red", "red"), played("red", "rat")])) == ["x  red→rat"]


def test_table_has_a_row_for_each_kind() -> None:
    """And one for all, with intervals; the comparison has columns only where there is one."""
    rows = [played("red", "red"), played("red", "rat", name="y"), played("red", "red", kind="noisy", name="z")]
    plain = table(report("tiny.en", rows, [], 1.0))

    assert [line.split()[:2] for line in plain.splitlines()[1:4]] == [["noisy", "en"], ["short", "en"], ["all", "3"]]
    assert "[0.00, 100.00]" in plain.splitlines()[2]
    assert "one-shot" not in plain
    assert "100.00" in table(report("tiny.en", [played("red", "red", "rat")], [], 1.0))


def test_times_are_reported_where_they_are_known() -> None:
    """How far off starts are, early or late alike."""
    known = replace(played("red", "red"), word_errors_s=[-0.1, 0.1], utterance_errors_s=([0.2], [-0.3]))

    figures = report("tiny.en", [known, played("red", "red")], [], 1.0)

    assert figures["word_start_error_s"] == {"p50": 0.1, "p95": 0.1}
    assert (figures["utterance_start_error_s"]["p50"], figures["utterance_end_error_s"]["p50"]) == (0.2, 0.3)
    assert "word_start_error_s" in table(figures)
    assert "word_start_error_s" not in report("tiny.en", [played("red", "red")], [], 1.0)


def test_percentiles() -> None:
    """Median and 95th percentile, in milliseconds' precision; none where nothing was measured."""
    assert percentiles([]) is None
    assert percentiles([float(x) for x in range(101)]) == {"p50": 50.0, "p95": 95.0}
