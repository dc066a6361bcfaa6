"""Tests of streamer/protocol/event_queue.py: what an unread event gives its place to."""

from __future__ import annotations

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


def test_put_back() -> None:
    """What comes again comes first, in its order."""
    unread = CoalescingQueue()
    unread.put(Flushed(id=3))
    unread.put_back([Flushed(id=1), Flushed(id=2)])

    assert [unread.take() for _ in range(3)] == [Flushed(id=1), Flushed(id=2), Flushed(id=3)]
