"""The text of one session as clients see it: turns that grow, then end. Pure; produces caption and turn events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec

from streamer.protocol.events import Caption, TurnEnd, TurnEndReason, Word
from streamer.session.words import SpokenWord
from streamer.text.punctuation import reads_as_finished, without_leading_marks

OVERLONG = 1.5
"""Multiple of the limit of a turn from which on it ends even inside a sentence."""


class Transcript:
    """
    Numbers turns and revisions, and keeps the promise that stable text only grows.

    Args:
        words: Whether events carry words.
        begins_sentence: Whether the first turn begins a sentence.
        offset_s: Stream time at which the session begins, seconds.
    """

    def __init__(self, *, words: bool, begins_sentence: bool = True, offset_s: float = 0.0) -> None:
        self._with_words = words
        self.begins_sentence = begins_sentence
        """Whether the open turn, or the next one, begins a sentence: the one before was finished."""
        self._stable: list[SpokenWord] = []
        self._partial: list[SpokenWord] = []
        self._shown: tuple[str, str] = ("", "")
        self._rev = 0
        self.n_turns = 0
        """Turns ended."""
        self.stable_until_s = offset_s
        """End of the last stable word, stream time; before the first one, where the session begins."""

    @property
    def stable(self) -> Sequence[SpokenWord]:
        """Stable words of the open turn."""
        return self._stable

    @property
    def is_open(self) -> bool:
        """Whether a turn has shown text and not ended."""
        return bool(self._stable or self._partial)

    @property
    def ends_sentence(self) -> bool:
        """Whether the stable text of the open turn reads as a finished sentence."""
        return reads_as_finished(text_of(self._stable))

    def is_overlong(self, limit_s: float) -> bool:
        """Whether the open turn is so long that it ends: `limit_s` where a sentence ends, `OVERLONG` of it anywhere."""
        words = [*self._stable, *self._partial]
        if not words:
            return False
        length_s = self.stable_until_s - words[0].said_s[0]
        return length_s >= limit_s and (self.ends_sentence or length_s > OVERLONG * limit_s)

    def text_with(self, tail: Sequence[SpokenWord]) -> str:
        """The text of the open turn if these words followed its stable ones."""
        return text_of(beginning_at_a_word([*self._stable, *tail]))

    def commit(self, words: Sequence[SpokenWord]) -> None:
        """
        Add words to the stable text; marks without letters join the word before them.

        Marks that would begin a turn are left out: they belong to the turn before, which has ended.
        """
        for word in words if self._stable else beginning_at_a_word(words):
            append_word(self._stable, word)
        self.stable_until_s = max((self.stable_until_s, *(word.end_s for word in words)))

    def show(self, partial: Sequence[SpokenWord]) -> list[Caption]:
        """A caption of the open turn with this tail; nothing if the text is the same as before."""
        self._partial = list(partial) if self._stable else beginning_at_a_word(partial)
        shown = text_of(self._stable).lstrip(), text_of(self._partial)
        shown = shown[0], shown[1] if shown[0] else shown[1].lstrip()
        if shown == self._shown:
            return []
        self._shown = shown
        self._rev += 1
        start_s, end_s = self._span_s([*self._stable, *self._partial])
        return [
            Caption(
                turn=self.n_turns,
                rev=self._rev,
                stable=shown[0],
                partial=shown[1],
                start_s=start_s,
                end_s=end_s,
                words=self._words(),
            )
        ]

    def end_turn(self, language: str, reason: TurnEndReason) -> list[TurnEnd]:
        """
        End the turn with its stable text; words that were not committed are dropped.

        A turn whose text was shown and withdrawn ends without text; one of which nothing was shown ends without event.
        """
        self.begins_sentence = self.ends_sentence or not self.is_open
        self._partial = []
        if not self._stable and self._rev == 0:
            return []
        start_s, end_s = self._span_s(self._stable)
        event = TurnEnd(
            turn=self.n_turns,
            text=text_of(self._stable).strip(),
            start_s=start_s,
            end_s=end_s,
            language=language,
            reason=reason,
            words=self._words(),
        )
        self._stable, self._shown, self._rev = [], ("", ""), 0
        self.n_turns += 1
        return [event]

    def _span_s(self, words: Sequence[SpokenWord]) -> tuple[float, float]:
        """Start and end of words as clients see them, stream time; without words, the end of the last stable one."""
        start_s, end_s = (words[0].said_s[0], words[-1].said_s[1]) if words else (self.stable_until_s,) * 2
        return round(start_s, 3), round(end_s, 3)

    def _words(self) -> tuple[Word, ...] | msgspec.UnsetType:
        return told_words([*self._stable, *self._partial], len(self._stable)) if self._with_words else msgspec.UNSET


def append_word(words: list[SpokenWord], word: SpokenWord) -> None:
    """Append a word; marks without letters join the word before them."""
    if words and not any(c.isalnum() for c in word.text):
        words[-1] = _joined(words[-1], word)
    else:
        words.append(word)


def told_words(words: Sequence[SpokenWord], n_stable: int) -> tuple[Word, ...]:
    """
    Words as clients see them; marks alone belong to the word before them.

    Args:
        words: In order.
        n_stable: Leading words that are stable.
    """
    return tuple(
        Word(
            text=word.text.strip(),
            start_s=round(word.said_s[0], 3),
            end_s=round(word.said_s[1], 3),
            confidence=round(word.confidence, 3),
            stable=i < n_stable,
        )
        for i, word in enumerate(words)
        if any(c.isalnum() for c in word.text)
    )


def text_of(words: Sequence[SpokenWord]) -> str:
    """The text of words, with their spaces."""
    return "".join(word.text for word in words)


def beginning_at_a_word(words: Sequence[SpokenWord]) -> list[SpokenWord]:
    """The words without the marks at their beginning that belong to a word before them."""
    for i, word in enumerate(words):
        if text := without_leading_marks(word.text):
            return [word if text == word.text else replace(word, text=text), *words[i + 1 :]]
    return []


def _joined(word: SpokenWord, marks: SpokenWord) -> SpokenWord:
    return replace(word, tokens=(*word.tokens, *marks.tokens), text=word.text + marks.text)
