"""Tests of streamer/access/allowances.py: what serves a request finds what its caller's requests share."""

from __future__ import annotations

from streamer.access.allowances import Allowance, allowance_of, note


def test_whatever_serves_a_request_finds_the_allowance_that_was_noted() -> None:
    """Two requests of a caller share one."""
    shared, one, another = Allowance(), dict[str, object](), dict[str, object]()
    note(one, shared)
    note(another, shared)

    assert allowance_of(one) is allowance_of(another) is shared


def test_a_request_of_nobody_has_an_allowance_of_its_own() -> None:
    """The same one each time: where another server runs the application, nobody may have noted any."""
    one, another = dict[str, object](), dict[str, object]()

    assert allowance_of(one) is allowance_of(one)
    assert allowance_of(one) is not allowance_of(another)
