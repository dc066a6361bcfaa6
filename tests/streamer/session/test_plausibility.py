"""Tests of streamer/session/plausibility.py: how much of a step's result is believed and shown."""

from __future__ import annotations

import pytest

from streamer.session.plausibility import n_believed, worth_showing
from tests.helpers.words import phrase, result, word


class TestBelief:
    """How much of a result is taken for speech."""

    def test_likely_text_is_speech(self) -> None:
        """All of it, whatever else the network thinks of the window."""
        said = result(phrase(" so it goes"), no_speech_prob=0.9)
        assert n_believed(said, None) == (len(said.tokens), False)

    def test_unlikely_text_where_nobody_speaks_is_none(self) -> None:
        """Both must be: unlikely text alone may be a mumble."""
        assert n_believed(result(phrase(" thank you"), logprob=-1.5, no_speech_prob=0.7), None) == (0, False)
        mumbled = result(phrase(" thank you"), logprob=-1.5, no_speech_prob=0.5)
        assert n_believed(mumbled, None) == (len(mumbled.tokens), False)

    def test_circles_end_after_their_first_round(self) -> None:
        """The caller is told, so that it can forget what led there."""
        once = phrase(" and so on")
        said = result([*phrase(" well"), *once * 3], ended=False)
        assert n_believed(said, None) == (len(said.tokens) - 2 * sum(len(each.tokens) for each in once), True)

    @pytest.mark.parametrize("n", [3, 4, 6])
    @pytest.mark.parametrize("gap_s", [0.0, 0.2])
    def test_rounds_of_even_length_are_speech(self, n: int, gap_s: float) -> None:
        """Somebody says so; a decoder that was stopped by its bound does not."""
        words = [
            word(text, i * (1.0 + gap_s) + k * 0.5, i * (1.0 + gap_s) + k * 0.5 + 0.5)
            for i in range(n)
            for k, text in enumerate((" ask", " not"))
        ]
        assert n_believed(result(words), None) == (len(result(words).tokens), False)
        assert n_believed(result(words, ended=False), None)[1]

    @pytest.mark.parametrize("n", [3, 4, 8])
    def test_rounds_that_share_an_instant_are_a_loop(self, n: int) -> None:
        """The attention stands still, though the decoder ends the text by itself."""
        words = [*phrase(" ask not"), *(word(text, 0.8, 0.8) for _ in range(n - 1) for text in (" ask", " not"))]
        assert n_believed(result(words), None) == (2, True)

    def test_what_was_said_only_to_go_on_must_be_likely(self) -> None:
        """Behind the place where the text was not allowed to end."""
        said = result(phrase(" chapter one the sea"), logprob=-1.5)
        assert n_believed(said, 2) == (2, False)
        assert n_believed(result(phrase(" chapter one the sea")), 2)[0] == len(said.tokens)


def test_doubtful_words_at_the_edge_are_not_shown() -> None:
    """Only those at the end, near the newest sound, and in doubt; they count as heard all the same."""
    so, it, goes = word(" so", 0.0, 0.5, 0.3), word(" it", 0.5, 1.0, 0.9), word(" goes", 1.0, 1.5, 0.3)

    assert worth_showing([so, it, goes], edge_s=1.6) == [so, it]
    assert worth_showing([so, it, goes], edge_s=1.8) == [so, it, goes]
    assert worth_showing([so, it, word(" goes", 1.0, 1.5, 0.8)], edge_s=1.6)[-1].text == " goes"
    assert worth_showing([goes], edge_s=1.6) == []
