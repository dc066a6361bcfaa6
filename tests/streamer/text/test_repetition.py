"""Tests of streamer/text/repetition.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.text.repetition import (
    LONGEST_PIECE,
    RUN_AWAY_ROUNDS,
    RUN_AWAY_TOKENS,
    find_loop,
    is_repetition_loop,
    last_round_start,
    repeats,
)


class TestFindLoop:
    """Hypotheses that go in circles."""

    @pytest.mark.parametrize(
        ("tokens", "loop"),
        [
            ([], None),
            ([1, 2, 3, 4], None),
            ([7, 1, 2, 1, 2, 1, 2], (3, 2)),
            ([1, 2, 1, 2], None),
            ([9, 5, 5, 5, 5, 5], None),
            ([9, 5, 5, 5, 5, 5, 5], (2, 1)),
            ([1, 2, 3, 1, 2, 3, 1, 2, 3], (3, 3)),
            ([1, 2, 1, 2, 1, 2, 3], None),
        ],
    )
    def test_a_loop_begins_behind_its_first_round(self, tokens: list[int], loop: tuple[int, int] | None) -> None:
        """The first round is no repetition; two rounds are no loop, nor is one that was left again."""
        assert find_loop(tokens) == loop

    @given(
        head=st.lists(st.integers(100, 200), max_size=6, unique=True),
        piece=st.lists(st.integers(0, 50), min_size=2, max_size=16, unique=True),
        repeats=st.integers(3, 6),
    )
    def test_finds_every_loop(self, head: list[int], piece: list[int], repeats: int) -> None:
        """A piece said three times or more up to the end is cut after its first round."""
        assert find_loop([*head, *piece * repeats]) == (len(head) + len(piece), len(piece))

    def test_piece_may_not_be_too_long(self) -> None:
        """A long sentence said three times is no loop of the network."""
        assert find_loop(list(range(17)) * 3) is None
        assert find_loop(list(range(17)) * 3, longest=17) == (17, 17)


class TestLastRoundStart:
    """Where a window begins whose words repeat themselves."""

    @given(
        head=st.lists(st.integers(100, 200), max_size=6, unique=True),
        piece=st.lists(st.integers(0, 50), min_size=3, max_size=8, unique=True),
        repeats=st.integers(2, 6),
        data=st.data(),
    )
    def test_the_last_whole_round_is_kept(
        self, head: list[int], piece: list[int], repeats: int, data: st.DataObject
    ) -> None:
        """And the part of the next one that is there."""
        part = data.draw(st.integers(0, len(piece) - 1))
        words = list(map(str, [*head, *piece * repeats, *piece[:part]]))
        at = last_round_start(words, LONGEST_PIECE)
        assert at is not None
        assert words[at:] == list(map(str, [*piece, *piece[:part]]))

    @pytest.mark.parametrize(
        ("text", "kept"),
        [
            ("very very good", None),
            ("very very", None),
            ("no no no", "no"),
            ("ask not ask not", None),
            ("ask not ask not ask not ask", "ask not ask"),
            ("so it is so it is", "so it is"),
            ("so it is so it is good", None),
            ("", None),
        ],
    )
    def test_what_people_double_is_no_repetition(self, text: str, kept: str | None) -> None:
        """One or two words count from the third time on; a repetition that was left is over."""
        words = text.split()
        at = last_round_start(words, LONGEST_PIECE)
        assert (None if at is None else " ".join(words[at:])) == kept


class TestRunsAway:
    """Texts that are stopped while they are said."""

    @given(
        head=st.lists(st.integers(100, 200), max_size=6, unique=True),
        piece=st.lists(st.integers(0, 50), min_size=1, max_size=LONGEST_PIECE, unique=True),
    )
    def test_is_noticed_at_its_last_token(self, head: list[int], piece: list[int]) -> None:
        """Five rounds, and twenty tokens, are enough; one token less is not. What is left is a loop."""
        n = max(RUN_AWAY_ROUNDS * len(piece), RUN_AWAY_TOKENS)
        text = [*head, *(piece * n)[:n]]
        assert is_repetition_loop(text)
        assert not is_repetition_loop(text[:-1])
        assert find_loop(text, len(text)) is not None

    def test_numbers_and_choruses_do_not(self) -> None:
        """A million and more has fewer zeros, and a line is sung four times."""
        assert not is_repetition_loop([1, *[0] * 12])
        assert not is_repetition_loop([7, 8, 9, 10, 11] * 4)

    def test_a_circle_that_was_left(self) -> None:
        """What goes on is not stopped."""
        assert not is_repetition_loop([*[1, 2] * 20, 3])


@pytest.mark.parametrize(
    ("text", "is_repetition"),
    [("so it is so it is then", True), ("a b a b c", False), ("x a b a b a b", True), ("no no no", True), ("", False)],
)
def test_repetitions_are_found_anywhere(text: str, is_repetition: bool) -> None:
    """Rounds of one and two words must be there three times."""
    assert repeats(text.split(), 8) == is_repetition
