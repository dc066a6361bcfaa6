"""
Asynchronous client of `captions.v1` that reconnects and resumes: send audio, iterate over events.

    async with connect("ws://127.0.0.1:8000") as captions:
        async for event in captions.transcribe(blocks):
            ...

The client keeps audio whose text is not stable yet (`resumption.Backlog`). When the connection breaks or the daemon
restarts, it connects again and sends the audio that the daemon asks for, so that its user sees one transcript without
a gap. It imports neither torch nor anything else of the daemon; `docs/python.md` describes it for users.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit, urlunsplit

import msgspec
from msgspec import UNSET
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_socket
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

from streamer.client.resumption import END_TOLERANCE_S, Backlog, EventMerger, Outgoing, RevisionCounter
from streamer.errors import OverloadError, ProtocolError, StreamerError
from streamer.protocol.event_queue import CoalescingQueue
from streamer.protocol.events import Ack, Bye, Caption, Event, Flushed, Skipped, Speech, TurnEnd, TurnRevised
from streamer.protocol.messages import COMES_BACK, PROTOCOL, End, Error, Flush, Start
from streamer.protocol.options import Update

MAX_KEPT_S = 120.0
"""Seconds of sent audio kept for a resume, and of unsent audio."""
MAX_UNREAD = 4096
"""Events that may wait for the reader of `Captions`."""
GIVE_UP_S = 60.0
"""Seconds without progress, in spite of new connections, after which the client gives up."""
FIRST_PAUSE_S, MAX_PAUSE_S = 0.1, 5.0
"""Seconds between two attempts to connect, doubled each time."""
PING_TIMEOUT_S = 60.0
"""Seconds without a pong after which a connection is lost; a daemon with a full backlog pauses reading for less."""
OPEN_TIMEOUT_S = 15.0
"""Seconds from the open socket to `started`."""
PATH = "/v1/captions"
_TYPES: dict[str, type[Event | Error]] = {
    "speech": Speech,
    "caption": Caption,
    "turn_end": TurnEnd,
    "turn_revised": TurnRevised,
    "ack": Ack,
    "flushed": Flushed,
    "skipped": Skipped,
    "bye": Bye,
    "error": Error,
}
"""Server messages that the client reads; others, and those of a newer daemon, are ignored."""


class ConnectionLostError(StreamerError):
    """The daemon cannot be reached, or the connection was lost and could not be resumed."""


class _Tag(msgspec.Struct, frozen=True):
    type: str = ""


class _Limits(msgspec.Struct, frozen=True, kw_only=True):
    max_frame_bytes: int


class _Hello(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of `hello` that the client needs."""

    limits: _Limits


class _Started(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of `started` that the client needs; it ignores the others, which may change with the daemon."""

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
    Open a session; leaving the block closes the connection.

    Args:
        url: `ws://host:port`, or `wss://host/path` of a proxy in front of the daemon. `/v1/captions` is added to the
            path unless it ends so; a query such as `?room=stage` stays.
        start: Format of the audio (by default 16-bit samples, mono, 16 kHz) and options of the session.
        key: API key; empty if the daemon asks for none.
        max_kept_s: Seconds of sent audio kept for a resume. `send` waits while that much audio is unsent.
        give_up_s: Seconds without progress after which the client gives up a lost connection.

    Raises:
        ConnectionLostError: The daemon cannot be reached.
        ProtocolError: The daemon refuses the key or the options.
        OverloadError: The daemon has no capacity left.
        ValueError: The encoding is a container, which cannot be sent again in part.
    """
    captions = Captions(captions_url(url), start, key, Backlog(start.audio, max_kept_s), give_up_s)
    async with _beside(captions.run()):
        await captions.wait_started()
        yield captions


class Captions:
    """
    One stream of audio and its events; made by `connect`.

    One task may send while another iterates. Unread events are queued; a newer caption or ack replaces an unread one.
    More than `MAX_UNREAD` queued events end the session with StreamerError.

    Args:
        url: Complete address of `/v1/captions`.
        start: First message of every connection; `resume` is filled in.
        key: API key; empty for none.
        backlog: Holds audio and commands until they cannot be needed again.
        give_up_s: Seconds without progress after which the client gives up a lost connection.
    """

    def __init__(self, url: str, start: Start, key: str, backlog: Backlog, give_up_s: float) -> None:
        self._url, self._start, self._give_up_s = url, start, give_up_s
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        has_room = "room" in parse_qs(urlsplit(url).query)
        self._backlog, self._merger = backlog, EventMerger(keeps_turns=has_room)
        self._events, self._revisions = CoalescingQueue(), RevisionCounter()
        self._changed = asyncio.Condition()
        """Notifies tasks that wait in `_wait_until` after any change of this object; it protects no data."""
        self._resumed_from_s = 0.0
        self._is_started = self._has_ended = self._is_over = False
        self._idle: ProtocolError | None = None
        """Set when the daemon ends the session for idleness; raised at `bye`, after the last events."""
        self._failure: Exception | None = None
        self._trouble = ""
        """Why the last connection ended, with the remedy."""

    # --- the user's side

    async def send(self, audio: Any) -> None:
        """
        Queue audio: bytes, or an object with a buffer, such as a NumPy array of samples.

        Waits while `max_kept_s` seconds of audio are unsent, or half of that is sent and not taken by the daemon. After
        cancellation either all of the audio is queued or none.

        Raises:
            StreamerError: The session is over.
            ValueError: The audio is not whole sample frames, or comes after `end`.
            TypeError: The object has no buffer.
        """
        await self._wait_until(lambda: self._backlog.has_room or self._is_over)
        self._raise_failure()
        if self._has_ended:
            raise ValueError("audio after end(): open a new session with connect()")
        await self._put(bytes(memoryview(audio)))

    async def flush(self, flush_id: int) -> None:
        """End the open turn after the audio sent so far; a `Flushed` event with this id answers."""
        self._merger.expect_flushed(flush_id)
        await self._put(Flush(id=flush_id))

    async def update(
        self,
        *,
        language: str | None = None,
        languages: tuple[str, ...] | None = None,
        keyterms: tuple[str, ...] | None = None,
        endpoint_ms: int | None = None,
        revise: bool | str | None = None,
    ) -> None:
        """
        Change options for the audio sent from now on; None keeps an option.

        Args:
            language: Language code, or `auto`.
            languages: What detection may choose from; replaces the list.
            keyterms: Words and names to favour; replaces the list.
            endpoint_ms: Silence that ends a turn, in milliseconds.
            revise: Whether turns get a second pass, or the name of its model.
        """
        update = Update(
            language=language, languages=languages, keyterms=keyterms, endpoint_ms=endpoint_ms, revise=revise
        )
        self._start = update.over(self._start)
        await self._put(update)

    async def end(self) -> None:
        """Send no more audio: the rest is transcribed, then iteration ends. A second call does nothing."""
        if not self._has_ended:
            self._has_ended = True
            await self._put(End())

    async def __aiter__(self) -> AsyncIterator[Event]:
        """
        Yield events up to and including `Bye`.

        Raises:
            ConnectionLostError: The connection was lost and could not be resumed.
            ProtocolError: The daemon ended the session: for a violation of the protocol, or for idleness (`idle`).
        """
        while True:
            await self._wait_until(lambda: bool(self._events) or self._is_over)
            if not self._events:
                self._raise_failure()
                return
            yield self._revisions.number(self._events.take())

    async def transcribe(self, blocks: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[Event]:
        """Send every block, then end, and yield events meanwhile; raises what `send`, iteration and `blocks` raise."""
        async with _beside(self._send_all(blocks)):
            async for event in self:
                yield event

    # --- the connections

    async def run(self) -> None:
        """Keep the session connected until it is over; the background task of `connect`."""
        try:
            await self._connect_until_over()
        except Exception as error:  # noqa: BLE001 - raised by the next call of the user
            self._failure = error
        finally:
            self._is_over = True
            await self._notify()

    async def wait_started(self) -> None:
        """Wait for the first `started`; raises what `connect` raises."""
        await self._wait_until(lambda: self._is_started or self._is_over)
        if not self._is_started:
            self._raise_failure()

    async def _connect_until_over(self) -> None:
        loop = asyncio.get_running_loop()
        pause_s, reached_s, moved_at = FIRST_PAUSE_S, (-1.0, -1.0), loop.time()
        while not self._is_over:
            began_at = loop.time()
            wait_s = await self._try_connection()
            # audio that the daemon has counts as progress too: a connection may break before any text comes back
            now_s = (self._merger.stable_s, self._resumed_from_s)
            if now_s > reached_s or loop.time() - began_at > self._give_up_s:
                pause_s, reached_s, moved_at = FIRST_PAUSE_S, now_s, loop.time()
            elif loop.time() - moved_at > self._give_up_s:
                raise ConnectionLostError(f"{self._url}: no progress for {self._give_up_s:g} s: {self._trouble}")
            if not self._is_over:
                await asyncio.sleep(max(wait_s, pause_s))
            pause_s = min(2 * pause_s, MAX_PAUSE_S)

    async def _try_connection(self) -> float:
        """Hold one connection until it ends; returns the seconds that the daemon asks to wait before the next one."""
        try:
            with _refusals_told():
                await self._connect()
        except OverloadError as error:
            if not self._is_started:
                raise
            self._trouble = str(error)
            return error.retry_after_s
        except (OSError, WebSocketException, ConnectionLostError, msgspec.MsgspecError) as error:
            reason = str(error) or f"no answer for {OPEN_TIMEOUT_S:g} s"
            self._trouble = f"{reason}; check the address, and that the daemon runs there"
            if not self._is_started:
                raise ConnectionLostError(f"{self._url}: {self._trouble}") from error
        return 0.0

    async def _connect(self) -> None:
        """Hold one connection until it ends; returns normally only when the session is over."""
        async with connect_socket(
            self._url,
            subprotocols=[Subprotocol(PROTOCOL)],
            additional_headers=self._headers,
            compression=None,
            max_size=None,
            ping_timeout=PING_TIMEOUT_S,
        ) as socket:
            try:
                await self._hold(socket)
            except (OSError, StreamerError):
                await socket.close(COMES_BACK)  # a normal close would give the session up
                raise

    async def _hold(self, socket: ClientConnection) -> None:
        async with asyncio.timeout(OPEN_TIMEOUT_S):
            await self._begin(socket)
        async with _beside(self._write(socket)):  # a failed send is a failed connection, and reading raises the same
            await self._read(socket)

    async def _begin(self, socket: ClientConnection) -> None:
        hello = msgspec.json.decode(await _received(socket, "hello"), type=_Hello)
        # half of a message, so that the options have room beside the turns
        resume = self._merger.resume(self._backlog.start_s, hello.limits.max_frame_bytes // 2)
        await socket.send(msgspec.json.encode(msgspec.structs.replace(self._start, resume=resume)).decode())
        started = msgspec.json.decode(await _received(socket, "started"), type=_Started)
        self._queue_events(self._merger.begin(started.session, started.resume))
        self._resumed_from_s = started.resume_from_s
        skipped = self._backlog.rewind(started.resume_from_s)
        self._queue_events([skipped] if skipped is not None else [])
        for flush_id in self._merger.flushes:
            self._backlog.repeat(Flush(id=flush_id))
        self._is_started = True
        await self._notify()

    async def _write(self, socket: ClientConnection) -> None:
        while True:
            message = self._backlog.take()
            if message is None:
                await self._wait_until(lambda: self._backlog.has_unsent)
            elif isinstance(message, bytes):
                await socket.send(message)
                await self._notify()
            else:
                await socket.send(msgspec.json.encode(message).decode())

    async def _read(self, socket: ClientConnection) -> None:
        async for text in socket:
            kind = _TYPES.get(_tag(text))
            if kind is not None:
                self._receive(msgspec.json.decode(text, type=kind))
                await self._notify()
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
        if isinstance(message, Ack):
            self._backlog.note_received(message.received_s)
        self._queue_events(self._merger.merge(message))
        self._backlog.forget(self._merger.stable_s)

    def _is_last(self, bye: Bye) -> bool:
        """Whether this `bye` answers `end` and covers all audio; a draining daemon sends `bye` too."""
        if self._idle is not None:
            raise self._idle
        self._is_over = self._has_ended and bye.audio_s >= self._backlog.end_s - END_TOLERANCE_S
        return self._is_over

    # --- shared by both sides

    def _queue_events(self, events: Iterable[Event]) -> None:
        for event in events:
            self._events.put(event)
        if len(self._events) > MAX_UNREAD:
            raise StreamerError(f"more than {MAX_UNREAD} events unread: iterate over Captions while sending")

    async def _put(self, message: Outgoing) -> None:
        self._backlog.put(message)
        await self._notify()

    async def _send_all(self, blocks: Iterable[Any] | AsyncIterable[Any]) -> None:
        try:
            if isinstance(blocks, AsyncIterable):
                async for block in blocks:
                    await self.send(block)
            else:
                for block in blocks:
                    await self.send(block)
                    await asyncio.sleep(0)  # `send` has nothing to wait for, and the next block may take its time
            await self.end()
        except Exception as error:  # noqa: BLE001 - iteration raises it instead of waiting forever
            self._failure, self._is_over = self._failure or error, True
            await self._notify()

    async def _wait_until(self, condition: Callable[[], bool]) -> None:
        async with self._changed:
            await self._changed.wait_for(condition)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure


def captions_url(url: str) -> str:
    """The complete address of `/v1/captions` on a daemon, which may be under a path; a complete one stays as it is."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    return urlunsplit(parts._replace(path=path if path.endswith(PATH) else path + PATH))


@asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run a coroutine for the length of a block; what it raises is dropped."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextmanager
def _refusals_told() -> Iterator[None]:
    """Raise what the daemon says where it refuses a connection by HTTP; any other answer, as of a proxy, stays."""
    try:
        yield
    except InvalidStatus as refused:
        try:
            error = msgspec.json.decode(refused.response.body or b"", type=Error)
        except msgspec.DecodeError:
            raise refused from None
        raise _raised(error) from None


async def _received(socket: ClientConnection, wanted: str) -> str | bytes:
    """The next message of a type; those before it are ignored, but an error is raised."""
    while (tag := _tag(text := await socket.recv())) != wanted:
        if tag == "error":
            raise _raised(msgspec.json.decode(text, type=Error))
    return text


def _tag(text: str | bytes) -> str:
    return msgspec.json.decode(text, type=_Tag).type


def _raised(error: Error) -> StreamerError:
    """Convert a fatal error to an exception; `_try_connection` retries OverloadError and ConnectionLostError."""
    if error.code == "overloaded":
        return OverloadError(error.message, error.retry_after_s if error.retry_after_s is not UNSET else 5.0)
    if error.code in ("draining", "internal"):
        return ConnectionLostError(error.message)
    return ProtocolError(error.code, error.message)
