"""
A gateway's connection to the hub: questions with their answers, and what the hub asks.

A hub that does not answer in time is away: what needs its word is refused, everything else goes on. It may come back;
what was asked meanwhile is taken back then, so nothing stays counted. When the connection ends the daemon has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable

import msgspec
import structlog

from streamer.errors import OverloadError, ProtocolError
from streamer.gateways import wire

ANSWER_S = 2.0
"""Time in which the hub answers, seconds: it may wait for two gateways meanwhile."""
MOST_ASKED = 4096
"""Questions that wait; with more the hub counts as away."""
MOST_UNSENT = 2**22
"""Bytes that wait to be sent from which on what is said in rooms is dropped."""
RETRY_S = 2.0
"""When a client may try again while the hub is away, seconds."""

log = structlog.get_logger()

Handler = Callable[[wire.FromHub], None]


class HubAwayError(OverloadError):
    """The hub does not answer now."""

    def __init__(self) -> None:
        super().__init__("the daemon is too busy to tell whether there is a place; try again", retry_after_s=RETRY_S)


class HubClient:
    """
    One end of the connection.

    Args:
        reader: From the hub.
        writer: To the hub.
        handle: Takes what is no answer.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.handle: Handler = lambda _: None
        """Takes what is no answer."""
        self._ids = itertools.count()
        self._asked: dict[int, asyncio.Future[wire.Answer]] = {}

    def number(self) -> int:
        """The next number, unique on this connection."""
        return next(self._ids)

    def tell(self, message: wire.Message) -> None:
        """Send a message that needs no answer."""
        if not self._writer.is_closing():
            self._writer.write(wire.pack(message))

    def publish(self, message: wire.Publish) -> None:
        """Send what a speaker says, unless the hub has not read for a long time."""
        if self._writer.transport.get_write_buffer_size() < MOST_UNSENT:
            self.tell(message)

    async def ask(self, message: wire.Ask, undo: wire.Message | None = None) -> wire.Answer:
        """
        Ask the hub. After an error or a cancellation, what it may have granted is taken back.

        Args:
            message: It gets a number.
            undo: Takes back what the message asks for, also before the hub has granted it.

        Raises:
            HubAwayError: It does not answer.
            OverloadError, ProtocolError: Its answer.
        """
        if len(self._asked) >= MOST_ASKED or self._writer.is_closing():
            raise HubAwayError
        answer: asyncio.Future[wire.Answer] = asyncio.get_running_loop().create_future()
        number = self.number()
        self._asked[number] = answer
        self.tell(msgspec.structs.replace(message, id=number))
        try:
            async with asyncio.timeout(ANSWER_S):
                return _granted(await answer)
        except BaseException as error:
            if undo:
                self.tell(undo)
            if isinstance(error, TimeoutError):
                log.error("hub_silent", asked=type(message).__name__, seconds=ANSWER_S)  # noqa: TRY400 - it says all
                raise HubAwayError from None
            raise
        finally:
            del self._asked[number]

    async def run(self) -> None:
        """
        Take what the hub says until the connection ends.

        Raises:
            HubWireError: It is no message of the hub.
        """
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                self._take(await self.receive())

    async def receive(self) -> wire.FromHub:
        """
        The next message.

        Raises:
            HubWireError: It is none.
            asyncio.IncompleteReadError, ConnectionError: The connection ends.
        """
        return wire.from_hub(await wire.FRAMING.read(self._reader))

    def _take(self, message: wire.FromHub) -> None:
        if not isinstance(message, wire.Answer):
            self.handle(message)
        elif (answer := self._asked.get(message.id)) and not answer.done():
            answer.set_result(message)

    async def close(self) -> None:
        """Send what waits, and close."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


def _granted(answer: wire.Answer) -> wire.Answer:
    """The answer; raises the error in it."""
    if answer.failure:
        raise error_of(answer.failure)
    return answer


def error_of(failure: wire.Failure) -> OverloadError | ProtocolError:
    """The error in an answer of the hub."""
    if failure.kind == "overload":
        return OverloadError(failure.message, failure.retry_after_s)
    return ProtocolError(failure.code, failure.message)
