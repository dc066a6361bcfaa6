"""Tests of streamer/gateways/places.py."""

from __future__ import annotations

from collections.abc import Hashable

from streamer.gateways.places import NoPlace, PlaceTable


def table(*callers: str, max_per_caller: int = 0) -> PlaceTable:
    """Each of these callers has a session, all on gateway a."""
    places = PlaceTable(max_per_caller)
    for n, caller in enumerate(callers):
        places.add("a", n, f"s_{n}", f"r_{n}", caller)
    return places


def given_up(places: PlaceTable, session: str, token: str) -> tuple[Hashable, str] | None:
    """Gateway and name of the session that whoever shows these gives up."""
    held = places.give_up(session, token)
    return held and (held.gateway, held.session)


def test_places_are_given_until_there_are_none() -> None:
    """The refusal says how many there are, and blames nobody."""
    places = table("", "")

    assert places.refusal("", 3) is None
    assert places.refusal("", 2) == NoPlace("no free place: 2 of 2 sessions open; try again later", "")


def test_a_key_has_its_bound_on_all_gateways_together() -> None:
    """Its own sessions stand in its way; whoever shows no key has no such bound."""
    places = table("kitchen", "", "", max_per_caller=2)
    places.add("b", 0, "s_3", "r_3", "kitchen")

    refused = places.refusal("kitchen", 100)

    assert refused is not None
    assert refused.of_caller == "kitchen"
    assert "2 sessions open, as many as it may have" in refused.message
    assert places.refusal("office", 100) is None
    assert places.refusal("", 100) is None


def test_a_session_without_a_connection_takes_a_part_and_one_that_is_over_nothing() -> None:
    """A place that is not known is ignored: its gateway may have been lost."""
    places = table("", "")
    places.weigh("a", 0, 0.25)
    assert places.taken == 1.25
    assert places.refusal("", 2) is not None
    places.weigh("a", 1, 0.0)
    assert (places.taken, len(places)) == (0.25, 1)
    places.weigh("a", 1, 1.0)
    places.weigh("b", 0, 1.0)

    assert places.taken == 0.25


def test_a_gateway_that_is_gone_has_no_places() -> None:
    """Nor sessions that could be found there."""
    places = table("", "")
    places.add("b", 0, "s_9", "r_9", "")
    places.drop("a")

    assert (places.taken, places.give_up("s_1", "r_1")) == (1.0, None)
    assert given_up(places, "s_9", "r_9") == ("b", "s_9")


def test_a_session_is_given_up_once_by_whoever_knows_its_secret() -> None:
    """One that has no secret by nobody."""
    places = table("", "")
    places.add("b", 0, "s_9", "", "")

    given = [given_up(places, *each) for each in (("s_1", "r_0"), ("s_5", "r_5"), ("s_9", ""), ("s_1", "r_1"))]

    assert given == [None, None, None, ("a", "s_1")]
    assert (places.taken, places.give_up("s_1", "r_1")) == (2.0, None)


def test_a_session_is_known_by_the_one_that_it_goes_on_with() -> None:
    """Its client asks for that one again where it was not told of this one; with the right secret alone."""
    places = table("")
    places.add("b", 0, "s_1", "r_1", "", ("s_9", "r_9"))
    places.add("c", 0, "s_2", "r_2", "", ("s_8", ""))

    given = [given_up(places, *each) for each in (("s_9", "r_1"), ("s_9", "ü\ud800"), ("s_8", ""), ("s_9", "r_9"))]

    assert given == [None, None, None, ("b", "s_1")]
    assert places.give_up("s_1", "r_1") is None


def test_who_has_most_is_known_by_name() -> None:
    """And nobody, where a place that changed hands would turn it round."""
    assert table("kitchen", "kitchen", "office").greediest("garden") == "kitchen"
    assert table("kitchen", "office").greediest("office") == ""
