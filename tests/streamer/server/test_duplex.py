"""Tests of streamer/server/duplex.py: the reader, the writer and the bounds of any conversation."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from streamer.config import Config, LimitsConfig, ServerConfig
from streamer.errors import EngineError, ProtocolError, StreamerError
from streamer.server.duplex import ClientGone, converse, telling_errors

IDLE_S = 0.05


class ListTransport:
    """A client that sends a list of frames, then leaves or is silent."""

    def __init__(self, *frames: str, leaves: bool = False) -> None:
        self._frames, self._leaves = list(frames), leaves
        self.closed: list[tuple[int, str]] = []

    async def receive(self) -> str:
        """The next frame."""
        if self._frames:
            return self._frames.pop(0)
        if self._leaves:
            raise ClientGone
        await asyncio.Event().wait()
        raise AssertionError

    async def send(self, text: str) -> None:
        """Taken, and forgotten."""

    async def close(self, code: int, reason: str = "") -> None:
        """Note the close."""
        self.closed.append((code, reason))


class Notes:
    """A conversation that notes what it is asked to do; its writer ends after the frame `end`, or when it expires."""

    def __init__(self, transport: ListTransport) -> None:
        self._transport = transport
        self.asked: list[str] = []
        self.has_ended = False
        self.closing = 1000, "over"
        self._over = asyncio.Event()

    async def greet(self) -> None:
        """Note it."""
        self.asked.append("greet")

    async def write(self) -> None:
        """Until it is over."""
        await self._over.wait()

    async def take(self, frame: str | bytes) -> None:
        """A frame may be `end`, `last`, `wait` or `bad`."""
        self.asked.append(str(frame))
        match frame:
            case "end":
                self._over.set()
            case "last":
                self.has_ended = True
            case "wait":
                await asyncio.sleep(2 * IDLE_S)
            case "bad":
                raise ProtocolError("bad_value", "bad frame")

    async def idle(self) -> None:
        """As if the client had said `end`."""
        self.asked.append("idle")
        self._over.set()

    async def expire(self) -> None:
        """As if the client had said `end`."""
        self.asked.append("expire")
        self._over.set()

    async def fail(self, error: StreamerError) -> None:
        """Close with the error."""
        await self._transport.close(1011, str(error))

    def leave(self) -> None:
        """Note it."""
        self.asked.append("leave")


async def carried(transport: ListTransport, config: Config | None = None) -> list[str]:
    """What a conversation over this transport was asked to do."""
    notes = Notes(transport)
    async with asyncio.timeout(120):
        await converse(transport, notes, config or Config(server=ServerConfig(idle_s=IDLE_S)))
    return notes.asked


@pytest.mark.parametrize(
    ("frames", "asked", "closed"),
    [
        (["a", "b", "end"], ["a", "b", "end"], (1000, "over")),
        (["a"], ["a", "idle"], (1000, "over")),
        (["wait", "end"], ["wait", "end"], (1000, "over")),
        (["bad"], ["bad"], (1011, "bad frame")),
    ],
    ids=["frames are carried out in order", "silence", "a wait for room is not idleness", "a bad frame"],
)
async def test_a_conversation_is_carried_to_its_close(
    frames: Sequence[str], asked: list[str], closed: tuple[int, str]
) -> None:
    """Greeted first, left last, closed once."""
    transport = ListTransport(*frames)

    assert await carried(transport) == ["greet", *asked, "leave"]
    assert transport.closed == [closed]


async def test_a_client_that_leaves_is_closed_with_nothing() -> None:
    """Nobody is there to be told."""
    transport = ListTransport("a", leaves=True)

    assert await carried(transport) == ["greet", "a", "leave"]
    assert transport.closed == []


async def test_a_conversation_that_has_ended_may_be_silent_until_it_expires() -> None:
    """The client owes no more frames, and waits for its text."""
    config = Config(server=ServerConfig(idle_s=IDLE_S), limits=LimitsConfig(max_connection_s=3 * IDLE_S))

    assert await carried(ListTransport("last"), config) == ["greet", "last", "expire", "leave"]


async def test_a_cancelled_conversation_is_left() -> None:
    """Its sessions are let go."""
    transport = ListTransport()
    notes = Notes(transport)
    running = asyncio.create_task(converse(transport, notes, Config()))
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert notes.asked == ["greet", "leave"]


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (ClientGone(), None),
        (ProtocolError("idle", "silent for 60 s"), "silent for 60 s"),
        (EngineError("device lost"), "device lost"),
    ],
)
@pytest.mark.parametrize("has_left", [False, True])
async def test_foreseen_ends_are_told_and_over(raised: Exception, told: str | None, has_left: bool) -> None:
    """Whoever is there is told why; whoever leaves, before it or over it, is no error."""
    messages: list[str] = []

    async def tell(error: StreamerError) -> None:
        messages.append(str(error))
        if has_left:
            raise ClientGone()

    async with telling_errors(tell):
        raise raised

    assert messages == ([told] if told else [])


async def test_unforeseen_error_is_told_without_its_inside_and_raised() -> None:
    """The log gets it; the client learns no more than that it is not at fault."""
    messages: list[str] = []

    async def tell(error: StreamerError) -> None:
        messages.append(str(error))
        raise ClientGone()

    with pytest.raises(KeyError, match="secret"):
        async with telling_errors(tell):
            raise KeyError("secret")

    assert messages == ["a fault of the daemon; its log says more"]
