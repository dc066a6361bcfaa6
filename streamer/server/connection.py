"""
One client of `/v1/captions`: the conversation of `captions.v1` between a connection and its session.

`protocol` decides which message is legal, the scheduler transcribes, and `duplex` reads, writes and bounds the waits.
How a connection ends decides what becomes of the session:

    connection ends by               session
    bye                              is over
    a broken protocol                is ended; its tail is transcribed, but not delivered
    bad audio                        is ended; its tail is delivered, then bye and the error
    silence on the wire (idle)       is ended; its tail is delivered, then bye
    age (max_connection_s), a drain  is ended; its tail is delivered, then bye; the client is asked to resume
    a clean close by the client      is ended; audio that waits is dropped
    a lost or stuck connection       is detached: kept for a client that resumes
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable

import msgspec

from streamer.access.decoding_budget import DecodingAccount
from streamer.access.keys import Caller
from streamer.audio.containers import ContainerDecoder
from streamer.config import Config
from streamer.errors import AudioFormatError, ProtocolError, StreamerError
from streamer.protocol.events import Bye, Event
from streamer.protocol.messages import (
    Draining,
    End,
    Flush,
    Hello,
    Limits,
    ServerMessage,
    Start,
    Started,
    encode,
    error_message,
)
from streamer.protocol.options import Update
from streamer.protocol.projection import Projection, for_viewers
from streamer.protocol.state_machine import CaptionsProtocol, State
from streamer.server import websocket
from streamer.server.duplex import ClientGone, Transport, converse
from streamer.server.intake import Intake, decoder_of
from streamer.server.interfaces import OpenSession, SessionService
from streamer.server.rooms.interfaces import RoomService
from streamer.server.rooms.room import past_of


class Connections:
    """The open connections of `/v1/captions`, so that a drain reaches all of them."""

    def __init__(self) -> None:
        self.is_draining = False
        self._open: set[Connection] = set()

    def __len__(self) -> int:
        return len(self._open)

    async def serve(self, connection: Connection) -> None:
        """Run a connection to its end."""
        self._open.add(connection)
        try:
            await connection.run(is_draining=self.is_draining)
        finally:
            self._open.discard(connection)

    async def announce_drain(self, deadline_s: float) -> None:
        """
        Send `draining` to every client, and refuse new clients.

        Call it before the scheduler drains. From here on audio is dropped, and each connection closes with 1012 after
        the `bye` of its session. `deadline_s`: seconds until the daemon stops, for the message.
        """
        self.is_draining = True
        await asyncio.gather(*(connection.announce_drain(deadline_s) for connection in self._open))


class Connection:
    """
    One client, from `hello` to the close.

    Args:
        transport: Accepted.
        scheduler: Opens and resumes sessions.
        config: `server` and `limits` for the bounds, `session` for the defaults of `start`.
        caller: Owner of the client's key.
        account: Pays for what is decoded.
        rooms: Rooms of the daemon.
        room: Name of the room that shows this session's captions (`?room=NAME`); None: no room.
    """

    def __init__(
        self,
        transport: Transport,
        scheduler: SessionService,
        config: Config,
        caller: Caller,
        account: DecodingAccount,
        rooms: RoomService,
        room: str | None = None,
    ) -> None:
        self._transport = transport
        self._scheduler = scheduler
        self._config = config
        self._caller, self._account = caller, account
        self._rooms, self._room = rooms, room
        self._protocol = CaptionsProtocol(scheduler.languages, config.server.max_frame_bytes, scheduler.revisers)
        self._session = f"s_{secrets.token_urlsafe(9)}"
        self._token = f"r_{secrets.token_urlsafe(18)}"
        self._is_draining = False
        self._was_idle = self._will_not_return = False
        self._is_complete = False
        """Whether all that the client sent is transcribed, so that a drain leaves nothing to resume."""
        self._bad_audio: AudioFormatError | None = None
        """Raised once the text of the audio before it is delivered."""
        self._speaking = contextlib.ExitStack()
        """Holds the room while the session speaks in it."""
        self._publish: Callable[[Event], None] = _publish_nothing
        self._stream: OpenSession | None = None
        self._intake: Intake | None = None
        self._started: asyncio.Queue[tuple[OpenSession, AsyncIterator[Event]]] = asyncio.Queue()
        """The session and its events, once `started` was sent."""

    async def run(self, *, is_draining: bool = False) -> None:
        """
        Carry the connection to its close.

        Cancelling is safe: the session is detached. An unforeseen error closes with 1011 and is raised.
        """
        self._is_draining = self._is_draining or is_draining
        await converse(self._transport, self, self._config)

    async def announce_drain(self, deadline_s: float) -> None:
        """Send `draining` and end the session; later audio is dropped: the client sends it again elsewhere."""
        self._is_draining = True
        with contextlib.suppress(ClientGone, TimeoutError):
            if self._protocol.state is State.AWAITING_START:
                await self.fail(_draining())
                return
            # short: a stuck client must not use up the deadline of the others; its own tasks find it out
            async with asyncio.timeout(1.0):
                await self._send(Draining(deadline_s=deadline_s))
        if self._intake is not None:  # now: a client may send nothing from here on
            self._intake.end(continues_elsewhere=True)

    @property
    def has_ended(self) -> bool:
        """As `Conversation.has_ended`."""
        is_over = self._is_draining or self._was_idle or self._bad_audio is not None
        return is_over or self._protocol.state in (State.ENDING, State.CLOSED)

    @property
    def closing(self) -> tuple[int, str]:
        """As `Conversation.closing`."""
        return (1012 if self._is_draining and not self._is_complete else 1000), ""

    async def greet(self) -> None:
        """Send `hello`. Raises ProtocolError while the daemon drains."""
        if self._is_draining:
            raise _draining()
        server = self._config.server
        hello = Hello(
            session=self._session,
            resume=self._token,
            model=self._scheduler.model,
            limits=Limits(max_frame_bytes=server.max_frame_bytes, idle_s=server.idle_s),
        )
        await self._send(hello)

    async def write(self) -> None:
        """Send the events of the session up to `bye`, as the client asked for them, and show them to the room."""
        stream, events = await self._started.get()
        projection = Projection(stream.options)
        async for event in events:
            self._publish(for_viewers(event, stream.options.task))
            message = projection.project(event)
            if isinstance(event, Bye):
                self._speaking.close()  # before the client can go on in the room with another connection
            if message is not None:
                await self._send(message)
            if isinstance(event, Bye):
                break
        if self._bad_audio is not None:
            raise self._bad_audio

    async def take(self, frame: str | bytes) -> None:
        """As `Conversation.take`; frames are dropped during a drain and after a silence of `idle_s`."""
        if self._is_draining or self._was_idle or self._bad_audio is not None:
            return
        message = self._protocol.receive(frame)
        if isinstance(message, Start):
            await self._start(message)
        elif isinstance(message, End):
            await self._end()
        else:
            await self._take(message)

    async def _take(self, message: bytes | Update | Flush) -> None:
        # the protocol lets nothing but `start` through before the session is open
        assert self._intake is not None
        try:
            await self._intake.take(message)
        except AudioFormatError as error:
            self._bad_audio = error
            self._intake.end()

    async def idle(self) -> None:
        """End the session; its tail is still delivered. Raises ProtocolError where none was started."""
        error = ProtocolError("idle", f"no audio and no message for {self._config.server.idle_s:g} s")
        if self._intake is None:
            raise error
        self._was_idle = True
        await self._send(error_message(error))
        await self._end()

    async def expire(self) -> None:
        """Send `draining` and end the session; the client resumes with a new connection."""
        await self.announce_drain(self._config.server.drain_s)

    async def fail(self, error: StreamerError) -> None:
        """Tell the error and close. A client that broke the protocol or sent bad audio loses its session."""
        if self._intake is not None and isinstance(error, ProtocolError | AudioFormatError):
            self._intake.end()
        self.leave()
        await websocket.tell_error(self._transport, error)

    def farewell(self) -> None:
        """Note that the client will not resume: `leave` ends the session instead of keeping it."""
        self._will_not_return = True

    def leave(self) -> None:
        """Leave the room and detach the session, which is kept for a while for a client that resumes."""
        self._protocol.close()
        self._speaking.close()
        self._bad_audio = None  # it was raised here: it holds this connection, and with it the audio, in a circle
        if self._intake is not None:
            self._intake.close()
        if self._stream is not None:
            self._stream.detach(is_final=self._will_not_return)
            self._stream = None

    async def _start(self, start: Start) -> None:
        decoder = decoder_of(start.audio)
        stream = await self._open(start)
        # before anything is awaited: from here on the events of a resumed session are this connection's
        events = aiter(stream)
        self._stream, self._intake = stream, Intake(stream, decoder, self._account)
        try:
            if self._is_draining:  # since it waited for a place: nothing would end it any more
                raise _draining()
            if isinstance(decoder, ContainerDecoder):
                decoder.skip_to(stream.received_s)
            if self._room is not None:
                past = past_of(start.resume, stream.id, stream.options.task)
                speaking = await self._rooms.speak(self._room, stream.id, past)
                self._publish = self._speaking.enter_context(speaking).publish
            started = _started(stream, start)
        except BaseException:
            self._intake.end()  # a session that could not be opened as a whole takes no place
            raise
        await self._send(started)
        self._started.put_nowait((stream, events))

    async def _open(self, start: Start) -> OpenSession:
        resume = start.resume
        known = self._scheduler.resume(resume.session, resume.token, resume.stable_s) if resume else None
        if known is not None:
            return known
        return await self._scheduler.begin(
            start.options(self._config.session),
            session=self._session,
            token=self._token,
            offset_s=resume.stable_s if resume else 0.0,
            context=resume.context if resume else "",
            caller=self._caller.name,
            resumed=(resume.session, resume.token) if resume else None,
        )

    async def _end(self) -> None:
        assert self._intake is not None
        try:
            await self._intake.finish()
        except AudioFormatError as error:
            self._bad_audio = error
        self._is_complete = not self._is_draining
        self._intake.end()

    async def _send(self, message: Event | ServerMessage | Started) -> None:
        await self._transport.send(encode(message))


def _publish_nothing(_: Event) -> None:
    """The room of a session that has none."""


def _draining() -> ProtocolError:
    return ProtocolError("draining", "the daemon is stopping; connect again")


def _started(stream: OpenSession, start: Start) -> Started:
    return Started(
        session=stream.id,
        resume=stream.token,
        audio=start.audio,
        resume_from_s=stream.received_s,
        **msgspec.structs.asdict(stream.options),
    )
