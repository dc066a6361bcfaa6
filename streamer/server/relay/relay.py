"""
Carries a dialect over its transport: frames to actions, actions to native sessions, events to texts.

A client that leaves has its sessions ended: these dialects have no resume. When the daemon stops, what was heard is
still delivered, then the connection closes with 1012, after which clients come back by themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from starlette.websockets import WebSocket, WebSocketDisconnect

from streamer.access.keys import Caller
from streamer.config import Config
from streamer.dialects.actions import Action, Dialect, HangUp, Open, To
from streamer.errors import OverloadError, StreamerError
from streamer.protocol.errors import wire_error
from streamer.protocol.messages import End
from streamer.server import websocket
from streamer.server.intake import Intake, decoder_of
from streamer.server.interfaces import OpenSession, SessionService


class Transport(Protocol):
    """What carries frames; all of it raises WebSocketDisconnect once the client has left."""

    async def receive(self) -> str | bytes:
        """The next frame. Cancelling is safe."""

    async def send(self, text: str) -> None:
        """Send a text; a client that does not take it in time has left."""

    async def close(self, code: int, reason: str) -> None:
        """End the connection, with a WebSocket close code where there is such a thing."""


class SocketTransport:
    """
    Args:
        socket: Accepted before the first frame.
        send_timeout_s: In which a client takes a message.
    """

    def __init__(self, socket: WebSocket, send_timeout_s: float) -> None:
        self._socket, self._send_timeout_s = socket, send_timeout_s

    async def receive(self) -> str | bytes:
        """As `Transport.receive`."""
        return await websocket.receive(self._socket)

    async def send(self, text: str) -> None:
        """As `Transport.send`."""
        await websocket.send(self._socket, text, timeout_s=self._send_timeout_s)

    async def close(self, code: int, reason: str) -> None:
        """As `Transport.close`."""
        await websocket.close(self._socket, code, reason, timeout_s=self._send_timeout_s)


class Relay:
    """
    One client.

    Args:
        transport: How it is reached; not used before `run`.
        scheduler: Opens native sessions.
        config: `server` and `limits` for the bounds, `session` for the defaults.
        caller: Who it is.
        dialect: What it speaks.
    """

    def __init__(
        self, transport: Transport, scheduler: SessionService, config: Config, caller: Caller, dialect: Dialect
    ) -> None:
        self._transport, self._scheduler, self._config, self._caller = transport, scheduler, config, caller
        self._dialect = dialect
        self._sending = asyncio.Lock()
        self._streams: list[OpenSession] = []
        self._intakes: list[Intake] = []
        self._opened = asyncio.Event()
        self._has_ended = False
        self._closing = 1012, "the daemon is stopping"
        """What the connection closes with once every session has said everything."""

    def begin(self) -> None:
        """
        Do what is to be done before the handshake is answered; `run` or `leave` must follow.

        Raises:
            StreamerError: The client is to be refused; nothing was opened.
        """
        for action in self._dialect.begin():
            assert isinstance(action, Open)
            self._open(action)

    async def run(self) -> None:
        """
        Carry the connection to its close.

        Cancelling is safe: the sessions are ended. An unforeseen error closes with 1011 and is raised.
        """
        try:
            async with websocket.telling_errors(self._fail):
                await websocket.run_until_first(self._write(), self._read(), self._grow_old())
                await self._transport.close(*self._closing)
        finally:
            self.leave()

    async def _write(self) -> None:
        """Every session's events, until all have said `Bye`."""
        await self._opened.wait()
        telling = [asyncio.create_task(self._tell(i, stream)) for i, stream in enumerate(self._streams)]
        try:
            await asyncio.gather(*telling)
        finally:
            for task in telling:
                task.cancel()
            await asyncio.gather(*telling, return_exceptions=True)
        await self._say(self._dialect.finish())

    async def _tell(self, session: int, stream: OpenSession) -> None:
        async for event in stream:
            await self._say(self._dialect.project(session, event))

    async def _read(self) -> None:
        while not self._has_ended:
            idle_s = self._config.server.idle_s
            try:
                async with asyncio.timeout(idle_s):
                    frame = await self._transport.receive()
            except TimeoutError:
                self._closing = 1011, f"no audio and no message for {idle_s:g} s"
                break
            # outside the timeout: waiting for room in the backlog is not the client's idleness
            for action in self._dialect.receive(frame):
                await self._carry_out(action)
        await self._end()
        while True:  # only so is a client noticed that leaves before it was told everything
            await self._transport.receive()

    async def _carry_out(self, action: Action) -> None:
        match action:
            case str():
                await self._say([action])
            case Open():
                self._open(action)
            case To(session=session, message=message):
                for intake in self._intakes if session is None else [self._intakes[session]]:
                    await intake.take(message)
            case End():
                self._has_ended = True
                self._closing = 1000, ""
            case HangUp(code=code, reason=reason):
                await self._transport.close(code, reason)
                raise WebSocketDisconnect(code)

    def _open(self, action: Open) -> None:
        options, audio = action.start.options(self._config.session), action.start.audio
        decoders = [decoder_of(audio) for _ in range(action.n_sessions)]
        try:
            for decoder in decoders:
                stream = self._scheduler.open(options, caller=self._caller.name)
                self._streams.append(stream)
                self._intakes.append(Intake(stream, decoder))
        except OverloadError:
            self.leave()
            raise
        self._opened.set()

    async def _end(self) -> None:
        """No more audio comes; a client that never sent any is owed the last texts as well."""
        for intake in self._intakes:
            await intake.finish()
            intake.end()
        self._opened.set()

    async def _grow_old(self) -> None:
        """At its greatest age a connection goes the way of all at a restart."""
        await asyncio.sleep(self._config.limits.max_connection_s)
        await self._end()
        await asyncio.Event().wait()  # until the writer is done

    async def _say(self, texts: Sequence[str]) -> None:
        async with self._sending:
            for text in texts:
                await self._transport.send(text)

    async def _fail(self, error: StreamerError) -> None:
        """Say why, and close."""
        await self._say(self._dialect.fail(error))
        await self._transport.close(wire_error(error).fault_close_code, str(error))

    def leave(self) -> None:
        """Nobody reads what the sessions still say."""
        for stream in self._streams:
            stream.end()
            stream.detach()
        self._streams, self._intakes = [], []
