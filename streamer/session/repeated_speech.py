"""
Speech that repeats itself, told from a decoder that does, by the sound of each round. Pure.

Behind a sentence that was said several times the decoder easily says it once too often. A round that was not said has
no sound of its own: the attention stands still, and its words share one instant. A round that was said takes about as
long as the one before.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from streamer.session.words import SpokenWord

LONGEST_ROUND = 64
"""Longest round that is looked for, words: a window of fast speech has no more, and a decoder that has strayed in noise
says all of it once more."""
SQUEEZED = 0.35
"""Sound of a round below which it was not said, as a part of the sound of the longest round before it."""
SOUNDLESS_S, SOUNDLESS = 0.04, 0.6
"""Longest word without sound, seconds, if it was longer in a round before; and the part of the words of a round without
sound from which on the round was not said, for rounds of `FEW_WORDS` words and more: its last word may take all of the
pause that follows it."""
FEW_WORDS = 3


def without_unsaid_rounds(before: Sequence[SpokenWord], words: Sequence[SpokenWord]) -> list[SpokenWord]:
    """
    The words of a hypothesis without rounds of a repetition that were not said.

    Where a round without sound is followed by more words, it is left out as a whole: the words after it go on as the
    round did, so the text stays in step. Where several words without sound are left, the text ends before them.

    Args:
        before: Committed words of the window, before the hypothesis.
        words: Words of the hypothesis.
    """
    said = _Rounds(before, words)
    for size in filter(said.repeats, range(1, min(LONGEST_ROUND, said.n_words // 2) + 1)):
        while (at := said.unsaid_round(size)) is not None:
            said.remove(at, at + size)
        if (at := said.unsaid_end(size)) is not None:
            said.remove(at, said.n_words)
    return said.words


class _Rounds:
    """The words of a window; those of the hypothesis can be removed."""

    def __init__(self, before: Sequence[SpokenWord], words: Sequence[SpokenWord]) -> None:
        # marks alone belong to the word before them, at the beginning to a committed one
        self._marks = list(itertools.takewhile(lambda word: not word.key, words)) if before else []
        self._groups = _with_marks(before)
        self._first = len(self._groups)
        self._groups += _with_marks(words[len(self._marks) :])
        self._keys = [group[0].key for group in self._groups]

    @property
    def words(self) -> list[SpokenWord]:
        return [*self._marks, *(word for group in self._groups[self._first :] for word in group)]

    @property
    def n_words(self) -> int:
        """Of the window, without marks that stand alone."""
        return len(self._groups)

    def repeats(self, size: int) -> bool:
        """Whether any word is the one that stands so many words before it."""
        return any(key == before != "" for key, before in zip(self._keys[size:], self._keys, strict=False))

    def unsaid_round(self, size: int) -> int | None:
        """Index of the round of this size with the least sound that repeats the one before and is followed by words."""
        inner = [at for at in self._repeated_rounds(size) if at + size < self.n_words and self._is_unsaid(at, size)]
        return min(inner, key=lambda at: self._sound_s(at, size), default=None)

    def unsaid_end(self, size: int) -> int | None:
        """Index of a last round without sound, or where the attention stands still for `FEW_WORDS` or a last round."""
        last = self.n_words - size
        if last in self._repeated_rounds(size) and self._has_no_sound(last, size):
            return last
        still = self._runs(lambda i: self._repeats(i, size) and self._is_soundless(i, size))
        unsaid = (run for run in still if len(run) >= FEW_WORDS or (run.stop == self.n_words and len(run) >= size))
        return next((run.start for run in unsaid), None)

    def remove(self, begin: int, end: int) -> None:
        """Remove words of the hypothesis."""
        del self._groups[begin:end]
        del self._keys[begin:end]

    def _repeated_rounds(self, size: int) -> list[int]:
        """Index of each round of this size in the hypothesis that repeats the one before."""
        runs = self._runs(lambda i: self._repeats(i, size))
        return [at for run in runs for at in range(run.start, run.stop - size + 1)]

    def _runs(self, holds: Callable[[int], bool]) -> list[range]:
        """Words of the hypothesis in a row for which a condition holds."""
        runs: list[range] = []
        for i in filter(holds, range(self._first, self.n_words)):
            begin = runs.pop().start if runs and runs[-1].stop == i else i
            runs.append(range(begin, i + 1))
        return runs

    def _repeats(self, i: int, size: int) -> bool:
        return i >= size and self._keys[i] == self._keys[i - size] != ""

    def _is_unsaid(self, at: int, size: int) -> bool:
        return self._has_no_sound(at, size) or self._is_squeezed(at, size, size)

    def _has_no_sound(self, at: int, size: int) -> bool:
        n_soundless = sum(self._is_soundless(i, size) for i in range(at, at + size))
        return size >= FEW_WORDS and n_soundless >= SOUNDLESS * size

    def _is_soundless(self, i: int, size: int) -> bool:
        """Whether a word has no sound of its own, which it had in a round before; fast speech is all short."""
        return self._sound_s(i, 1) <= SOUNDLESS_S and self._is_squeezed(i, 1, size)

    def _is_squeezed(self, at: int, n: int, size: int) -> bool:
        """Whether `n` words had much more sound in an earlier round of the same repetition."""
        longest_s, begin = 0.0, at
        while begin >= size and self._keys[begin - size : begin - size + n] == self._keys[at : at + n]:
            begin -= size
            longest_s = max(longest_s, self._sound_s(begin, n))
        return self._sound_s(at, n) < SQUEEZED * longest_s

    def _sound_s(self, at: int, n: int) -> float:
        return sum(group[0].end_s - group[0].start_s for group in self._groups[at : at + n])


def _with_marks(words: Sequence[SpokenWord]) -> list[list[SpokenWord]]:
    groups: list[list[SpokenWord]] = []
    for word in words:
        if groups and not word.key:
            groups[-1].append(word)
        else:
            groups.append([word])
    return groups
