"""Tests of streamer/access/places.py: nobody takes all."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.access.places import Places, greediest
from streamer.errors import OverloadError


def test_one_caller_leaves_as_many_places_as_it_takes() -> None:
    """And the next one gets its own."""
    places = Places(8, "uploads")
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(places.taken("a"))
        with pytest.raises(OverloadError, match="4 uploads, 4 of them yours"), places.taken("a"):
            pass
        with places.taken("b"), places.taken("b"):
            pass
    with places.taken("a"):
        pass


@given(st.lists(st.sampled_from("abcdefgh"), max_size=100), st.integers(1, 32))
def test_no_caller_empties_the_places(callers: list[str], n_places: int) -> None:
    """Whoever comes when there is room for all is let in; there are never more than there are places."""
    places = Places(n_places, "uploads")
    n_taken = dict.fromkeys("abcdefgh", 0)
    with contextlib.ExitStack() as stack:
        for caller in callers:
            n_free = n_places - sum(n_taken.values())
            if n_taken[caller] < n_free:
                stack.enter_context(places.taken(caller))
                n_taken[caller] += 1
            else:
                with pytest.raises(OverloadError), places.taken(caller):
                    pass
        assert sum(n_taken.values()) <= n_places
    with places.taken("a"):
        pass


def test_who_may_have_all_gets_all() -> None:
    """The programs of one machine, which need no key, are one caller."""
    places = Places(3, "viewers")
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(places.taken(None))
        assert places.n_taken == 3
        with pytest.raises(OverloadError, match="3 viewers"), places.taken(None):
            pass
        with pytest.raises(OverloadError), places.taken("a"):
            pass
    assert places.n_taken == 0


@pytest.mark.parametrize(
    ("holders", "caller", "found"),
    [
        ("", "a", ""),
        ("bbb", "a", "b"),
        ("bb", "a", "b"),
        ("b", "a", ""),
        ("bba", "a", ""),
        ("bbba", "a", "b"),
        ("bbccc", "a", "c"),
        ("aaa", "a", ""),
    ],
)
def test_who_has_most_has_more_than_another_one(holders: str, caller: str, found: str) -> None:
    """And would have no fewer after a place changed hands, so that it never goes back."""
    assert greediest(holders, caller) == found


def test_callers_without_a_name_are_one() -> None:
    """A daemon without keys has nobody to prefer."""
    assert greediest(["", "", ""], "a") == ""
