"""Tests of streamer/scheduling/session_handle.py: samples and commands in, events out, both bounded."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
import torch

from streamer.audio.pcm import SAMPLE_RATE
from streamer.errors import EngineError, OverloadError
from streamer.protocol.events import Bye, Event, Flushed, TurnEnd
from streamer.protocol.options import Update
from streamer.scheduling.inbox import MAX_COMMANDS
from streamer.scheduling.session_handle import SessionHandle
from tests.helpers.events import BYE, ack, caption, turn_end
from tests.helpers.sessions import new_session
from tests.helpers.waiting import is_waiting

MAX_UNREAD = 100


class Owner:
    """Opens one stream and counts what it asks of its scheduler."""

    def __init__(self, max_backlog_s: float = 1.0, offset_s: float = 0.0) -> None:
        self.n_wakes = 0
        self.detached: list[SessionHandle] = []
        session = new_session(offset_s=offset_s)
        self.stream = SessionHandle(
            session,
            token="r_1",
            max_backlog_s=max_backlog_s,
            max_unread=MAX_UNREAD,
            caller="kitchen",
            wake=self.wake,
            on_detach=self.detached.append,
        )

    def wake(self) -> None:
        """Count."""
        self.n_wakes += 1


def sound(seconds: float, value: float = 0.5) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Constant samples."""
    return np.full(round(seconds * SAMPLE_RATE), value, np.float32)


async def read(stream: SessionHandle) -> list[Event]:
    """All events until the end."""
    return [event async for event in stream]


class TestFeed:
    """Samples wait where there is no room, and none is dropped."""

    async def test_waits_while_the_backlog_is_full(self) -> None:
        """The block that fills the backlog is taken; the next one waits until something was heard."""
        stream = Owner(max_backlog_s=1.0).stream
        await stream.feed(sound(0.6))
        await stream.feed(sound(0.6))
        assert stream.backlog_s == pytest.approx(1.2)
        third = asyncio.create_task(stream.feed(sound(0.3)))
        assert await is_waiting(third)
        assert stream.received_s == pytest.approx(1.2)
        assert stream.take_samples(int(0.5 * SAMPLE_RATE)).shape == (8000,)
        assert not await is_waiting(third)
        assert stream.received_s == pytest.approx(1.5)

    async def test_cancelled_feed_takes_nothing(self) -> None:
        """A feed given up while it waits leaves no trace."""
        stream = Owner().stream
        await stream.feed(sound(1.0))
        waiting = asyncio.create_task(stream.feed(sound(0.3)))
        assert await is_waiting(waiting)
        waiting.cancel()
        assert await asyncio.gather(waiting, return_exceptions=True)
        assert stream.take_samples(10**6).shape == (16_000,)
        assert stream.received_s == 1.0

    async def test_end_and_failure_let_a_waiting_feed_go(self) -> None:
        """Nobody waits for ever for a session that is over."""
        for close in (SessionHandle.end, lambda stream: stream.fail(EngineError("broken"))):
            stream = Owner().stream
            await stream.feed(sound(1.0))
            waiting = asyncio.create_task(stream.feed(sound(0.3)))
            assert await is_waiting(waiting)
            close(stream)
            assert not await is_waiting(waiting)
            assert stream.received_s == 1.0

    async def test_nothing_after_the_end(self) -> None:
        """Samples and commands after `end` are ignored, and so is a second end."""
        owner = Owner()
        owner.stream.end()
        n_wakes = owner.n_wakes
        await owner.stream.feed(sound(0.1))
        owner.stream.flush(1)
        owner.stream.end()
        assert owner.n_wakes == n_wakes
        owner.stream.take_samples(10**6)
        assert len(owner.stream.take_commands()) == 1
        assert not owner.stream.has_input

    async def test_a_connection_that_was_taken_over_feeds_nothing(self) -> None:
        """Its successor sends the same samples: neither a waiting nor a late block of the old one is taken as well."""
        stream = Owner().stream
        holder = stream.holder
        await stream.feed(sound(1.0), holder)
        waiting = asyncio.create_task(stream.feed(sound(0.3), holder))
        assert await is_waiting(waiting)

        stream.attach(0.0)
        stream.take_samples(10**6)

        assert not await is_waiting(waiting)
        await stream.feed(sound(0.3), holder)
        assert stream.received_s == 1.0
        await stream.feed(sound(0.3), stream.holder)
        assert stream.received_s == 1.3

    async def test_empty_block_is_no_input(self) -> None:
        """No samples, no work."""
        owner = Owner()
        await owner.stream.feed(sound(0))
        assert not owner.stream.has_input
        assert owner.n_wakes == 0

    async def test_wakes_for_samples_and_commands(self) -> None:
        """Whoever serves the stream is told of each input, the end included."""
        owner = Owner()
        await owner.stream.feed(sound(0.1))
        owner.stream.flush(1)
        owner.stream.update(Update(language="de"))
        owner.stream.end()
        assert owner.n_wakes == 4

    async def test_received_time_counts_from_the_offset(self) -> None:
        """What was received is stream time, as a client that comes back needs it."""
        stream = Owner(offset_s=30.0).stream
        await stream.feed(sound(0.5))
        assert stream.received_s == 30.5

    async def test_samples_are_a_copy_of_nothing_else(self) -> None:
        """Any float block is accepted, also one that is not contiguous."""
        stream = Owner().stream
        await stream.feed(np.arange(10, dtype=np.float32)[::2])
        assert stream.take_samples(100).tolist() == [0, 2, 4, 6, 8]


class TestOrder:
    """Commands take effect where they stand between the samples."""

    async def test_commands_wait_for_the_samples_before_them(self) -> None:
        """A command is handed out when everything fed before it was taken, not earlier."""
        stream = Owner().stream
        await stream.feed(sound(0.1, 0.1))
        stream.flush(1)
        await stream.feed(sound(0.1, 0.2))
        assert stream.take_commands() == []
        assert stream.take_samples(1000).shape == (1000,)
        assert stream.take_commands() == []
        assert stream.take_samples(10**6).shape == (600,)
        assert len(stream.take_commands()) == 1
        assert torch.equal(stream.take_samples(10**6), torch.full((1600,), 0.2))

    async def test_commands_reach_the_session(self) -> None:
        """Flush, update and end do to the session what they say."""
        stream = Owner().stream
        stream.flush(3)
        stream.update(Update(language="de", endpoint_ms=700))
        first, second = stream.take_commands()
        assert first.apply(stream.session) == [Flushed(id=3)]
        assert second.apply(stream.session) == []
        assert (stream.options.language, stream.options.endpoint_ms) == ("de", 700)
        stream.end()
        stream.take_samples(10**6)
        [end] = stream.take_commands()
        assert isinstance(end.apply(stream.session)[-1], Bye)
        assert stream.is_over

    async def test_end_completes_the_last_frames(self) -> None:
        """The end is preceded by just as much silence as the last mel and voice frames need."""
        stream = Owner().stream
        await stream.feed(sound(0.1))
        stream.end()
        taken = stream.take_samples(10**6)
        assert taken[:1600].tolist() == [0.5] * 1600
        assert not taken[1600:].any()
        assert 512 + 200 <= taken.shape[0] - 1600 <= 1600
        assert stream.received_s == 0.1


class TestEvents:
    """What the reader sees."""

    async def test_reader_that_is_too_slow_is_cut_off(self) -> None:
        """Too many unread events end the session; every final text is delivered before the error."""
        stream = Owner().stream
        n = 0
        while not stream.is_over:
            stream.say([turn_end(n), ack(float(n))])
            n += 1
        events = aiter(stream)
        delivered = [await anext(events) for _ in range(n + 1)]
        assert [event for event in delivered if isinstance(event, TurnEnd)] == [turn_end(turn) for turn in range(n)]
        with pytest.raises(OverloadError, match="too slowly"):
            await anext(events)
        assert n == MAX_UNREAD

    async def test_commands_do_not_pile_up(self) -> None:
        """More updates than any client has a use for end the session with an error."""
        stream = Owner().stream
        for _ in range(MAX_COMMANDS):
            stream.update(Update(keyterms=("one",)))
        assert not stream.is_over
        stream.flush(1)
        assert stream.is_over
        with pytest.raises(OverloadError, match="send fewer"):
            await read(stream)

    async def test_captions_never_pile_up(self) -> None:
        """A client that reads nothing while one turn goes on costs one caption and one ack."""
        stream = Owner().stream
        for n in range(3 * MAX_UNREAD):
            stream.say([caption(0, n), ack(float(n))])
        assert not stream.is_over
        stream.say([BYE])
        assert await read(stream) == [caption(0, 3 * MAX_UNREAD - 1), ack(3 * MAX_UNREAD - 1.0), BYE]

    async def test_failure_comes_after_what_was_said(self) -> None:
        """An error ends the iteration once the events before it were read; pending input is dropped."""
        stream = Owner().stream
        await stream.feed(sound(0.1))
        stream.say([caption(0, 1)])
        stream.fail(EngineError("broken"))
        assert stream.is_over
        assert not stream.has_input
        seen = []

        async def read_on() -> None:
            async for event in stream:
                seen.append(event)  # noqa: PERF401

        with pytest.raises(EngineError, match="broken"):
            await read_on()
        assert seen == [caption(0, 1)]

    def test_detach_is_told(self) -> None:
        """Whoever opened the stream hears that its connection is gone."""
        owner = Owner()
        owner.stream.detach()
        assert owner.detached == [owner.stream]
        assert (owner.stream.id, owner.stream.token) == ("s_1", "r_1")
