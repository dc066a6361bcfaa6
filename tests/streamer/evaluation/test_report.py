"""Tests of streamer/evaluation/report.py: figures of hand-made transcripts."""

from __future__ import annotations

from dataclasses import replace

from msgspec import UNSET

from streamer.evaluation.percentiles import Percentiles
from streamer.evaluation.report import report
from streamer.evaluation.scoring import Difference, word_scorer
from tests.helpers.judged import judged


def test_rates_weigh_words_and_not_recordings() -> None:
    """Errors of all recordings over the words of all."""
    figures = report("tiny.en", [judged("red", "blue"), judged("cat dog bird", "cat dog bird")], [3.0], 1.0)

    assert (figures.wer, figures.words) == (0.25, 4)
    assert figures.files[0].differences == (Difference(0, "red", "blue"),)
    assert (figures.partial_churn, figures.rtf) == (0.5, 0.25)


def test_a_recording_played_twice_is_one_recording_to_the_interval() -> None:
    """Its runs are not independent: many of one recording say no more about other recordings than one run does."""
    alone = [judged("cat dog", "cat cow", name="a"), judged("sun moon", "sun moon", name="b")]
    often = [one for one in alone for _ in range(4)]

    once, again = report("tiny.en", alone, [], 1.0), report("tiny.en", often, [], 1.0)

    assert again.wer == once.wer == 0.25
    assert again.wer_interval == once.wer_interval == (0.0, 0.5)


def test_words_on_non_speech_are_counted_apart() -> None:
    """They are in no rate."""
    figures = report("tiny.en", [judged("", "Thank you.", kind="nonspeech")], [], 1.0)

    assert (figures.wer, figures.words, figures.hallucinated_words_nonspeech) == (None, 0, 2)


def test_an_error_of_both_decodings_belongs_to_neither_alone() -> None:
    """Beside the rates of both there is the rate of the difference, and what each of them has wrong alone."""
    figures = report("tiny.en", [judged("red blue green", "rat blue gray", "rat blew green")], [], 1.0)

    assert figures.one_shot
    assert (figures.one_shot.wer, figures.one_shot.difference) == (0.66667, 0.0)
    assert (figures.one_shot.errors_only_live, figures.one_shot.errors_only_one_shot) == (1, 1)


def test_errors_of_times_are_absolute_and_reported_where_they_are_known() -> None:
    """Early and late count alike; a recording without known times adds nothing."""
    known = replace(judged("red", "red"), word_errors_s=[-0.1, 0.1], utterance_errors_s=([0.2], [-0.3]))

    figures = report("tiny.en", [known, judged("red", "red")], [], 1.0)

    assert figures.word_start_error_s == Percentiles(p50=0.1, p95=0.1)
    assert figures.utterance_start_error_s == Percentiles(p50=0.2, p95=0.2)
    assert figures.utterance_end_error_s == Percentiles(p50=0.3, p95=0.3)
    assert report("tiny.en", [judged("red", "red")], [], 1.0).word_start_error_s is UNSET


def test_kinds_are_reported_in_order() -> None:
    """Each kind and language of the recordings has rates of its own."""
    figures = report("tiny.en", [judged("red", "rat"), judged("red", "red", kind="noisy")], [], 1.0)

    assert [(one.kind, one.language, one.wer) for one in figures.kinds] == [("noisy", "en", 0.0), ("short", "en", 1.0)]


def test_a_recording_counts_for_each_of_its_tags() -> None:
    """Tags are conditions, as noise and a telephone, which go together; recordings without any are in no such rate."""
    tagged = [
        judged("red blue", "red", name="a", tags=("phone", "babble5")),
        judged("sun moon", "sun moon", name="b", tags=("phone",)),
        judged("cat", "dog", name="c"),
    ]

    figures = report("tiny.en", tagged, [], 1.0)

    found = [(tag.tag, tag.recordings, tag.errors, tag.words, tag.wer) for tag in figures.tags]
    assert found == [("babble5", 1, 1, 2, 0.5), ("phone", 2, 1, 4, 0.25)]


def test_revised_text_has_rates_of_its_own() -> None:
    """Where every recording has one; beside decoding at once there is the difference to it."""
    score = word_scorer()
    one = judged("red blue", "rat blew", "red blew")
    revised = replace(one, revised=score("en", "red blue", "red blue"))

    figures = report("tiny.en", [revised], [], 1.0)

    assert (figures.wer, figures.revised_wer, figures.revised_difference) == (1.0, 0.0, -0.5)
    assert figures.files[0].revised_errors == 0
    plain = report("tiny.en", [one], [], 1.0)
    assert (plain.revised_wer, plain.files[0].revised_text) == (UNSET, UNSET)
    alone = report("tiny.en", [replace(judged("red", "rat"), revised=score("en", "red", "rat"))], [], 1.0)
    assert (alone.revised_wer, alone.revised_difference) == (1.0, UNSET)
