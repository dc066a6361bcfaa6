"""Tests of streamer/session/window_text.py."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from streamer.session.window_text import WindowText
from streamer.session.words import SpokenWord
from tests.helpers.words import TOKENIZER, phrase, word


def texts(words: Sequence[SpokenWord]) -> list[str]:
    """As a person reads them."""
    return [w.text.strip() for w in words]


def window(heard: str, committed: int) -> WindowText:
    """A window that heard these words, 0.4 s each, of which some are committed."""
    text = WindowText(TOKENIZER)
    text.set_tail(phrase(heard))
    text.commit(committed, closes=True)
    return text


def test_committed_words_are_the_prefix_and_the_others_a_guess() -> None:
    """The last committed word is where new ones may begin."""
    text = window(" so the first thing", committed=2)

    assert TOKENIZER.decode(text.prefix) == " so the"
    assert TOKENIZER.decode(text.draft) == " first thing"
    assert text.anchor is not None
    assert text.anchor.start_s == pytest.approx(0.4)
    assert text.anchor.tokens == tuple(TOKENIZER.encode(" the"))
    assert WindowText(TOKENIZER).anchor is None


def test_tokens_of_words_that_ended_long_ago() -> None:
    """Whole words count, and only committed ones."""
    text = window(" so the first thing", committed=2)

    found = [TOKENIZER.decode(text.prefix[: text.n_tokens_until(s)]) for s in (0.3, 0.45, 0.85, 9.0)]

    assert found == ["", " so", " so the", " so the"]


def test_a_new_hypothesis_replaces_the_tail_alone() -> None:
    """What is committed stays."""
    text = window(" so the first thing", committed=2)

    text.set_tail(phrase(" fast things", 0.8))

    assert TOKENIZER.decode(text.prefix) == " so the"
    assert texts(text.tail) == ["fast", "things"]


def test_marks_at_the_end_stay_open_until_the_text_closes() -> None:
    """What comes next may still change a full stop into a comma."""
    open_text, closed = WindowText(TOKENIZER), WindowText(TOKENIZER)
    for text in (open_text, closed):
        text.set_tail(phrase(" so first."))

    assert texts(open_text.commit(2, closes=False)) == ["so", "first"]
    assert texts(open_text.tail) == ["."]
    assert texts(closed.commit(2, closes=True)) == ["so", "first."]
    assert closed.tail == []


def test_the_place_where_text_goes_on_is_kept_while_the_text_before_it_stands() -> None:
    """In tokens of the draft: through commits, and gone once the words before it change."""
    words = phrase(" chapter one once upon")
    text = WindowText(TOKENIZER)
    text.set_tail(words[:2])
    assert text.no_eot_at is None

    assert text.forbid_eot()
    assert not text.forbid_eot(), "known already"

    assert text.no_eot_at == len(text.draft)
    text.set_tail(words)
    assert text.no_eot_at == len(words[0].tokens) + len(words[1].tokens)
    text.commit(1, closes=False)
    assert text.no_eot_at == len(words[1].tokens)
    text.set_tail(phrase(" won once upon", 0.4))
    assert text.no_eot_at is None


def test_the_places_where_the_voice_rests() -> None:
    """Before the word that has the voice after the rest, and before the marks of the word that the rest follows."""
    text = WindowText(TOKENIZER)
    text.set_tail([word(" Americans,", 1.2, 2.0), word(" ask", 2.0, 3.5), word(" not", 3.5, 4.0)])
    americans = len(TOKENIZER.encode(" Americans"))

    assert text.rests_at(()) == ()
    assert text.rests_at([1.2]) == (), "no word before it"
    assert text.rests_at([1.95]) == (americans,), "the attention leaves a word late"
    assert text.rests_at([3.1]) == (americans,), "the attention arrives at a word early"
    assert text.rests_at([2.0, 3.1, 3.45]) == (americans, len(TOKENIZER.encode(" Americans, ask")))


def test_words_of_the_tail_before_an_instant_and_before_speech() -> None:
    """Marks at its beginning belong to the word before; a word belongs to where it begins."""
    text = window(" so , the first thing", committed=1)

    assert text.n_leading_marks == 1
    assert [text.n_before(at_s) for at_s in (0.4, 0.8, 1.3, 9.0)] == [0, 1, 3, 4]
    assert WindowText(TOKENIZER).n_leading_marks == 0


def test_a_rest_behind_committed_words() -> None:
    """At the beginning of the draft, unless the committed word has its marks."""
    open_text, closed = WindowText(TOKENIZER), WindowText(TOKENIZER)
    for text in (open_text, closed):
        text.set_tail(phrase(" my fellow Americans."))
    open_text.commit(3, closes=False)
    assert open_text.rests_at([1.5]) == (), "no word follows yet"
    closed.commit(3, closes=True)

    open_text.set_tail([word(".", 1.2, 1.2), word(" Ask", 1.6)])
    closed.set_tail([word(" Ask", 1.6)])

    assert open_text.rests_at([1.5]) == (0,)
    assert closed.rests_at([1.5]) == ()


def test_a_cut_is_made_at_a_committed_word() -> None:
    """The first that begins in what is kept; the words before it are gone, the tail is not."""
    text = window(" a b c d", committed=3)

    assert text.has_committed_from(0.5)
    assert text.drop_before(0.5) == pytest.approx(0.8)

    assert (TOKENIZER.decode(text.prefix), TOKENIZER.decode(text.draft)) == (" c", " d")


def test_the_last_committed_word_goes_along() -> None:
    """If none begins in what is kept; but not one that is long past."""
    text, past = window(" a b", committed=2), window(" a b", committed=2)

    assert not text.has_committed_from(1.0)
    assert text.drop_before(1.0) == pytest.approx(0.4)
    assert past.drop_before(9.0) == 9.0
    assert not past.has_committed


def test_the_window_never_begins_inside_a_committed_word() -> None:
    """A long word that began too early to be kept ends before the window begins: half of it would be decoded again."""
    text = WindowText(TOKENIZER)
    text.set_tail([word(" incomprehensibilities", 0.0, 2.4), word(" and", 2.4, 2.6)])
    text.commit(1, closes=False)

    assert text.drop_before(1.5) == 2.4
    assert not text.has_committed
    assert texts(text.tail) == ["and"]


@pytest.mark.parametrize(
    ("heard", "newest_s"),
    [
        (" so it goes", None),
        (" so it goes so it goes", 1.2),
        (" well so it goes, so it goes. so it", 1.6),
        (" so so", None),
        (" ask not ask not ask not ask", 1.6),
    ],
)
def test_a_window_that_repeats_itself_knows_its_last_whole_round(heard: str, newest_s: float | None) -> None:
    """Marks do not matter; there is none where the window begins with that round already."""
    text = window(heard, committed=len(heard.split()))
    assert text.newest_round_s() == (None if newest_s is None else pytest.approx(newest_s))
    if newest_s is not None:
        text.drop_before(newest_s)
        assert text.newest_round_s() is None
