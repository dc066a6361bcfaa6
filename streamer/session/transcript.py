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
    def has_stable(self) -> bool:
        """Whether the open turn has stable words."""
        return bool(self._stable)

    @property
    def started_s(self) -> float:
        """Start of the open turn, stream time; valid only while `is_open`."""
        return [*self._stable, *self._partial][0].said_s[0]

    @property
    def ends_sentence(self) -> bool:
        """Whether the stable text of the open turn reads as a finished sentence."""
        return reads_as_finished(text_of(self._stable))

    def is_overlong(self, limit_s: float) -> bool:
        """Whether the open turn is so long that it ends: `limit_s` where a sentence ends, `OVERLONG` of it anywhere."""
        if not self.is_open:
            return False
        length_s = self.stable_until_s - self.started_s
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
        words = [*self._stable, *self._partial]
        return [
            Caption(
                turn=self.n_turns,
                rev=self._rev,
                stable=shown[0],
                partial=shown[1],
                start_s=round(words[0].said_s[0] if words else self.stable_until_s, 3),
                end_s=round(words[-1].said_s[1] if words else self.stable_until_s, 3),
                words=self._words(len(self._stable)),
            )
        ]

    def end_turn(self, language: str, reason: TurnEndReason) -> list[TurnEnd]:
        """End the turn with its stable text; words that were not committed are dropped."""
        self.begins_sentence = self.ends_sentence or not self.is_open
        self._partial = []
        if not self._stable:
            # clients saw text that was withdrawn, so the turn must end, without text
            return self._withdrawn(language, reason)
        event = TurnEnd(
            turn=self.n_turns,
            text=text_of(self._stable).strip(),
            start_s=round(self._stable[0].said_s[0], 3),
            end_s=round(self._stable[-1].said_s[1], 3),
            language=language,
            reason=reason,
            words=self._words(len(self._stable)),
        )
        self._next_turn()
        return [event]

    def _withdrawn(self, language: str, reason: TurnEndReason) -> list[TurnEnd]:
        if self._rev == 0:
            return []
        at_s = round(self.stable_until_s, 3)
        event = TurnEnd(
            turn=self.n_turns,
            text="",
            start_s=at_s,
            end_s=at_s,
            language=language,
            reason=reason,
            words=self._words(0),
        )
        self._next_turn()
        return [event]

    def _next_turn(self) -> None:
        self._stable, self._partial, self._shown, self._rev = [], [], ("", ""), 0
        self.n_turns += 1

    def _words(self, n_stable: int) -> tuple[Word, ...] | msgspec.UnsetType:
        return told_words([*self._stable, *self._partial], n_stable) if self._with_words else msgspec.UNSET


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
