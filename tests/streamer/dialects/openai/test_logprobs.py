"""Tests of streamer/dialects/openai/logprobs.py: words become tokens that join to the text."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from streamer.dialects.append_only import AppendOnlyText
from streamer.dialects.openai.logprobs import DeltaLogProbs, LogProb, logprobs, logprobs_of
from streamer.protocol.events import Caption, TurnEnd, Word
from streamer.text import joining

WORDS = st.lists(st.from_regex(r"[a-zé漢]{1,4}[,.!]?", fullmatch=True), min_size=1, max_size=8)
SPACES = st.sampled_from(["", " "])
"""Not every language puts spaces between words."""


def word(text: str, confidence: float = 0.5) -> Word:
    """A word anywhere in time."""
    return Word(text=text, start_s=0.0, end_s=1.0, confidence=confidence)


def turn(text: str, words: list[str]) -> TurnEnd:
    """A turn of these words."""
    said = tuple(map(word, words))
    return TurnEnd(turn=0, text=text, start_s=0.0, end_s=9.0, language="en", reason="silence", words=said)


def joined(tokens: list[LogProb]) -> str:
    """The text of the tokens; their bytes are the same text."""
    assert b"".join(bytes(token.bytes) for token in tokens).decode() == "".join(token.token for token in tokens)
    return "".join(token.token for token in tokens)


def test_a_token_is_a_word_with_the_logarithm_of_its_confidence() -> None:
    """A confidence that was rounded to 0 has a logarithm too."""
    first, second = logprobs("So, it", [word("So,", 0.25), word("it", 0.0)])
    assert first == LogProb(token="So, ", logprob=math.log(0.25), bytes=tuple(b"So, "))
    assert (second.token, round(second.logprob)) == ("it", -8)


@given(st.lists(st.tuples(WORDS, SPACES), max_size=4))
def test_tokens_join_to_the_transcript(turns: list[tuple[list[str], str]]) -> None:
    """Of all turns, one token for each word."""
    ended = [turn(space.join(words), words) for words, space in turns]
    tokens = logprobs_of(ended)
    assert joined(tokens) == joining.joined(turn.text for turn in ended)
    assert len(tokens) == sum(len(words) for words, _ in turns)


@given(st.lists(st.tuples(WORDS, SPACES, st.lists(st.integers(0, 8), max_size=4)), max_size=4))
def test_tokens_of_deltas_join_to_the_deltas(turns: list[tuple[list[str], str, list[int]]]) -> None:
    """However the words of turns become stable, each delta has the tokens of its words, and each word is told once."""
    growth, delta_logprobs, tokens, text = AppendOnlyText(), DeltaLogProbs(), 0, ""
    for words, space, stable in turns:
        for n in sorted(min(n, len(words)) for n in stable):
            said = tuple(map(word, words[:n]))
            caption = Caption(turn=0, rev=1, stable=space.join(words[:n]), partial="", start_s=0, end_s=1, words=said)
            delta = growth.grow(caption.stable)
            found = delta_logprobs.of(delta, caption)
            assert joined(found) == delta
            tokens, text = tokens + len(found), text + delta
        ended = turn(space.join(words), words)
        delta = growth.end_turn(ended.text)
        found = delta_logprobs.of(delta, ended)
        assert joined(found) == delta
        tokens, text = tokens + len(found), text + delta
    assert tokens == sum(len(words) for words, *_ in turns)
    assert text == joining.joined(space.join(words) for words, space, _ in turns)


def test_a_delta_of_marks_alone_has_no_tokens() -> None:
    """The word that it belongs to was told by the delta before."""
    deltas = DeltaLogProbs()
    event = Caption(turn=0, rev=1, stable="So", partial="", start_s=0, end_s=1, words=(word("So"),))
    assert len(deltas.of("So", event)) == 1
    marked = Caption(turn=0, rev=2, stable="So,", partial="", start_s=0, end_s=1, words=(word("So,"),))
    assert deltas.of(",", marked) == []
