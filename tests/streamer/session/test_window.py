"""Tests of streamer/session/window.py: one window, step by step, without a session around it."""

from __future__ import annotations

import pytest

from streamer.protocol.options import SessionOptions
from streamer.session.audio_window import WindowOptions
from streamer.session.window import ADVANCE_S, LONGEST_PREFIX, MAX_NEW, MAX_PREFIX, STRAYED_S
from streamer.session.words import LONGEST_S
from tests.helpers.dense import MULTILINGUAL
from tests.helpers.sessions import model_of
from tests.helpers.talks import N_MELS
from tests.helpers.windows import listener
from tests.helpers.words import TOKENIZER, phrase, word

WORDS = phrase(" one two three four five", 0.0, 0.5)


def test_a_step_is_asked_to_go_on_behind_the_committed_words() -> None:
    """They are forced on the decoder, and the words that may still change are offered to it."""
    hall = listener()
    hall.hear(2.6)
    hall.read(WORDS)
    hall.window.commit(2, closes=False)

    asked = hall.request()

    assert TOKENIZER.decode(asked.prefix) == " one two"
    assert TOKENIZER.decode(asked.draft) == " three four five"
    assert asked.anchor_tokens == 1
    assert asked.anchor_s == pytest.approx(0.5)


def test_words_that_two_steps_agree_on_are_committed() -> None:
    """All but those at the newest sound, which may be cut off."""
    hall = listener()
    hall.hear(2.6)
    hall.read(WORDS)
    hall.read(WORDS)

    assert [each.text for each in hall.window.text.committed] == [" one", " two", " three", " four"]
    assert [each.text for each in hall.transcript.stable] == [" one", " two", " three", " four"]
    assert hall.window.take_newly_stable() == list(hall.transcript.stable)
    assert hall.window.take_newly_stable() == []


def test_words_that_nobody_counts_do_not_add_up() -> None:
    """As in a stream of the library, which may last for a day."""
    hall = listener()
    for n in range(MAX_NEW // 100 + 2):
        hall.window.text.set_tail([word(f" {n}", n, n + 1)] * 100)
        hall.window.commit(100, closes=True)

    assert len(hall.window.take_newly_stable()) == MAX_NEW


def test_nothing_is_committed_or_shown_in_a_language_that_is_not_sure() -> None:
    """It may be a translation."""
    hall = listener(SessionOptions(language="auto", delay="minimal"), model=model_of(MULTILINGUAL, N_MELS))
    hall.hear(1.0)
    for _ in range(3):
        hall.read(phrase(" ja nein", 0.0, 0.4), language="de", language_prob=0.5)

    assert not hall.window.text.has_committed
    assert hall.window.visible_tail == []
    assert not hall.window.commit_spoken()


def test_the_context_leads_the_first_window_alone() -> None:
    """The prompt leads every one."""
    hall = listener(SessionOptions(language="en", prompt="Ray Serve."), context="last words")
    hall.hear(2.6)
    assert TOKENIZER.decode(hall.request().prompt) == " Ray Serve. last words"
    hall.window.open(0.5)
    assert TOKENIZER.decode(hall.request().prompt) == " Ray Serve. last words"  # nothing was read yet

    hall.read(WORDS)
    hall.window.open(1.0)

    assert TOKENIZER.decode(hall.request().prompt) == " Ray Serve."


def test_a_text_that_led_into_a_loop_does_not_lead_again() -> None:
    """Neither the prompt nor the context."""
    hall = listener(SessionOptions(language="en", prompt="Ray Serve."), context="last words")
    hall.hear(6.0)
    hall.read(phrase(" la" * 60, 0.0, 0.1), ended=False)

    assert hall.request().prompt == ()


def test_words_behind_which_nothing_is_found_are_left() -> None:
    """A fresh window decodes the voice behind them, without them."""
    hall = listener()
    hall.hear(2.6)
    hall.read(WORDS)
    hall.read(WORDS)
    end_s = hall.window.text.committed_end_s
    hall.hear(STRAYED_S)

    assert not hall.read([])
    assert hall.audio.start_s == pytest.approx(end_s, abs=0.01)
    assert not hall.window.text.has_committed


def test_no_voice_that_a_stretched_word_hides_is_left() -> None:
    """A word does not account for more than `LONGEST_S` of voice: a fresh window decodes the rest."""
    hall = listener()
    hall.hear(3.0)
    for _ in range(2):
        hall.read([word(" one", 0.0, 0.5), word(" two", 0.5, 2.6)])
    assert hall.window.text.committed_end_s == pytest.approx(2.6)
    hall.hear(STRAYED_S)

    assert not hall.read([])
    assert hall.audio.start_s == pytest.approx(0.5 + LONGEST_S, abs=0.01)


def test_a_text_for_which_there_is_no_room_is_committed() -> None:
    """A fresh window goes on behind it, for the decoder could not add to it; its last word may be half."""
    hall = listener()
    hall.hear(3.0)
    hall.read(WORDS, ended=False)
    assert hall.window.awaits_rest

    assert hall.read(WORDS, ended=False)
    assert not hall.window.awaits_rest
    assert [each.text for each in hall.transcript.stable] == [" one", " two", " three", " four"]
    assert hall.audio.start_s == pytest.approx(2.0)


def test_a_window_without_room_moves_on_even_without_words() -> None:
    """By half a second, or it would be asked about for ever."""
    hall = listener()
    hall.hear(3.0)
    hall.read([], ended=False)

    assert hall.audio.start_s == pytest.approx(ADVANCE_S)


def test_a_fresh_window_does_not_roll_over_what_no_step_has_seen() -> None:
    """However much sound the window before it had."""
    hall = listener()
    hall.hear(18.0)
    hall.read([], ended=False)
    hall.window.roll(closes=False)

    assert hall.audio.start_s == pytest.approx(ADVANCE_S)


@pytest.mark.parametrize("silence_s", [0.3, 0.6])
def test_words_become_final_as_silence_lasts(silence_s: float) -> None:
    """First those that are certain by it; after half a second all, their last marks excepted."""
    hall = listener()
    hall.hear(2.5)
    hall.read([*WORDS, *phrase(".", 2.5, 0.0)])
    hall.hear(0.0, silence_s)

    assert hall.window.commit_as_silence_lasts() is (silence_s > 0.5)
    assert len(hall.window.text.committed) == (5 if silence_s > 0.5 else 0)


def test_a_long_window_rolls_to_a_committed_word() -> None:
    """The words before it leave the prefix, and stay in the text."""
    hall = listener(window=WindowOptions(max_window_s=4.0, keep_s=2.0))
    hall.hear(4.2)
    words = phrase(" zero one two three four five six seven", 0.0, 0.5)
    hall.read(words)
    hall.read(words)
    hall.window.roll(closes=False)

    assert hall.audio.start_s == pytest.approx(2.5)
    assert hall.window.text.committed[0].text == " five"
    assert hall.transcript.text_with([]).startswith(" zero one two")


def test_a_roll_commits_what_would_fall_out() -> None:
    """Words that were never certain, where the part that is kept has no committed word."""
    hall = listener(window=WindowOptions(max_window_s=4.0, keep_s=2.0))
    hall.hear(4.2)
    hall.read(phrase(" zero one two three four five six seven", 0.0, 0.5))
    hall.window.roll(closes=False)

    assert hall.transcript.text_with([]) == " zero one two three four"
    assert hall.audio.start_s >= 1.5


def test_words_that_a_pause_makes_final_leave_room_for_more() -> None:
    """Behind too many of them a fresh window begins, as it does behind a step."""
    hall = listener()
    hall.hear(5.0)
    hall.audio.seen = hall.audio.frame(5.0)
    numerals = [word(f" {n}", n / 100, (n + 1) / 100) for n in range(LONGEST_PREFIX + 1)]
    hall.window.text.set_tail(numerals)

    assert hall.window.commit_spoken()

    assert hall.transcript.stable == numerals
    assert not hall.window.text.has_committed
    assert hall.audio.start_s == pytest.approx((LONGEST_PREFIX + 1) / 100)


@pytest.mark.parametrize("n_tokens", [MAX_PREFIX, LONGEST_PREFIX + 1])
def test_many_tokens_roll_a_short_window(n_tokens: int) -> None:
    """Where even the part that is kept has too many, a fresh window begins: the decoder's context is bounded."""
    hall = listener()
    hall.hear(5.0)
    hall.audio.seen = hall.audio.frame(5.0)
    numerals = [word(f" {n}", n * 4.0 / n_tokens, (n + 1) * 4.0 / n_tokens) for n in range(n_tokens)]
    hall.window.text.set_tail([each for each in numerals if len(each.tokens) == 1])
    hall.window.commit(len(hall.window.text.tail), closes=False)
    n_before = len(hall.window.text.prefix)
    hall.window.roll(closes=False)

    assert n_before >= MAX_PREFIX
    assert bool(hall.window.text.has_committed) is (n_before <= LONGEST_PREFIX)
