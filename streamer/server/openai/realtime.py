"""
One client of OpenAI's Realtime API: its WebSocket on one side, native sessions on the other.

The native session opens with the first audio and ends when the client is silent for `idle_s`, so a client that only
waits takes no place; push to talk may wait for long. A client that leaves has its session ended: there is no resume in
this dialect. When the daemon stops, the text of what was heard is still delivered, then the connection closes with
1012, after which OpenAI's clients come back by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Sequence

import msgspec
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from streamer.access.keys import Caller
from streamer.access.refusals import refusal_headers
from streamer.config import Config
from streamer.dialects.actions import HangUp
from streamer.dialects.openai.errors import error_detail, http_status
from streamer.dialects.openai.http import JSON, error_body
from streamer.dialects.openai.keys import REALTIME
from streamer.dialects.openai.realtime import Output, RealtimeProtocol, ServerEvent
from streamer.dialects.openai.session import Settings
from streamer.errors import KeyRefusedError, StreamerError
from streamer.protocol.errors import wire_error
from streamer.protocol.messages import End, Flush, Start
from streamer.protocol.options import Update
from streamer.server import websocket
from streamer.server.intake import Intake, decoder_of
from streamer.server.interfaces import OpenSession, SessionService


class RealtimeConnection:
    """
    Args:
        socket: Not accepted yet.
        scheduler: Opens native sessions.
        config: `server` and `limits` for the bounds, `session` for the defaults.
        settings: What is in force before the client's first update.
        caller: Who it is.
    """

    def __init__(
        self,
        socket: WebSocket,
        scheduler: SessionService,
        config: Config,
        settings: Settings,
        caller: Caller,
    ) -> None:
        self._socket, self._scheduler, self._config, self._caller = socket, scheduler, config, caller
        self._send_timeout_s = config.limits.send_timeout_s
        self._protocol = RealtimeProtocol(
            f"sess_{secrets.token_hex(8)}",
            scheduler.model,
            scheduler.languages,
            settings,
            config.session,
            is_beta="realtime=v1" in socket.headers.get("openai-beta", ""),
            max_frame_bytes=config.server.max_frame_bytes,
        )
        self._sending = asyncio.Lock()
        self._stream: OpenSession | None = None
        self._intake: Intake | None = None
        self._opened: asyncio.Queue[OpenSession] = asyncio.Queue(1)
        """The stream whose events are read next; the one before it has said everything by then."""
        self._is_silent = asyncio.Event()
        """No stream has anything more to say."""
        self._is_silent.set()
        self._is_replaced = False
        """Whether the stream was ended for another one to follow."""

    async def run(self) -> None:
        """
        Carry the connection from accept to close.

        Cancelling is safe: the native session is ended. An unforeseen error closes with 1011 and is raised.
        """
        await _accept(self._socket)
        try:
            async with websocket.telling_errors(self._fail):
                await self._send(self._protocol.open())
                await websocket.run_until_first(self._write(), self._read(), self._grow_old())
                await websocket.close(self._socket, 1012, timeout_s=self._send_timeout_s)
        finally:
            self._leave()

    async def _read(self) -> None:
        """The client's events, until it leaves or is given up."""
        while True:
            try:
                async with asyncio.timeout(self._config.server.idle_s):
                    frame = await websocket.receive(self._socket)
            except TimeoutError:
                outputs = self._protocol.rest()
            else:
                outputs = self._protocol.receive(frame)
            # outside the timeout: waiting for room in the backlog is not the client's idleness
            await self._send(outputs)
            for output in outputs:
                await self._carry_out(output)

    async def _grow_old(self) -> None:
        """At its greatest age a connection goes the way of all at a restart."""
        await asyncio.sleep(self._config.limits.max_connection_s)
        if not self._is_silent.is_set():
            self._native()[0].end()
            await asyncio.Event().wait()  # until the writer has said all

    async def _write(self) -> None:
        """Native events, one session after the other; ends with a session that no other one follows."""
        while True:
            stream = await self._opened.get()
            async for event in stream:
                await self._send(self._protocol.project(event))
            stream.detach()
            self._is_silent.set()
            if not self._is_replaced:
                return

    async def _carry_out(self, output: Output) -> None:
        match output:
            case Start():
                await self._open(output)
            case bytes() | Update() | Flush():
                await self._native()[1].take(output)
            case End():
                self._is_replaced = True
                await self._end_stream()
            case HangUp(code=code):
                await websocket.close(self._socket, code, timeout_s=self._send_timeout_s)
                raise WebSocketDisconnect(code)

    async def _open(self, start: Start) -> None:
        await self._is_silent.wait()
        at_s = self._stream.received_s if self._stream is not None else 0.0
        self._stream = self._scheduler.open(
            start.options(self._config.session),
            offset_s=at_s,
            caller=self._caller.name,
        )
        self._intake = Intake(self._stream, decoder_of(start.audio))
        self._is_replaced = False
        self._is_silent.clear()
        self._opened.put_nowait(self._stream)

    async def _end_stream(self) -> None:
        stream, intake = self._native()
        await intake.finish()
        stream.end()

    def _native(self) -> tuple[OpenSession, Intake]:
        # the protocol says Start before anything else
        assert self._stream is not None
        assert self._intake is not None
        return self._stream, self._intake

    async def _send(self, outputs: Sequence[Output] | Sequence[ServerEvent]) -> None:
        """Send the server events among `outputs`; reader and writer do not mix theirs."""
        async with self._sending:
            for event in outputs:
                if isinstance(event, dict):
                    text = msgspec.json.encode(event).decode()
                    await websocket.send(self._socket, text, timeout_s=self._send_timeout_s)

    async def _fail(self, error: StreamerError) -> None:
        """Say why, and close."""
        await self._send(self._protocol.fail(error))
        await websocket.close(self._socket, wire_error(error).fault_close_code, timeout_s=self._send_timeout_s)

    def _leave(self) -> None:
        """Whoever is gone before its session has said everything needs no more of it."""
        if self._stream is not None and not self._is_silent.is_set():
            self._stream.end()
            self._stream.detach()


async def refuse(socket: WebSocket, error: KeyRefusedError) -> None:
    """Send a client without a good key away: a program by HTTP; a page would see nothing of that, so it is told."""
    if "origin" not in socket.headers:
        answer = Response(error_body(error), http_status(error), refusal_headers(error), JSON)
        await socket.send_denial_response(answer)
        return
    with contextlib.suppress(WebSocketDisconnect):
        await _accept(socket)
        event = msgspec.json.encode({"type": "error", "event_id": "event_1", "error": error_detail(error)})
        await websocket.send(socket, event.decode())
        await websocket.close(socket, wire_error(error).close_code)


async def _accept(socket: WebSocket) -> None:
    """A browser fails a handshake that answers none of the subprotocols it offered."""
    await socket.accept(subprotocol=REALTIME if REALTIME in socket.scope["subprotocols"] else None)
