"""Tests of streamer/evaluation/scoring.py: which words count as wrong."""

from __future__ import annotations

from streamer.evaluation.scoring import Difference, word_scorer


def differences(said: str, heard: str, language: str = "en") -> list[str]:
    """The wrong words, as they are printed."""
    return [str(d) for d in word_scorer()(language, said, heard).differences]


def test_spelling_is_no_error() -> None:
    """Case, marks, numbers and British spelling do not count in English."""
    score = word_scorer()("en", "In eighteen thirteen, the colour wasn't grey.", "in 1813 the color was not gray")

    assert (score.errors, score.words) == (0, 7)


def test_each_wrong_word_is_named() -> None:
    """Substitutions, lost words and words that nobody said, one error each."""
    assert differences("a cat sat there", "a dog sat there") == ["cat→dog"]
    assert differences("red blue green", "red green") == ["blue→·"]
    assert differences("red blue", "red dark blue sky") == ["·→dark", "·→sky"]
    assert differences("red blue", "") == ["red→·", "blue→·"]


def test_places_count_in_the_reference() -> None:
    """The same wrong word at two places is two differences."""
    found = word_scorer()("en", "so it was so", "no it was no").differences

    assert found == (Difference(0, "so", "no"), Difference(3, "so", "no"))


def test_other_languages_have_the_basic_normaliser() -> None:
    """Outside English only case and marks are levelled."""
    assert differences("Die Werbung, ja!", "die werbung ja", "de") == []
    assert differences("dreizehn", "13", "de") == ["dreizehn→13"]


def test_nothing_said_has_no_errors() -> None:
    """A recording without speech has no words to be wrong; what was heard is kept for the count."""
    score = word_scorer()("en", "", "Thank you.")

    assert (score.errors, score.words, score.reference, score.hypothesis) == (0, 0, "", "thank you")


def test_characters_count_where_there_are_no_spaces() -> None:
    """In Japanese and the like each character is a word, marks are none."""
    score = word_scorer()("ja", "今日は晴れ。", "今日も晴れ")

    assert (score.words, [str(d) for d in score.differences]) == (5, ["は→も"])
