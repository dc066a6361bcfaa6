"""
The life of one connection: a reader beside a writer, whatever protocol is spoken and whatever carries it.

Every bound on the client's time is enforced here: silence on the wire, the age of the connection, and through the
transport the time in which a message must be taken. What a frame means is decided by a `Conversation`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

from streamer.config import Config
from streamer.errors import EngineError, StreamerError
from streamer.server.tasks import TimeSlice, run_until_first


class ClientGone(Exception):  # noqa: N818 - an event, not a fault
    """The client has closed the connection, or has taken no message for `limits.send_timeout_s`."""


class ClientClosed(ClientGone):
    """The client has closed the connection in a way that says that it will not come back."""


class Transport(Protocol):
    """Carries frames in both directions. Every method raises ClientGone once the client is gone."""

    async def receive(self) -> str | bytes:
        """Wait for the next frame. Cancelling is safe: no frame is lost. Raises ClientClosed where it can tell."""

    async def send(self, text: str) -> None:
        """Send one text."""

    async def close(self, code: int, reason: str = "") -> None:
        """Close, with a WebSocket close code and reason where the transport has them."""


class Conversation(Protocol):
    """What one client and its sessions say to each other in one protocol."""

    @property
    def has_ended(self) -> bool:
        """Whether no more frames are expected. From then on the client may be silent."""

    @property
    def closing(self) -> tuple[int, str]:
        """Close code and reason for the end of the conversation."""

    async def greet(self) -> None:
        """Send what comes before the client's first frame. Raises StreamerError: the client is refused."""

    async def write(self) -> None:
        """Send the events of the sessions; return once everything is said. Raises StreamerError: a session failed."""

    async def take(self, frame: str | bytes) -> None:
        """Carry out a frame; waits while the backlog of a session is full. Raises StreamerError: a bad frame."""

    async def idle(self) -> None:
        """React to a client that sent nothing for `server.idle_s`. Raises StreamerError: the connection ends."""

    async def expire(self) -> None:
        """End the sessions of a connection that is `limits.max_connection_s` old, so that `write` returns."""

    async def fail(self, error: StreamerError) -> None:
        """Tell the client why the connection ends, and close it."""

    def farewell(self) -> None:
        """Note that the client will not come back; `leave` follows."""

    def leave(self) -> None:
        """Let go of the sessions: nobody reads their events any more. A second call does nothing."""


async def converse(transport: Transport, conversation: Conversation, config: Config) -> None:
    """
    Carry a conversation from its greeting to its close.

    Cancelling is safe: the conversation lets go of its sessions. An unforeseen error closes with 1011 and is raised.

    Args:
        transport: Accepted.
        conversation: Sends over the same transport.
        config: `server.idle_s` and `limits.max_connection_s` are read.
    """
    try:
        async with telling_errors(conversation.fail):
            await conversation.greet()
            await run_until_first(
                conversation.write(),
                _read(transport, conversation, config.server.idle_s),
                _expire(conversation, config.limits.max_connection_s),
            )
            await transport.close(*conversation.closing)
    finally:
        conversation.leave()


async def _read(transport: Transport, conversation: Conversation, idle_s: float) -> None:
    # to the very end: only a read tells that the client has left, or does not keep to the protocol
    time_slice = TimeSlice()
    while True:
        await time_slice.give_way()
        try:
            async with asyncio.timeout(None if conversation.has_ended else idle_s):
                frame = await transport.receive()
        except ClientClosed:
            conversation.farewell()
            raise
        except TimeoutError:
            if not conversation.has_ended:
                await conversation.idle()
        else:
            # outside the timeout: waiting for room in the backlog is not the client's idleness
            await conversation.take(frame)


async def _expire(conversation: Conversation, max_connection_s: float) -> None:
    await asyncio.sleep(max_connection_s)
    await conversation.expire()
    await asyncio.Event().wait()  # until the writer is done


async def drop_frames(transport: Transport) -> None:
    """Read and drop frames until the client is gone; then the transport raises ClientGone."""
    while True:
        await transport.receive()


@contextlib.asynccontextmanager
async def telling_errors(tell: Callable[[StreamerError], Awaitable[None]]) -> AsyncIterator[None]:
    """
    Tell a client why its connection ends; a client that is gone is told nothing.

    An unforeseen error is told as a fault of the daemon, without its details, and raised.

    Args:
        tell: Sends the reason and closes; may raise ClientGone.
    """
    try:
        yield
    except ClientGone:
        pass
    except StreamerError as error:
        with contextlib.suppress(ClientGone):
            await tell(error)
    except Exception:
        with contextlib.suppress(ClientGone):
            await tell(EngineError("a fault of the daemon; its log says more"))
        raise
