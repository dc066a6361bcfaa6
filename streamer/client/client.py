"""
A client of `captions.v1` that loses no word: send audio, iterate events.

    async with connect("ws://127.0.0.1:8000") as captions:
        async for event in captions.transcribe(blocks):
            ...

Audio that is not stable text yet is kept (`resumption.Backlog`), and when the connection breaks or the daemon restarts,
the client connects again by itself and sends from where the daemon wants it. Its user sees one story without a seam.
Needs neither torch nor anything else of the daemon.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_socket
from websockets.exceptions import WebSocketException
from websockets.typing import Subprotocol

from streamer.client.resumption import END_TOLERANCE_S, Backlog, Outgoing, Revisions, Story
from streamer.errors import OverloadError, ProtocolError, StreamerError
from streamer.protocol.event_queue import CoalescingQueue
from streamer.protocol.events import Ack, Bye, Caption, Event, Flushed, Skipped, Speech, TurnEnd, Word
from streamer.protocol.messages import PROTOCOL, AudioFormat, End, Error, Flush, Start
from streamer.protocol.options import Update

__all__ = [
    "Ack",
    "AudioFormat",
    "Bye",
    "Caption",
    "Captions",
    "ConnectionLostError",
    "Event",
    "Flushed",
    "Skipped",
    "Speech",
    "Start",
    "TurnEnd",
    "Word",
    "connect",
]

MAX_KEPT_S = 120.0
"""Audio kept for a resume, seconds."""
MAX_UNREAD = 4096
"""Events that may wait for their reader."""
GIVE_UP_S = 60.0
"""A client that got no further for so long in spite of new connections gives up."""
FIRST_PAUSE_S, MAX_PAUSE_S = 0.1, 5.0
"""Between two attempts; doubled each time."""
PING_TIMEOUT_S = 60.0
"""Silence of the network after which a connection counts as lost; longer than a full daemon pauses reading."""
OPEN_TIMEOUT_S = 15.0
"""From the open socket to `started`."""
PATH = "/v1/captions"
_TYPES: dict[str, type[Event | Error]] = {
    "speech": Speech,
    "caption": Caption,
    "turn_end": TurnEnd,
    "ack": Ack,
    "flushed": Flushed,
    "skipped": Skipped,
    "bye": Bye,
    "error": Error,
}
"""What is read of the daemon's messages; a newer one may send others."""


class ConnectionLostError(StreamerError):
    """The daemon cannot be reached, or not any more."""


class _Tag(msgspec.Struct, frozen=True):
    type: str = ""


class _Started(msgspec.Struct, frozen=True, kw_only=True):
    """What of `started` a client needs; the rest may change with the daemon."""

    session: str
    resume: str
    resume_from_s: float


@asynccontextmanager
async def connect(
    url: str,
    start: Start = Start(),  # noqa: B008 - it is frozen
    *,
    key: str = "",
    max_kept_s: float = MAX_KEPT_S,
    give_up_s: float = GIVE_UP_S,
) -> AsyncIterator[Captions]:
    """
    Open a session; leaving the block closes it.

    Args:
        url: `ws://host:port` or `wss://…`; the path defaults to `/v1/captions`.
        start: Format of the audio (by default 16-bit samples, mono, 16 kHz) and options of the session.
        key: API key, where the daemon asks for one.
        max_kept_s: Audio kept for a resume, seconds. While so much is unsent, `send` waits.
        give_up_s: Seconds without progress after which a lost connection is given up.

    Raises:
        ConnectionLostError: The daemon cannot be reached.
        ProtocolError: It refuses the options.
        OverloadError: It has no capacity left.
    """
    path = "" if urlsplit(url).path.strip("/") else PATH
    captions = Captions(url.rstrip("/") + path, start, key, Backlog(start.audio, max_kept_s), give_up_s)
    running = asyncio.create_task(captions.run(), name="captions")
    try:
        await captions.wait_started()
        yield captions
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


class Captions:
    """
    One stream of audio and its captions; made by `connect`.

    Sending and iterating may go on in different tasks. Events wait for their reader, captions and acks only as the
    newest of their kind; a reader that leaves `MAX_UNREAD` of them waiting ends the session.
    """

    def __init__(self, url: str, start: Start, key: str, backlog: Backlog, give_up_s: float) -> None:
        self._url, self._start, self._give_up_s = url, start, give_up_s
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._backlog, self._story = backlog, Story()
        self._events, self._revisions = CoalescingQueue(), Revisions()
        self._changed = asyncio.Condition()
        """Guards nothing: tells waiters that something of this object is different now."""
        self._resumed_from_s = 0.0
        self._is_started = self._has_ended = self._is_over = False
        self._idle: ProtocolError | None = None
        """The daemon ends the session for silence on the wire; its last events are still to come."""
        self._failure: Exception | None = None

    # --- for the user

    async def send(self, audio: Any) -> None:
        """
        Take audio: bytes, or anything with a buffer of them, as a NumPy array of samples has.

        Waits while `max_kept_s` of audio is unsent. Cancelling is safe: either all of it or none is taken.

        Raises:
            StreamerError: The session is over.
            ValueError: Not whole samples, or sent after `end`.
            TypeError: No buffer.
        """
        await self._until(lambda: self._backlog.has_room or self._is_over)
        self._raise_failure()
        if self._has_ended:
            raise ValueError("audio after end()")
        await self._put(bytes(memoryview(audio)))

    async def flush(self, flush_id: int) -> None:
        """Ask for everything sent so far to be made final; answered by a `Flushed` with this id."""
        self._story.expect_flushed(flush_id)
        await self._put(Flush(id=flush_id))

    async def update(
        self,
        *,
        language: str | None = None,
        keyterms: tuple[str, ...] | None = None,
        endpoint_ms: int | None = None,
    ) -> None:
        """Change options for the audio that comes; None leaves an option as it is."""
        update = Update(language=language, keyterms=keyterms, endpoint_ms=endpoint_ms)
        self._start = update.over(self._start)
        await self._put(update)

    async def end(self) -> None:
        """No more audio comes: the rest is transcribed, then iteration ends. A second call does nothing."""
        if not self._has_ended:
            self._has_ended = True
            await self._put(End())

    async def __aiter__(self) -> AsyncIterator[Event]:
        """
        Events up to `Bye`.

        Raises:
            ConnectionLostError: The connection was lost, and there was no way to go on.
            ProtocolError: The daemon ended the session: for a broken promise, or for silence on the wire (`idle`).
        """
        while True:
            await self._until(lambda: bool(self._events) or self._is_over)
            if not self._events:
                self._raise_failure()
                return
            yield self._revisions.number(self._events.take())

    async def transcribe(self, blocks: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[Event]:
        """Send every block, then end, and iterate the events meanwhile; raises as `send` and iteration do."""
        sending = asyncio.create_task(self._send_all(blocks))
        try:
            async for event in self:
                yield event
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    # --- the connections

    async def run(self) -> None:
        """Hold a connection until the session is over; the task of `connect`."""
        try:
            await self._connect_until_over()
        except Exception as error:  # noqa: BLE001 - kept for the user's tasks, who are told by their next call
            self._failure = error
        finally:
            self._is_over = True
            await self._tell()

    async def wait_started(self) -> None:
        """Wait for the first `started`. Raises what `connect` raises."""
        await self._until(lambda: self._is_started or self._is_over)
        if not self._is_started:
            self._raise_failure()

    async def _connect_until_over(self) -> None:
        loop = asyncio.get_running_loop()
        pause_s, reached_s, moved_at = FIRST_PAUSE_S, (-1.0, -1.0), loop.time()
        while not self._is_over:
            began_at = loop.time()
            wait_s = await self._try_connection()
            # sound that the daemon has is a way forward too, where no connection lasts until its text comes back
            now_s = (self._story.stable_s, self._resumed_from_s)
            if now_s > reached_s or loop.time() - began_at > self._give_up_s:
                pause_s, reached_s, moved_at = FIRST_PAUSE_S, now_s, loop.time()
            elif loop.time() - moved_at > self._give_up_s:
                raise ConnectionLostError(f"{self._url}: no way to go on for {self._give_up_s:g} s")
            if not self._is_over:
                await asyncio.sleep(max(wait_s, pause_s))
            pause_s = min(2 * pause_s, MAX_PAUSE_S)

    async def _try_connection(self) -> float:
        """One connection up to its end; the seconds that the daemon wants to be left alone."""
        try:
            await self._connect()
        except OverloadError as error:
            if not self._is_started:
                raise
            return error.retry_after_s
        except (OSError, WebSocketException, ConnectionLostError) as error:
            if not self._is_started:
                raise ConnectionLostError(f"{self._url}: {error}") from error
        return 0.0

    async def _connect(self) -> None:
        """One connection, up to its end."""
        async with connect_socket(
            self._url,
            subprotocols=[Subprotocol(PROTOCOL)],
            additional_headers=self._headers,
            compression=None,
            max_size=None,
            ping_timeout=PING_TIMEOUT_S,
        ) as socket:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                await self._begin(socket)
            sending = asyncio.create_task(self._write(socket))
            try:
                await self._read(socket)
            finally:
                sending.cancel()
                # its own errors are those of the connection, which reading has met as well
                await asyncio.gather(sending, return_exceptions=True)

    async def _begin(self, socket: ClientConnection) -> None:
        resume = self._story.resume(self._backlog.start_s)
        await socket.send(msgspec.json.encode(msgspec.structs.replace(self._start, resume=resume)).decode())
        while (tag := _tag(text := await socket.recv())) != "started":
            if tag == "error":
                raise _raised(msgspec.json.decode(text, type=Error))
        started = msgspec.json.decode(text, type=_Started)
        self._say(self._story.begin(started.session, started.resume))
        self._resumed_from_s = started.resume_from_s
        skipped = self._backlog.rewind(started.resume_from_s)
        self._say([skipped] if skipped is not None else [])
        for flush_id in self._story.flushes:
            self._backlog.repeat(Flush(id=flush_id))
        self._is_started = True
        await self._tell()

    async def _write(self, socket: ClientConnection) -> None:
        while True:
            message = self._backlog.take()
            if message is None:
                await self._until(lambda: self._backlog.has_unsent)
            elif isinstance(message, bytes):
                await socket.send(message)
                await self._tell()
            else:
                await socket.send(msgspec.json.encode(message).decode())

    async def _read(self, socket: ClientConnection) -> None:
        async for text in socket:
            kind = _TYPES.get(_tag(text))
            if kind is not None:
                self._receive(msgspec.json.decode(text, type=kind))
                await self._tell()
            if self._is_over:
                return
        raise ConnectionLostError("the daemon closed the connection")

    def _receive(self, message: Event | Error) -> None:
        if isinstance(message, Error):
            error = _raised(message)
            if message.code != "idle":
                raise error
            self._idle = ProtocolError(message.code, message.message)
            return
        if isinstance(message, Bye) and not self._is_last(message):
            return
        self._say(self._story.tell(message))
        self._backlog.forget(self._story.stable_s)

    def _is_last(self, bye: Bye) -> bool:
        """Whether this is the end that was asked for; a daemon that goes down says goodbye as well."""
        if self._idle is not None:
            raise self._idle
        self._is_over = self._has_ended and bye.audio_s >= self._backlog.end_s - END_TOLERANCE_S
        return self._is_over

    # --- what both sides share

    def _say(self, events: Iterable[Event]) -> None:
        for event in events:
            self._events.put(event)
        if len(self._events) > MAX_UNREAD:
            raise StreamerError(f"{MAX_UNREAD} events unread: iterate while sending")

    async def _put(self, message: Outgoing) -> None:
        self._backlog.put(message)
        await self._tell()

    async def _send_all(self, blocks: Iterable[Any] | AsyncIterable[Any]) -> None:
        try:
            if isinstance(blocks, AsyncIterable):
                async for block in blocks:
                    await self.send(block)
            else:
                for block in blocks:
                    await self.send(block)
            await self.end()
        except Exception as error:  # noqa: BLE001 - whoever iterates shall raise it, and not wait for ever
            self._failure, self._is_over = self._failure or error, True
            await self._tell()

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with self._changed:
            await self._changed.wait_for(condition)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure


def _tag(text: str | bytes) -> str:
    return msgspec.json.decode(text, type=_Tag).type


def _raised(error: Error) -> StreamerError:
    """What a fatal error of the daemon raises: whether it is worth to connect again is in its type."""
    if error.code == "overloaded":
        return OverloadError(error.message, error.retry_after_s if error.retry_after_s is not UNSET else 5.0)
    if error.code in ("draining", "internal"):
        return ConnectionLostError(error.message)
    return ProtocolError(error.code, error.message)
