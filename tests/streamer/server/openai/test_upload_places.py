"""Tests of streamer.server.openai.upload_places."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.errors import OverloadError
from streamer.server.openai.upload_places import UploadPlaces


def test_one_caller_leaves_as_many_places_as_it_takes() -> None:
    """And the next one gets its own."""
    places = UploadPlaces(8)
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(places.taken("a"))
        with pytest.raises(OverloadError, match="4 uploads are being read, 4 of them yours"), places.taken("a"):
            pass
        with places.taken("b"), places.taken("b"):
            pass
    with places.taken("a"):
        pass


@given(st.lists(st.sampled_from("abcdefgh"), max_size=100), st.integers(1, 32))
def test_no_caller_empties_the_places(callers: list[str], n_places: int) -> None:
    """Whoever comes when there is room for all is let in; there are never more than there are places."""
    places = UploadPlaces(n_places)
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
