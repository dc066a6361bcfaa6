"""
The text of one window: words that are committed, and the tail that may change. Pure.

Committed words are fed to the decoder as its prefix, so what is stable cannot change by construction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streamer.session.words import SpokenWord, split_final_marks
from streamer.text.tokenizer import Tokenizer

LONGEST_WORD_S = 1.0
"""A cut reaches back this far to keep a committed word whole."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """The last committed word: new words cannot begin before it."""

    n_tokens: int
    start_s: float


class WindowText:
    """
    Args:
        tokenizer: Of the model.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._committed: list[SpokenWord] = []
        self._tail: list[SpokenWord] = []
        self._no_eot_at: tuple[int, ...] | None = None
        """Tokens from the beginning of the window after which the text is known to go on."""

    # --- for the next step

    @property
    def prefix(self) -> tuple[int, ...]:
        """Tokens of the committed words."""
        return _tokens(self._committed)

    @property
    def draft(self) -> tuple[int, ...]:
        """Tokens of the tail."""
        return _tokens(self._tail)

    @property
    def anchor(self) -> Anchor | None:
        """The last committed word."""
        last = self._committed[-1] if self._committed else None
        return Anchor(len(last.tokens), last.start_s) if last else None

    def n_tokens_until(self, until_s: float) -> int:
        """Leading tokens of the prefix whose words end by then."""
        n = next((i for i, word in enumerate(self._committed) if word.end_s > until_s), len(self._committed))
        return len(_tokens(self._committed[:n]))

    @property
    def no_eot_at(self) -> int | None:
        """Tokens of the draft after which the text is known to go on."""
        if self._no_eot_at is None or (*self.prefix, *self.draft)[: len(self._no_eot_at)] != self._no_eot_at:
            return None
        n = len(self._no_eot_at) - len(self.prefix)
        return n if n >= 0 else None

    # --- what was heard

    @property
    def tail(self) -> list[SpokenWord]:
        """What was heard after the committed words."""
        return self._tail

    @property
    def has_committed(self) -> bool:
        """Whether the window holds committed words."""
        return bool(self._committed)

    @property
    def committed_end_s(self) -> float:
        """Where the last committed word ends, stream time. Only while `has_committed`."""
        return self._committed[-1].end_s

    @property
    def end_s(self) -> float:
        """Where the last word ends, certain or not, stream time. Only while `has_committed`."""
        return (self._tail or self._committed)[-1].end_s

    def hear(self, words: Sequence[SpokenWord]) -> None:
        """A step heard these words after the prefix, in stream time."""
        self._tail = list(words)

    def commit(self, n: int, *, closes: bool) -> list[SpokenWord]:
        """
        The first `n` words of the tail are certain.

        Args:
            n: At most the length of the tail.
            closes: Punctuation at the end is final too; otherwise it stays in the tail, since what comes may change it.

        Returns:
            What became stable.
        """
        certain, self._tail = self._tail[:n], self._tail[n:]
        if certain and not self._tail and not closes:
            last, *marks = split_final_marks(certain[-1], self._tokenizer)
            certain, self._tail = [*certain[:-1], last], marks
        self._committed += certain
        return certain

    def go_on(self) -> bool:
        """The text does not end where it was heard to end; whether that is news."""
        heard = (*self.prefix, *self.draft)
        if self._no_eot_at == heard:
            return False
        self._no_eot_at = heard
        return True

    # --- the window moves

    def has_committed_from(self, from_s: float) -> bool:
        """Whether a committed word begins at `from_s` or later."""
        return any(word.start_s >= from_s for word in self._committed)

    def cut(self, from_s: float) -> float:
        """
        Let go of the words before the first committed one that begins at `from_s` or later; where the rest begins.

        If no committed word does, the last one is kept unless it is long past: then it would hold the window back.
        """
        committed = self._committed
        at = next((i for i, word in enumerate(committed) if word.start_s >= from_s), None)
        if at is None:
            at = len(committed) - bool(committed and committed[-1].start_s >= from_s - LONGEST_WORD_S)
        self._committed, self._no_eot_at = committed[at:], None
        return self._committed[0].start_s if self._committed else from_s


def _tokens(words: Sequence[SpokenWord]) -> tuple[int, ...]:
    return tuple(token for word in words for token in word.tokens)
