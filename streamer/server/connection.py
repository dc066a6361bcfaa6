"""
One client's WebSocket on `/v1/captions`: a reader and a writer task between the socket and its session.

What is legal is decided in `protocol`, what is transcribed in the scheduler. Here frames are carried, waits
are bounded, and every way to leave has its error code, its close code and its effect on the session:

    left by                          session
    bye                              over
    a broken protocol, bad audio     ended; its tail is transcribed, nobody reads it
    silence on the wire (idle)       ended; its tail is delivered, then bye
    age (max_connection_s)           ended; its tail is delivered, then bye; the client is asked to resume
    a lost or stuck connection       detached: kept for a client that resumes
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Iterator

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from streamer.access.keys import Caller
from streamer.audio.opus import WebmDecoder
from streamer.config import Config
from streamer.errors import AudioFormatError, ProtocolError, StreamerError
from streamer.protocol.errors import wire_error
from streamer.protocol.events import Bye, Event
from streamer.protocol.messages import (
    ClientMessage,
    Draining,
    End,
    Hello,
    Limits,
    ServerMessage,
    Start,
    Started,
    encode,
    error_message,
)
from streamer.protocol.projection import Projection
from streamer.protocol.state_machine import CaptionsProtocol, State
from streamer.server import websocket
from streamer.server.intake import Intake, decoder_of
from streamer.server.interfaces import OpenSession, SessionService
from streamer.server.rooms.rooms import Rooms


class Connections:
    """The open connections of `/v1/captions`, for a drain to speak to all of them."""

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
        Tell every client that the daemon stops, and refuse new ones.

        Call it before `SessionService.drain`: from here on audio is no longer taken, and each connection closes
        with 1012 after the `bye` of its session.
        """
        self.is_draining = True
        await asyncio.gather(*(connection.announce_drain(deadline_s) for connection in self._open))


class Connection:
    """
    One client.

    Args:
        socket: Not accepted yet.
        scheduler: Opens and resumes sessions.
        config: `server` and `limits` for the bounds, `session` for the defaults of `start`.
        caller: Who it is.
        rooms: Where the session's captions are shown too, if the address names one (`?room=NAME`).
    """

    def __init__(
        self,
        socket: WebSocket,
        scheduler: SessionService,
        config: Config,
        caller: Caller,
        rooms: Rooms,
    ) -> None:
        self._socket = socket
        self._scheduler = scheduler
        self._config = config
        self._caller = caller
        self._rooms = rooms
        self._send_timeout_s = config.limits.send_timeout_s
        self._protocol = CaptionsProtocol(scheduler.languages, config.server.max_frame_bytes)
        self._session = f"s_{secrets.token_urlsafe(9)}"
        self._token = f"r_{secrets.token_urlsafe(18)}"
        self._is_draining = False

    async def run(self, *, is_draining: bool = False) -> None:
        """
        Carry the connection from accept to close.

        Cancelling is safe: the session is detached. An unforeseen error closes with 1011 and is raised.
        """
        await websocket.accept(self._socket)
        try:
            async with websocket.telling_errors(self._fail):
                if is_draining or self._is_draining:
                    raise _draining()
                await self._converse()
                await self._close(1012 if self._is_draining else 1000)
        finally:
            self._protocol.close()

    async def announce_drain(self, deadline_s: float) -> None:
        """Tell the client; audio that still comes is dropped, and resumed elsewhere from `stable_s`."""
        self._is_draining = True
        with contextlib.suppress(WebSocketDisconnect):
            if self._protocol.state is State.AWAITING_START:
                await self._fail(_draining())
                return
            message = encode(Draining(deadline_s=deadline_s))
            # short: a stuck client must not use up the deadline of the others; it is found out by its own tasks
            await websocket.send(self._socket, message, timeout_s=1.0)

    async def _converse(self) -> None:
        await self._send(self._hello())
        start = await self._receive_start()
        decoder = decoder_of(start.audio)
        stream = self._open(start)
        if isinstance(decoder, WebmDecoder):
            decoder.skip_to(stream.received_s)
        intake = Intake(stream, decoder)
        events = aiter(stream)
        try:
            with self._room(stream.id) as publish:
                await self._send(_started(stream, start))
                await websocket.run_until_first(
                    self._write(stream, events, publish), self._read(intake), self._grow_old(intake)
                )
        except (ProtocolError, AudioFormatError):
            intake.end()
            raise
        finally:
            stream.detach()

    def _hello(self) -> Hello:
        server = self._config.server
        return Hello(
            session=self._session,
            resume=self._token,
            model=self._scheduler.model,
            limits=Limits(max_frame_bytes=server.max_frame_bytes, idle_s=server.idle_s),
        )

    async def _receive_start(self) -> Start:
        try:
            async with asyncio.timeout(self._config.server.idle_s):
                message = await self._receive()
        except TimeoutError:
            raise self._idle() from None
        # the protocol lets nothing else through in this state
        assert isinstance(message, Start)
        return message

    def _open(self, start: Start) -> OpenSession:
        resume = start.resume
        known = self._scheduler.resume(resume.session, resume.token, resume.stable_s) if resume else None
        if known is not None:
            return known
        return self._scheduler.open(
            start.options(self._config.session),
            session=self._session,
            token=self._token,
            offset_s=resume.stable_s if resume else 0.0,
            context=resume.context if resume else "",
            caller=self._caller.name,
        )

    @contextlib.contextmanager
    def _room(self, session: str) -> Iterator[Callable[[Event], None]]:
        """What shows an event to the audience of this connection, if it asked for one."""
        name = self._socket.query_params.get("room")
        if name is None:
            yield lambda _: None
            return
        with self._rooms.speaking(name, session) as room:
            yield room.publish

    async def _write(self, stream: OpenSession, events: AsyncIterator[Event], publish: Callable[[Event], None]) -> None:
        projection = Projection(stream.options)
        async for event in events:
            publish(event)
            message = projection.project(event)
            if message is not None:
                await self._send(message)
            if isinstance(event, Bye):
                return

    async def _read(self, intake: Intake) -> None:
        while self._protocol.state is State.STREAMING:
            try:
                async with asyncio.timeout(self._config.server.idle_s):
                    message = await self._receive()
            except TimeoutError:
                await self._send(error_message(self._idle()))
                break
            if self._is_draining:
                break
            # outside the timeout: waiting for room in the backlog is not the client's idleness
            if not isinstance(message, Start | End):
                await intake.take(message)
        await self._finish(intake)

    async def _grow_old(self, intake: Intake) -> None:
        """At its greatest age a connection goes the way of all at a restart: told, finished, closed with 1012."""
        await asyncio.sleep(self._config.limits.max_connection_s)
        await self.announce_drain(self._config.server.drain_s)
        intake.end(goes_on=True)
        await asyncio.Event().wait()  # until the writer has said bye

    async def _finish(self, intake: Intake) -> None:
        """End the session, then go on reading: only so is a client noticed that leaves, or does not obey."""
        has_ended = self._protocol.state is State.ENDING
        if not self._is_draining:
            await intake.finish()
        intake.end(goes_on=self._is_draining)
        while True:
            frame = await websocket.receive(self._socket)
            if has_ended:
                self._protocol.receive(frame)

    async def _receive(self) -> ClientMessage | bytes:
        return self._protocol.receive(await websocket.receive(self._socket))

    async def _send(self, message: Event | ServerMessage | Started) -> None:
        await websocket.send(self._socket, encode(message), timeout_s=self._send_timeout_s)

    async def _fail(self, error: StreamerError) -> None:
        """Say why, and close."""
        self._protocol.close()
        await self._send(error_message(error))
        await self._close(wire_error(error).close_code)

    async def _close(self, code: int) -> None:
        self._protocol.close()
        await websocket.close(self._socket, code, timeout_s=self._send_timeout_s)

    def _idle(self) -> ProtocolError:
        return ProtocolError("idle", f"no audio and no message for {self._config.server.idle_s:g} s")


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
