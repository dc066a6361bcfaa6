"""Tests of streamer.engine.row."""

from __future__ import annotations

import pytest
import torch

from streamer.engine.row import Row
from streamer.step import StepRequest
from streamer.text.repetition import RUN_AWAY_TOKENS

EOT = 99


def row(*, budget: int = 10, language: str = "en", **fields: object) -> Row:
    """A row that has said nothing yet."""
    request = StepRequest(session="s", log_mel=torch.zeros(5, 10), **fields)  # type: ignore[arg-type]
    return Row(request, slot=0, n_positions=5, language=language, context=(1, 2), sot_at=0, n_cached=0, budget=budget)


def test_a_draft_is_kept_as_far_as_it_was_chosen() -> None:
    """Then comes the first choice that differs."""
    mine = row(draft=(5, 6, 7))

    mine.accept_draft([5, 6, 8, 9], [-0.1, -0.2, -0.3, -0.4], EOT)

    assert (mine.tokens, mine.logprobs) == ([5, 6, 8], [-0.1, -0.2, -0.3])
    assert (mine.n_verified, mine.done) == (2, False)


def test_a_draft_that_was_chosen_whole_has_a_successor() -> None:
    """The choice after its last token; here the end, which is no token of the text."""
    mine = row(draft=(5, 6))

    mine.accept_draft([5, 6, EOT], [-0.1, -0.2, -0.3], EOT)

    assert (mine.tokens, mine.n_verified, mine.ended, mine.done) == ([5, 6], 2, True, True)


def test_an_end_inside_a_draft_ends_it() -> None:
    """Whatever was guessed behind it."""
    mine = row(draft=(5, EOT, 7))

    mine.accept_draft([5, EOT, 7, 8], [-0.1] * 4, EOT)

    assert (mine.tokens, mine.ended) == ([5], True)


def test_a_row_that_goes_in_circles_is_done() -> None:
    """The others of its step do not wait until it reaches its bound."""
    mine = row(budget=200)
    while not mine.done:
        mine.append(len(mine.tokens) % 2, -0.1, eot=99)
    assert len(mine.tokens) == RUN_AWAY_TOKENS
    assert not mine.ended


@pytest.mark.parametrize("n_drafted", [RUN_AWAY_TOKENS - 1, RUN_AWAY_TOKENS, RUN_AWAY_TOKENS + 1, 60])
def test_a_draft_that_goes_in_circles_ends_where_they_would(n_drafted: int) -> None:
    """A guess makes no difference to what is said."""
    mine = row(budget=200, draft=(7,) * n_drafted)
    mine.accept_draft([7] * (n_drafted + 1), [-0.1] * (n_drafted + 1), eot=99)
    assert mine.done
    assert (mine.tokens, mine.n_verified) == ([7] * RUN_AWAY_TOKENS, RUN_AWAY_TOKENS - 1)
    assert len(mine.logprobs) == RUN_AWAY_TOKENS


def test_a_draft_leaves_room_for_a_token_after_it() -> None:
    """Of a longer one only the beginning is verified."""
    assert row(budget=3, draft=(5, 6, 7)).draft == (5, 6)


def test_a_row_is_done_at_its_budget() -> None:
    """Without an end."""
    mine = row(budget=2)
    mine.accept_draft([5], [-0.1], EOT)
    assert not mine.done

    mine.append(6, -0.1, EOT)

    assert (mine.done, mine.ended) == (True, False)


def test_a_row_says_few_tokens_beyond_its_draft() -> None:
    """What the draft had costs the other rows nothing."""
    mine = row(budget=10, draft=(5, 6))
    mine.max_serial = 2
    mine.accept_draft([5, 6, 7], [-0.1] * 3, EOT)
    assert not mine.done

    mine.append(8, -0.1, EOT)

    assert (mine.tokens, mine.done, mine.ended) == ([5, 6, 7, 8], True, False)


def test_anchor_text_and_end_get_times() -> None:
    """The anchor as far as there is a prefix."""
    mine = row(prefix=(3, 4), anchor_tokens=5)
    mine.accept_draft([5], [-0.1], EOT)
    assert mine.n_aligned == 2 + 1

    mine.append(EOT, -0.1, EOT)

    assert mine.n_aligned == 2 + 1 + 1


def test_committed_words_are_followed_where_spaces_divide_them() -> None:
    """Not at the beginning of a window, and not in languages without spaces."""
    assert row(prefix=(3,)).follows_words
    assert not row().follows_words
    assert not row(prefix=(3,), language="ja").follows_words


def test_queries_are_those_of_the_rows_own_tokens() -> None:
    """A stretch of what a pass yields."""
    mine = row()

    mine.add_queries(torch.arange(8).reshape(8, 1, 1), 3, 2)

    assert mine.queries[0].flatten().tolist() == [3, 4]
