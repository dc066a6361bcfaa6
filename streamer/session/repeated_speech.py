"""
Speech that repeats itself, told from a decoder that does, by the sound of each round. Pure.

Behind a sentence that was said several times the decoder easily says it once too often. A round that was not said has
no sound of its own: the attention stands still, and its words share one instant. A round that was said takes about as
long as the one before.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

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
            said.remove(at, size)
        said.cut_unsaid_end(size)
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
        run, unsaid = 0, []
        for end in range(self._first + 1, len(self._groups)):
            run = run + 1 if self._repeats(end - 1, size) else 0
            if run >= size and self._is_unsaid(end - size, size):
                unsaid.append(end - size)
        return min(unsaid, key=lambda at: self._sound_s(at, size), default=None)

    def _is_unsaid(self, at: int, size: int) -> bool:
        return self._has_no_sound(at, size) or self._sound_s(at, size) < SQUEEZED * self._longest_s(at, size)

    def _has_no_sound(self, at: int, size: int) -> bool:
        n_soundless = sum(self._is_soundless(i, size) for i in range(at, at + size))
        return size >= FEW_WORDS and n_soundless >= SOUNDLESS * size

    def cut_unsaid_end(self, size: int) -> None:
        """Cut a last round without sound, or where the attention stands still for `FEW_WORDS` words or a last round."""
        at = len(self._groups) - size
        if (
            at >= self._first
            and all(self._repeats(i, size) for i in range(at, at + size))
            and self._has_no_sound(at, size)
        ):
            self._cut(slice(at, None))
            return
        run = 0
        for end in range(self._first + 1, len(self._groups) + 1):
            is_still = self._repeats(end - 1, size) and self._is_soundless(end - 1, size)
            run = run + 1 if is_still else 0
            if run >= FEW_WORDS or (run >= size and end == len(self._groups)):
                self._cut(slice(end - run, None))
                return

    def remove(self, at: int, size: int) -> None:
        """Remove a round of the hypothesis."""
        self._cut(slice(at, at + size))

    def _cut(self, part: slice) -> None:
        del self._groups[part]
        del self._keys[part]

    def _repeats(self, i: int, size: int) -> bool:
        return i >= size and self._keys[i] == self._keys[i - size] != ""

    def _sound_s(self, at: int, size: int) -> float:
        return sum(group[0].end_s - group[0].start_s for group in self._groups[at : at + size])

    def _is_soundless(self, i: int, size: int) -> bool:
        """Whether a word has no sound of its own, which it had in a round before; fast speech is all short."""
        sound_s = self._sound_s(i, 1)
        if sound_s > SOUNDLESS_S:
            return False
        earlier = range(i - size, -1, -size)
        same = itertools.takewhile(lambda k: self._keys[k] == self._keys[i], earlier)
        return any(sound_s < SQUEEZED * self._sound_s(k, 1) for k in same)

    def _longest_s(self, at: int, size: int) -> float:
        """Sound of the longest round before `at` in the same repetition, seconds."""
        longest, begin = 0.0, at
        while begin >= size and self._keys[begin - size : begin] == self._keys[at : at + size]:
            begin -= size
            longest = max(longest, self._sound_s(begin, size))
        return longest


def _with_marks(words: Sequence[SpokenWord]) -> list[list[SpokenWord]]:
    groups: list[list[SpokenWord]] = []
    for word in words:
        if groups and not word.key:
            groups[-1].append(word)
        else:
            groups.append([word])
    return groups
