"""Tests of streamer/scheduling/outbox.py: events for one reader at a time, coalesced, sent again to the next one."""

from __future__ import annotations

import asyncio

import pytest

from streamer.errors import EngineError
from streamer.protocol.events import Event, Flushed, Speech, TurnRevised
from streamer.scheduling.outbox import Outbox
from tests.helpers.events import BYE, ack, caption, turn_end
from tests.helpers.waiting import until_idle

MAX_UNREAD = 100


async def read(outbox: Outbox) -> list[Event]:
    """All events until the end."""
    return [event async for event in outbox.read()]


async def test_captions_replace_captions_of_their_turn() -> None:
    """Of unread captions only the newest of each turn is left; everything else is kept, in order."""
    outbox = Outbox(MAX_UNREAD)
    started = Speech(state="started", at_s=0.0)
    outbox.put([started, caption(0, 1), caption(0, 2), turn_end(0), caption(1, 1)])
    outbox.put([caption(1, 2), turn_end(1), BYE])
    assert await read(outbox) == [started, caption(0, 2), turn_end(0), caption(1, 2), turn_end(1), BYE]


async def test_acks_replace_acks() -> None:
    """Only the newest unread ack is left."""
    outbox = Outbox(MAX_UNREAD)
    outbox.put([ack(1.0), caption(0, 1), ack(2.0), Flushed(id=1), Flushed(id=2), BYE])
    assert await read(outbox) == [caption(0, 1), ack(2.0), Flushed(id=1), Flushed(id=2), BYE]


async def test_reading_waits() -> None:
    """Events are yielded as they are said."""
    outbox = Outbox(MAX_UNREAD)
    events = outbox.read()
    outbox.put([caption(0, 1)])
    assert await anext(events) == caption(0, 1)
    waiting = asyncio.ensure_future(anext(events))
    await until_idle()
    assert not waiting.done()
    outbox.put([turn_end(0)])
    assert await waiting == turn_end(0)


async def test_next_reader_goes_on() -> None:
    """A reader that was cancelled leaves the rest to the one that comes after a resume."""
    outbox = Outbox(MAX_UNREAD)
    outbox.put([caption(0, 1)])
    async for event in outbox.read():
        assert event == caption(0, 1)
        break
    lost = asyncio.create_task(read(outbox))
    await until_idle()
    lost.cancel()
    await asyncio.gather(lost, return_exceptions=True)
    outbox.put([turn_end(0), BYE])
    assert await read(outbox) == [turn_end(0), BYE]


async def test_reader_that_was_taken_over_before_it_began() -> None:
    """A connection that is replaced while it still greets its client takes nothing from the new one."""
    outbox = Outbox(MAX_UNREAD)
    first = outbox.read()
    outbox.take_over(0.0)
    outbox.put([turn_end(0), BYE])

    assert [event async for event in first] == []
    assert await read(outbox) == [turn_end(0), BYE]


async def test_text_is_read_before_the_ack_that_calls_it_stable() -> None:
    """A newer caption takes the place of the unread one: no ack overtakes the text that it speaks of."""
    outbox = Outbox(MAX_UNREAD)
    outbox.put([caption(0, 1), ack(1.0)])
    outbox.put([caption(0, 2)])
    outbox.put([BYE])
    assert await read(outbox) == [caption(0, 2), ack(1.0), BYE]


async def test_what_a_broken_connection_may_have_lost_is_said_again() -> None:
    """The newest turn even if it ended before the client's text does, and the open one as it stands."""
    outbox = Outbox(MAX_UNREAD)
    outbox.put([turn_end(0), turn_end(1), caption(2, 1)])
    events = outbox.read()
    assert [await anext(events) for _ in range(3)] == [turn_end(0), turn_end(1), caption(2, 1)]

    outbox.take_over(5.0)
    outbox.put([caption(2, 2), BYE])

    assert await read(outbox) == [turn_end(1), caption(2, 2), BYE]


async def test_an_unread_caption_is_not_said_twice() -> None:
    """What waits for the new connection is newer than what the old one read."""
    outbox = Outbox(MAX_UNREAD)
    outbox.put([caption(0, 1)])
    assert await anext(outbox.read()) == caption(0, 1)
    outbox.put([caption(0, 2), turn_end(0)])

    outbox.take_over(0.0)
    outbox.put([BYE])

    assert await read(outbox) == [caption(0, 2), turn_end(0), BYE]


async def test_failure_wakes_a_waiting_reader() -> None:
    """A reader with nothing to read learns of the failure."""
    outbox = Outbox(MAX_UNREAD)
    reader = asyncio.create_task(read(outbox))
    await until_idle()
    outbox.fail(EngineError("broken"))
    with pytest.raises(EngineError):
        await reader


def test_too_many_unread_events() -> None:
    """The bound counts what waits, and captions and acks that were replaced do not."""
    outbox = Outbox(max_unread=2)
    outbox.put([caption(0, 1), ack(1.0), caption(0, 2), ack(2.0)])
    assert not outbox.is_over_bound

    outbox.put([turn_end(0)])

    assert outbox.is_over_bound
    outbox.check_integrity()


async def test_integrity_through_a_session() -> None:
    """Before the first event, between events, after a resume and after a failure."""
    outbox = Outbox(MAX_UNREAD)
    outbox.check_integrity()
    outbox.put([turn_end(0), caption(1, 1)])
    events = outbox.read()
    for _ in range(2):
        await anext(events)
        outbox.check_integrity()
    outbox.take_over(0.0)
    outbox.check_integrity()
    outbox.fail(EngineError("broken"))
    outbox.check_integrity()


async def test_revisions_are_read_again_after_their_turns() -> None:
    """What a broken connection has read may be lost: each revision comes again once, behind the turns."""
    outbox = Outbox(MAX_UNREAD)
    revised = TurnRevised(turn=0, text="a", language="en", reason="text", model="base")
    outbox.put([turn_end(0), turn_end(1), revised])
    events = outbox.read()
    assert [await anext(events) for _ in range(3)] == [turn_end(0), turn_end(1), revised]
    outbox.take_over(0.0)
    outbox.put([BYE])
    assert await read(outbox) == [turn_end(0), turn_end(1), revised, BYE]
