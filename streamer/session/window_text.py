"""
The text of one window: committed words, and a tail that may change. Pure.

The committed words are the decoder's forced prefix, so stable text cannot change.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from streamer.session.repeated_speech import LONGEST_ROUND
from streamer.session.words import SpokenWord, said_until_s, split_final_marks
from streamer.text.repetition import last_round_start
from streamer.text.tokenizer import Tokenizer

LONGEST_WORD_S = 1.0
"""Distance before the cut within which the last committed word is kept, seconds."""
LATE_S = 0.1
"""Time by which the attention may leave a word after the next one has begun, seconds."""


class WindowText:
    """
    Committed words and tail of one window.

    Args:
        tokenizer: Of the model.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._committed: list[SpokenWord] = []
        self._tail: list[SpokenWord] = []
        self._no_eot_at: tuple[int, ...] | None = None
        """Tokens from the beginning of the window after which the text may not end; None: it may end anywhere."""

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
    def anchor(self) -> SpokenWord | None:
        """The last committed word: new words cannot begin before it. None if there is none."""
        return self._committed[-1] if self._committed else None

    def n_tokens_until(self, until_s: float) -> int:
        """Leading prefix tokens of words that end by `until_s`, stream time."""
        n = next((i for i, word in enumerate(self._committed) if word.end_s > until_s), len(self._committed))
        return len(_tokens(self._committed[:n]))

    @property
    def no_eot_at(self) -> int | None:
        """Draft tokens after which the text may not end; None if the draft no longer begins with those tokens."""
        if self._no_eot_at is None or (*self.prefix, *self.draft)[: len(self._no_eot_at)] != self._no_eot_at:
            return None
        n = len(self._no_eot_at) - len(self.prefix)
        return n if n >= 0 else None

    def rests_at(self, voices_s: Sequence[float]) -> tuple[int, ...]:
        """
        Draft tokens after which the voice rests before the next word: the marks at the end of a word come later.

        Args:
            voices_s: Where voice begins again after a rest, stream time.
        """
        words = [*self._committed[-1:], *self._tail]
        first = -len(_tokens(self._committed[-1:]))
        starts = itertools.accumulate((len(word.tokens) for word in words), initial=first)
        spoken = [(start, word) for start, word in zip(starts, words, strict=False) if word.key]
        ends = {
            start + len(split_final_marks(word, self._tokenizer)[0].tokens)
            for (start, word), (_, following) in itertools.pairwise(spoken)
            if any(word.end_s - LATE_S <= voice_s < following.end_s - LATE_S for voice_s in voices_s)
        }
        return tuple(sorted(end for end in ends if end >= 0))

    # --- words

    @property
    def tail(self) -> list[SpokenWord]:
        """Words after the committed ones."""
        return self._tail

    @property
    def unstable_from_s(self) -> float | None:
        """End of the first spoken word of the tail, stream time; None if there is none."""
        return next((word.end_s for word in self._tail if word.key), None)

    @property
    def n_spoken(self) -> int:
        """Words of the tail up to its last spoken one: marks behind it are not counted."""
        return max((n for n, word in enumerate(self._tail, start=1) if word.key), default=0)

    @property
    def n_leading_marks(self) -> int:
        """Words of the tail before its first spoken one."""
        return next((n for n, word in enumerate(self._tail) if word.key), len(self._tail))

    def n_before(self, from_s: float) -> int:
        """Words of the tail before the first one that begins at `from_s`, stream time, or later."""
        return next((n for n, word in enumerate(self._tail) if word.start_s >= from_s), len(self._tail))

    @property
    def committed(self) -> Sequence[SpokenWord]:
        """Committed words of the window."""
        return self._committed

    @property
    def has_words(self) -> bool:
        """Whether the window holds words, committed or not."""
        return bool(self._committed or self._tail)

    @property
    def has_committed(self) -> bool:
        """Whether the window holds committed words."""
        return bool(self._committed)

    @property
    def committed_end_s(self) -> float:
        """End of the last committed word, stream time; valid only while `has_committed`."""
        return self._committed[-1].end_s

    @property
    def end_s(self) -> float:
        """End of the last word, committed or not, stream time; valid only while `has_words`."""
        return (self._tail or self._committed)[-1].end_s

    @property
    def said_until_s(self) -> float:
        """Stream time up to which the words account for the voice; valid only while `has_words`."""
        return said_until_s([*self._committed, *self._tail], self.end_s)

    def set_tail(self, words: Sequence[SpokenWord]) -> None:
        """Replace the tail by the words of a new step, stream time."""
        self._tail = list(words)

    def commit(self, n: int, *, closes: bool) -> list[SpokenWord]:
        """
        Move the first `n` words of the tail to the committed ones.

        Args:
            n: At most the length of the tail.
            closes: Commit the punctuation at the end too; otherwise it stays in the tail, because the next words may
                change it.

        Returns:
            The words that became stable.
        """
        certain, self._tail = self._tail[:n], self._tail[n:]
        if certain and not self._tail and not closes:
            last, *marks = split_final_marks(certain[-1], self._tokenizer)
            certain, self._tail = [*certain[:-1], last], marks
        self._committed += certain
        return certain

    def forbid_eot(self) -> bool:
        """Forbid the text to end after its present words; False if that was forbidden already."""
        present = (*self.prefix, *self.draft)
        if self._no_eot_at == present:
            return False
        self._no_eot_at = present
        return True

    # --- the window moves

    def has_committed_from(self, from_s: float) -> bool:
        """Whether a committed word begins at `from_s`, stream time, or later."""
        return any(word.start_s >= from_s for word in self._committed)

    def newest_round_s(self) -> float | None:
        """Start of the last whole round of committed words that repeat themselves, stream time; None if they do not."""
        spoken = [word for word in self._committed if word.key]
        at = last_round_start([word.key for word in spoken], LONGEST_ROUND)
        return spoken[at].start_s if at is not None else None

    def drop_before(self, from_s: float) -> float:
        """
        Drop the words before the first committed word that begins at `from_s`, stream time, or later.

        If no committed word begins there, the last one is kept, unless it began more than `LONGEST_WORD_S` earlier: it
        would hold the window back. Then the window begins at the end of that word at the earliest, never inside it.

        Returns:
            Start of the window, stream time: of the first word that is kept; if none is, `from_s` or the end of the
            last word.
        """
        committed = self._committed
        at = next((i for i, word in enumerate(committed) if word.start_s >= from_s), None)
        if at is None:
            at = len(committed) - bool(committed and committed[-1].start_s >= from_s - LONGEST_WORD_S)
        self._committed, self._no_eot_at = committed[at:], None
        if self._committed:
            return self._committed[0].start_s
        return max(from_s, committed[-1].end_s) if committed else from_s


def _tokens(words: Sequence[SpokenWord]) -> tuple[int, ...]:
    return tuple(token for word in words for token in word.tokens)
