"""Tests of streamer/protocol/event_queue.py: what an unread event gives its place to."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamer.protocol.event_queue import CoalescingQueue
from streamer.protocol.events import Ack, Caption, Flushed


def caption(turn: int, rev: int) -> Caption:
    """A caption without text."""
    return Caption(turn=turn, rev=rev, stable="", partial="", start_s=0.0, end_s=0.0)


def ack(received_s: float) -> Ack:
    """An ack."""
    return Ack(received_s=received_s, stable_s=0.0, lag_s=0.0)


def test_newest_of_a_kind() -> None:
    """A caption takes the place of that of its turn, an ack that of none."""
    unread = CoalescingQueue()
    for event in (caption(0, 1), ack(1.0), caption(1, 1), caption(0, 2), Flushed(id=1), ack(2.0), Flushed(id=2)):
        unread.put(event)

    assert list(unread) == [caption(0, 2), caption(1, 1), Flushed(id=1), ack(2.0), Flushed(id=2)]
    assert len(unread) == 5


def supersedes(event: Caption | Ack | Flushed, old: Caption | Ack | Flushed) -> bool:
    if isinstance(event, Caption):
        return isinstance(old, Caption) and old.turn == event.turn
    return isinstance(event, Ack) and isinstance(old, Ack)


def test_put_back() -> None:
    """What comes again comes first, in its order."""
    unread = CoalescingQueue()
    unread.put(Flushed(id=3))
    unread.put_back([Flushed(id=1), Flushed(id=2)])

    assert [unread.take() for _ in range(3)] == [Flushed(id=1), Flushed(id=2), Flushed(id=3)]


def test_what_was_superseded_meanwhile_is_not_put_back() -> None:
    """The newer caption of the turn keeps its place."""
    unread = CoalescingQueue()
    for event in (Flushed(id=3), caption(0, 2)):
        unread.put(event)
    unread.put_back([Flushed(id=1), caption(0, 1)])

    assert list(unread) == [Flushed(id=1), Flushed(id=3), caption(0, 2)]


@given(st.lists(st.one_of(st.integers(0, 3).map(lambda turn: ("caption", turn)), st.sampled_from(["ack", "flushed"]))))
def test_the_newest_of_a_kind_is_all_that_waits_of_it(kinds: list[str | tuple[str, int]]) -> None:
    """A caption stands where the first one of its turn stood, an ack where the last one came."""
    unread, expected = CoalescingQueue(), list[Caption | Ack | Flushed]()
    for n, kind in enumerate(kinds):
        event = caption(kind[1], n) if isinstance(kind, tuple) else ack(n) if kind == "ack" else Flushed(id=n)
        unread.put(event)
        older = [old for old in expected if supersedes(event, old)]
        if older and isinstance(event, Caption):
            expected[expected.index(older[0])] = event
            continue
        if older:
            expected.remove(older[0])
        expected.append(event)

    assert list(unread) == expected
    assert [unread.take() for _ in range(len(unread))] == expected
