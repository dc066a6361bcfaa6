"""Layout of a draft verification pass: which tokens, hidden states and choices belong to which row. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from streamer.engine.decoding import Restrictions
from streamer.engine.keyterms import TokenContext
from streamer.engine.row import Row


@dataclass(frozen=True, slots=True)
class Segment:
    """
    One row's part of a verification pass.

    The pass runs the uncached tokens of the row's context, then its draft. A choice is made after the last token of the
    context and after each draft token.
    """

    row: Row
    tokens: tuple[int, ...]
    """Tokens that the pass runs for this row."""
    first: int
    """Index of the first of them among the tokens of all rows."""
    first_choice: int
    """Index of the row's first choice among the choices of all rows."""

    @property
    def n_choices(self) -> int:
        """One more than the draft has tokens."""
        return len(self.row.draft) + 1

    @property
    def choices(self) -> slice:
        """The row's choices among those of all rows."""
        return slice(self.first_choice, self.first_choice + self.n_choices)

    @property
    def chosen_at(self) -> range:
        """Indices of the hidden states from which the choices are made."""
        end = self.first + len(self.tokens)
        return range(end - self.n_choices, end)

    @property
    def start_at(self) -> int | None:
        """Index of the start token's hidden state; None if the start token was cached."""
        offset = self.row.sot_at - self.row.n_cached
        return self.first + offset if offset >= 0 else None

    @property
    def n_read(self) -> int:
        """Tokens of this pass that stay in the cache: the context and the verified part of the draft."""
        return len(self.tokens) - len(self.row.draft) + self.row.n_verified

    def contexts(self) -> list[TokenContext]:
        """Key-term context of each choice."""
        return [self.row.token_context(self.row.draft[:n]) for n in range(self.n_choices)]


def segments_of(rows: Sequence[Row]) -> list[Segment]:
    """Lay out a pass over these rows, one after the other."""
    tokens = [(*row.context[row.n_cached :], *row.draft) for row in rows]
    firsts = itertools.accumulate(map(len, tokens), initial=0)
    first_choices = itertools.accumulate((len(row.draft) + 1 for row in rows), initial=0)
    return [Segment(*each) for each in zip(rows, tokens, firsts, first_choices, strict=False)]


def restrictions_of(segments: Sequence[Segment], begins_word: Callable[[int], bool]) -> Restrictions:
    """
    Which choices of a pass are restricted.

    Args:
        segments: Of all rows.
        begins_word: Whether a token begins a new word.
    """
    restrictions = Restrictions()
    for segment in segments:
        row, first = segment.row, segment.first_choice
        if not row.request.prefix:
            restrictions.first.append(first)
            if row.request.begins_sentence:
                restrictions.capital.append(first)
        if row.request.no_eot_at is not None and row.request.no_eot_at < segment.n_choices:
            restrictions.no_eot.append(first + row.request.no_eot_at)
        restrictions.rests.extend(first + at for at in row.request.rests_at if at < segment.n_choices)
        if row.follows_words:
            n = next((n for n, token in enumerate(row.draft) if begins_word(token)), len(row.draft))
            restrictions.attached.extend(range(first, first + n + 1))
    return restrictions
