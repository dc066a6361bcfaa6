"""
The HTTP and WebSocket protocols of uvicorn, with a deadline in every state and a bound on the work of each moment.

- A connection that owes its peer's bytes (a first request, the next one, the rest of a body, a handshake) has
  `request_timeout_s` for them. uvicorn itself waits for ever once a byte of a further request came.
- Bytes are parsed in short pieces, and connections take turns: a buffer of empty frames or of chunks of one byte would
  hold the event loop for seconds.
- A WebSocket that sends more frames than its budget allows is read later. Pings and empty frames count like all others.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import h11
from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from streamer.access.open_sockets import OpenSocket
from streamer.access.token_buckets import Bucket

MIN_PIECE_BYTES, MAX_PIECE_BYTES = 1024, 65_536
"""Bytes parsed at once: at least as many as 170 empty frames have."""
PIECE_S = 0.002
"""Time that one piece should take, seconds."""
TURN_S = 0.005
"""Time that connections parse in turn before everything else of the loop runs, seconds."""
CONNECTION = "connection"
"""Key of the scope's state under which an application finds the `WebSocketProtocol`."""
BURST_S = 10.0
"""Frames that a connection may send at once, in seconds of its rate: a client that resumes sends what it kept."""


class Turns:
    """
    Lets the connections of a server parse in turn, for at most TURN_S before everything else of the loop runs.

    Args:
        loop: Runs the turns.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Callable[[], None]] = deque()
        self._is_due = False

    def queue(self, parse: Callable[[], None]) -> None:
        """Call a function when its turn comes."""
        self._waiting.append(parse)
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        self._is_due = False
        end_s = self._loop.time() + TURN_S
        try:
            while self._waiting and self._loop.time() < end_s:
                self._waiting.popleft()()
        finally:
            if self._waiting and not self._is_due:
                self._is_due = True
                self._loop.call_soon(self._run)


class Pieces:
    """
    Bytes that were received and not parsed, handed on piece by piece. While some wait, no more are read.

    A piece is as long as what can be parsed in about PIECE_S: long for audio, short for a flood of tiny frames.

    Args:
        turns: Of the server.
        transport: Is paused and resumed, and aborted if a piece cannot be parsed.
        parse: Takes one piece; returns the seconds to wait before the next one.
        may_parse: Whether the next piece may be parsed now; `go_on` asks again.
    """

    def __init__(
        self,
        turns: Turns,
        transport: asyncio.Transport,
        parse: Callable[[bytes], float],
        may_parse: Callable[[], bool],
    ) -> None:
        self._turns, self._transport, self._parse, self._may_parse = turns, transport, parse, may_parse
        self._loop = asyncio.get_running_loop()
        self._rest = bytearray()
        self._size = MIN_PIECE_BYTES
        self._is_queued = self._is_over = False
        self._pause: asyncio.TimerHandle | None = None

    def add(self, data: bytes) -> None:
        """Take bytes, which are parsed in turn."""
        self._rest += data
        self.go_on()

    def go_on(self) -> None:
        """Have parsed what waits; read on if nothing waits."""
        if self._is_queued or self._pause is not None or self._is_over or not self._may_parse():
            return
        if self._rest:
            self._is_queued = True
            self._turns.queue(self._run)
        else:
            self._transport.resume_reading()

    def take_rest(self) -> bytes:
        """Return the bytes that wait, and parse nothing more."""
        rest = bytes(self._rest)
        self.stop()
        return rest

    def stop(self) -> None:
        """Parse nothing more."""
        self._is_over = True
        self._rest.clear()
        if self._pause is not None:
            self._pause.cancel()

    def _run(self) -> None:
        self._is_queued = False
        if self._is_over or not self._may_parse():
            return
        piece = bytes(self._rest[: self._size])
        del self._rest[: self._size]
        began_s = self._loop.time()
        try:
            wait_s = self._parse(piece)
        except BaseException:
            self.stop()
            self._transport.abort()
            raise
        self._adapt(self._loop.time() - began_s)
        if self._rest or wait_s > 0:
            self._transport.pause_reading()
        if wait_s > 0:
            self._pause = self._loop.call_later(wait_s, self._end_pause)
        self.go_on()

    def _adapt(self, took_s: float) -> None:
        if took_s > PIECE_S:
            self._size = max(MIN_PIECE_BYTES, self._size // 2)
        elif took_s < PIECE_S / 4:
            self._size = min(MAX_PIECE_BYTES, self._size * 2)

    def _end_pause(self) -> None:
        self._pause = None
        self.go_on()


class HttpProtocol(H11Protocol):
    """HTTP/1.1 with a deadline wherever bytes of the peer are awaited."""

    request_timeout_s: float
    slot: OpenSocket
    turns: Turns

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock of the first request."""
        super().connection_made(transport)
        self.slot.drop = transport.abort
        self._pieces = Pieces(self.turns, transport, self._parse, self._may_parse)
        self.flow = _Flow(transport, self._pieces.go_on)
        self._patience = self.loop.call_later(self.request_timeout_s, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._patience.cancel()
        self._pieces.stop()
        self.slot.close()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse the first piece, and leave the others for later."""
        self._pieces.add(data)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand the transport over, and with it the bytes behind the request; this protocol hears nothing more."""
        self._patience.cancel()
        self.slot.work()
        super().handle_websocket_upgrade(event)
        websocket = self.transport.get_protocol()
        if isinstance(websocket, WebSocketProtocol):
            websocket.slot = self.slot
            if rest := self.conn.trailing_data[0] + self._pieces.take_rest():
                self.loop.call_soon(websocket.data_received, rest)

    def on_response_complete(self) -> None:
        """Start the clock of what the peer owes next: the rest of its body, or its next request."""
        self._patience.cancel()
        self._patience = self.loop.call_later(self.request_timeout_s, self._give_up)
        super().on_response_complete()
        self._tell_door()

    def send_400_response(self, msg: str) -> None:
        """Answer 400, or cut a peer that broke the protocol in the middle of a response."""
        try:
            super().send_400_response(msg)
        except h11.LocalProtocolError:
            self.transport.abort()

    def _tell_door(self) -> None:
        """Bytes of the peer are awaited before a request is complete, and once it is answered."""
        if isinstance(self.transport.get_protocol(), WebSocketProtocol):
            return
        if self.cycle is None or self.cycle.response_complete or self.cycle.more_body:
            self.slot.wait()
        else:
            self.slot.work()

    def _parse(self, piece: bytes) -> float:
        super().data_received(piece)
        self._tell_door()
        return 0.0

    def _may_parse(self) -> bool:
        return not self.flow.read_paused and not self.transport.is_closing()

    def _give_up(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()


class _Flow(FlowControl):
    """Flow control that reads on only once everything is parsed that was received before the pause."""

    def __init__(self, transport: asyncio.Transport, go_on: Callable[[], None]) -> None:
        super().__init__(transport)
        self._go_on = go_on

    def resume_reading(self) -> None:
        """Parse what waits, or read on."""
        if self.read_paused:
            self.read_paused = False
            self._go_on()


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """A WebSocket with a deadline for its handshake and a budget of frames."""

    request_timeout_s: float
    frames_per_s: float
    turns: Turns
    slot: OpenSocket | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the clock of the handshake."""
        super().connection_made(transport)
        assert isinstance(transport, asyncio.Transport)
        self.shared_budget: Bucket | None = None
        """Set by the application: what the connections of one caller share."""
        self._budget = Bucket(self.frames_per_s, BURST_S * self.frames_per_s)
        self._n_frames = 0
        self._pieces = Pieces(self.turns, transport, self._parse, self._may_parse)
        self._patience = self.loop.call_later(self.request_timeout_s, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._patience.cancel()
        self._pieces.stop()
        if self.slot is not None:
            self.slot.close()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse the first piece, and leave the others for later."""
        self._pieces.add(data)

    def handle_events(self) -> None:
        """Count the frames before they are handled."""
        self._n_frames += len(self.conn.events)
        super().handle_events()

    def handle_parser_exception(self) -> None:
        """Close a connection whose frames are malformed; before the handshake was answered, there is no close frame."""
        if self.conn.close_sent is not None:
            super().handle_parser_exception()
            return
        self.queue.put_nowait({"type": "websocket.disconnect", "code": 1006, "reason": ""})
        self.close_sent = self.handshake_complete = self.disconnected = True
        self.transport.abort()

    def handle_connect(self, event: Request) -> None:
        """Let the application find this connection, as `state["connection"]` of the scope."""
        self.app_state = {**self.app_state, CONNECTION: self}
        super().handle_connect(event)

    async def receive(self) -> ASGIReceiveEvent:
        """Return the next message, and read on once the application has taken all that were parsed."""
        message = await self.queue.get()
        if self.read_paused and self.queue.empty():
            self.read_paused = False
            self._pieces.go_on()
        return message

    async def send(self, message: ASGISendEvent) -> None:
        """Send a message; after a close the rest of the client's frames is parsed, for its own close is among them."""
        await super().send(message)
        if self.initial_response is not None and self.close_sent:
            self.handshake_complete = True  # by a refusal; uvicorn would log an error for each
        if self.close_sent:
            self._pieces.go_on()

    def _parse(self, piece: bytes) -> float:
        self._n_frames = 0
        super().data_received(piece)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self._refuse_handshake()
        now_s = self.loop.time()
        wait_s = self._budget.spend(self._n_frames, now_s)
        if self.shared_budget is not None:
            wait_s = max(wait_s, self.shared_budget.spend(self._n_frames, now_s))
        return wait_s

    def _refuse_handshake(self) -> None:
        # uvicorn takes no notice of a request that its WebSocket parser refuses, and would wait for ever
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.transport.close()

    def _may_parse(self) -> bool:
        return not self.read_paused and not self.transport.is_closing()

    def _give_up(self) -> None:
        if not self.handshake_complete:
            self.transport.abort()
