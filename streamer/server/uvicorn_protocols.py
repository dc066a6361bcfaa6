"""
The HTTP and WebSocket protocols of uvicorn, with a deadline in every state and a bound on the work of each moment.

- A peer that owes bytes (a first request, the next one, the rest of a body, a handshake) has `request_timeout_s` for
  them. uvicorn itself waits for ever once a byte of a further request came.
- A peer that takes no bytes has `send_timeout_s` for what waits.
- A WebSocket that is not read is asked whether its peer is still there (`probe`).
- Bytes are parsed in `pieces`, and a head of more than MAX_HEAD_LINES is refused before it is parsed.
- A WebSocket that sends more frames or bytes than its budget allows is read later. Pings and empty frames count too.
- Messages that have begun and do not end are bounded, those of all WebSockets together.
"""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import Callable
from typing import Any, cast

import h11
from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request

from streamer.access.allowances import Allowance
from streamer.access.open_sockets import OpenSocket
from streamer.access.token_buckets import Bucket
from streamer.server.pieces import MIN_PIECE_BYTES, ParseQueue, Pieces, Rank, rank_of
from streamer.server.probe import Probe
from streamer.server.read_ahead import UTF8

CONNECTION = "connection"
"""Key of the scope's state under which an application finds the `WebSocketProtocol`."""
MAX_HEAD_LINES = 256
"""Lines of the head of a request: each costs as much as a kilobyte of audio."""
_END_OF_HEAD = re.compile(rb"\n\r?\n")
BODY_PIECE_BYTES = 16_384
"""Of a body that are parsed at once: trailers are lines too."""
MAX_FRAGMENTS = 64
"""Fragments of a message that are kept apart."""
ALL_HALF_BYTES, FREE_HALF_BYTES = 50_331_648, 16_384
"""Of messages that have begun: of all WebSockets together, and what each may have in any case."""
TRY_AGAIN_LATER = 1013
"""Close code (RFC 6455, 7.4) of a WebSocket with half a message too many."""
INVALID_TEXT = 1007
"""Close code of a text that is not UTF-8."""
FRAME_BYTES = 40_960.0
"""Bytes of one WebSocket that count as a frame: 4 MB a second; eight channels of floats at 48 kHz are 1.5 MB. What
comes behind the end of a session or the close of a connection is dropped, and nothing else slows its sender."""
BYTES_BURST_S = 4.0
"""Bytes that a connection may send at once, in seconds of their rate: 16 MB, as many as are read ahead."""
BURST_S = 10.0
"""Frames that a connection may send at once, in seconds of its rate: a client that resumes sends what it kept."""


class HalfMessages:
    """
    Counts the bytes of messages that have begun and not ended, of all WebSockets of a server.

    Args:
        most: Bytes together; no WebSocket has more than it leaves to the others, but each has FREE_HALF_BYTES.
    """

    def __init__(self, most: int = ALL_HALF_BYTES) -> None:
        self._most, self._n_bytes = most, 0

    def change(self, before: int, now: int) -> bool:
        """Count the bytes of one WebSocket; whether it may have as many."""
        self._n_bytes += now - before
        return now <= max(FREE_HALF_BYTES, self._most - self._n_bytes)


class HttpProtocol(H11Protocol):
    """HTTP/1.1 with a deadline wherever something of the peer is awaited."""

    request_timeout_s: float
    send_timeout_s: float
    slot: OpenSocket
    parse_queue: ParseQueue
    knows: Callable[[bytes], bool] | None = None
    """Whether the first bytes show a valid key; None: they were looked at before, as they can be without TLS."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock of the first request."""
        super().connection_made(transport)
        self.slot.drop = transport.abort
        self._pieces = Pieces(
            self.parse_queue,
            transport,
            self._parse,
            self._may_parse,
            most_bytes=self._most_bytes,
            rank=self._rank,
        )
        self.flow = _Flow(transport, self._pieces.go_on)
        self._sending = _Deadline(self.send_timeout_s, transport)
        self._n_head_lines, self._last_cycle, self._is_next_due = 0, self.cycle, False
        self._patience = self.loop.call_later(self.request_timeout_s, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._patience.cancel()
        self._sending.stop()
        self._pieces.stop()
        self.slot.close()
        super().connection_lost(exc)
        # they hold this protocol in a circle, see `Pieces.stop`; None is what uvicorn has before the first request
        self.cycle = self._last_cycle = None  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Parse the first piece, and leave the others for later."""
        if self.knows is not None and self.cycle is None and self.knows(data):
            self.slot.show_key()
        self._pieces.add(data)

    def pause_writing(self) -> None:
        """Start the clock of a peer that takes no bytes: it is one that is waited for."""
        super().pause_writing()
        self._sending.start()
        self.slot.wait()

    def resume_writing(self) -> None:
        """Stop that clock."""
        super().resume_writing()
        self._sending.stop()
        self._update_slot()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand the transport over, and with it the bytes behind the request; this protocol hears nothing more."""
        self._patience.cancel()
        self.slot.work()
        make = functools.partial(cast(Callable[..., asyncio.Protocol], self.ws_protocol_class), slot=self.slot)
        self.ws_protocol_class = cast(type[asyncio.Protocol], make)
        super().handle_websocket_upgrade(event)
        websocket = self.transport.get_protocol()
        rest = self.conn.trailing_data[0] + self._pieces.take_rest()
        if rest and isinstance(websocket, WebSocketProtocol):
            self.loop.call_soon(websocket.data_received, rest)

    def on_response_complete(self) -> None:
        """Start the clock of what the peer owes next: the rest of its body, or its next request."""
        self._patience.cancel()
        self._patience = self.loop.call_later(self.request_timeout_s, self._give_up)
        self._is_next_due = True
        super().on_response_complete()
        self._is_next_due = False
        self._update_slot()

    def handle_events(self) -> None:
        """Handle what was parsed; a request that came behind the one just answered has to wait for its turn."""
        if self._is_next_due and self.conn.trailing_data[0]:
            self.parse_queue.add(self._handle_next, self._rank())
        else:
            super().handle_events()

    def _handle_next(self) -> None:
        if not self.transport.is_closing():
            super().handle_events()
            self._update_slot()

    def send_400_response(self, msg: str) -> None:
        """
        Answer 400, or cut a peer that broke the protocol in the middle of a response.

        An application that works on a request answers nobody any more: h11 would take its answer for a mistake.
        """
        if self.cycle is not None:
            self.cycle.disconnected = True
        try:
            super().send_400_response(msg)
        except h11.LocalProtocolError:
            self.transport.abort()

    def _update_slot(self) -> None:
        """Count the connection as waiting until a request is complete and once it is answered, else as served."""
        if isinstance(self.transport.get_protocol(), WebSocketProtocol):
            return
        if self.cycle is None or self.cycle.response_complete or self.cycle.more_body:
            self.slot.wait()
        else:
            self.slot.work()

    def _parse(self, piece: bytes) -> float:
        if self._has_long_head(piece):
            self.send_400_response(f"expected a head of at most {MAX_HEAD_LINES} lines")
            return 0.0
        super().data_received(piece)
        self._update_slot()
        return 0.0

    def _has_long_head(self, piece: bytes) -> bool:
        if self.cycle is not self._last_cycle:
            self._last_cycle, self._n_head_lines = self.cycle, 0
        if self._is_head_awaited:
            self._n_head_lines += _END_OF_HEAD.split(piece, 1)[0].count(b"\n")
        return self._n_head_lines > MAX_HEAD_LINES

    @property
    def _is_head_awaited(self) -> bool:
        return self.conn.their_state is not h11.SEND_BODY

    def _most_bytes(self) -> int:
        return MIN_PIECE_BYTES if self._is_head_awaited else BODY_PIECE_BYTES

    def _may_parse(self) -> bool:
        return not self.flow.read_paused and not self.transport.is_closing()

    def _rank(self) -> Rank:
        return rank_of(self.slot) if self.cycle is None else Rank.STRANGER

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


class _Deadline:
    """Cuts a connection whose peer takes no bytes for too long."""

    def __init__(self, seconds: float, transport: asyncio.Transport) -> None:
        self._seconds, self._transport = seconds, transport
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start the clock, unless it runs."""
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._seconds, self._transport.abort)

    def stop(self) -> None:
        """Stop the clock."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """A WebSocket with a deadline for its handshake and for what it is sent, and a budget of frames."""

    request_timeout_s: float
    send_timeout_s: float
    frames_per_s: float
    parse_queue: ParseQueue
    halves: HalfMessages

    def __init__(self, *args: Any, slot: OpenSocket | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self.slot = slot

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the clock of the handshake."""
        super().connection_made(transport)
        assert isinstance(transport, asyncio.Transport)
        self.allowance: Allowance | None = None
        """Set by the application: what the connections of one caller share."""
        self._frames_left = Bucket(self.frames_per_s, BURST_S * self.frames_per_s)
        self._bytes_left = Bucket(FRAME_BYTES * self.frames_per_s, BYTES_BURST_S * FRAME_BYTES * self.frames_per_s)
        self._n_frames = self._n_half_bytes = 0
        self._sending = _Deadline(self.send_timeout_s, transport)
        self._pieces = Pieces(
            self.parse_queue,
            transport,
            self._parse,
            self._may_parse,
            rank=self._rank,
            probe=Probe(self._ask),
        )
        self._patience = self.loop.call_later(self.request_timeout_s, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._patience.cancel()
        self._sending.stop()
        self._pieces.stop()
        self.halves.change(self._n_half_bytes, 0)
        if self.slot is not None:
            self.slot.close()
        super().connection_lost(exc)
        self.conn.parser.close()  # it holds the parser in a circle, and what was parsed of a message with it

    def data_received(self, data: bytes) -> None:
        """Parse the first piece, and leave the others for later."""
        self._pieces.add(data)

    def pause_writing(self) -> None:
        """Start the clock of a peer that takes no bytes."""
        super().pause_writing()
        self._sending.start()

    def resume_writing(self) -> None:
        """Stop that clock."""
        super().resume_writing()
        self._sending.stop()

    def handle_events(self) -> None:
        """Count the frames before they are handled."""
        self._n_frames += len(self.conn.events)
        super().handle_events()

    def handle_ping(self) -> None:
        """Answer a ping, but not where answers pile up that the peer does not take (RFC 6455, 5.5.3, allows it)."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()

    def schedule_ping(self) -> None:
        """Send the next ping after a whole interval; after a late pong uvicorn would send them ever faster."""
        self.last_ping_rtt = 0.0
        super().schedule_ping()

    def handle_cont(self, event: Frame) -> None:
        """Keep a fragment; many empty ones take no memory."""
        if len(self.frames) >= MAX_FRAGMENTS:
            self.frames = [b"".join(self.frames)]
        super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        """
        Pass a message on; a text that is not UTF-8 closes the connection, for which uvicorn logs a traceback.

        A text stays in bytes until the application takes it (`read_ahead`).

        Nothing more is parsed before the application has taken it. uvicorn would also take the socket out of the
        selector and put it back, for each message: what comes meanwhile waits in `_pieces`, which have a bound.
        """
        data = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
        self.frames = []
        if self.close_sent:
            return
        if self.curr_msg_data_type == "text" and not _is_text(data):
            self._fail(INVALID_TEXT, "a text that is not UTF-8")
            return
        self.read_paused = True
        kind = UTF8 if self.curr_msg_data_type == "text" else "bytes"
        self.queue.put_nowait(cast(ASGIReceiveEvent, {"type": "websocket.receive", kind: data}))

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

    async def run_asgi(self) -> None:
        """Run the application, which finds this connection in its scope until it ends."""
        try:
            await super().run_asgi()
        finally:
            self.app_state = {}
            self.scope["state"].pop(CONNECTION, None)  # a circle of references, see `Pieces.stop`

    async def receive(self) -> ASGIReceiveEvent:
        """Return the next message, and read on once the application has taken all that were parsed."""
        message = await self.queue.get()
        if self.read_paused and self.queue.empty():
            self.read_paused = False
            self._pieces.go_on()
        return message

    async def send(self, message: ASGISendEvent) -> None:
        """
        Send a message; after a close the rest of the client's frames is parsed, for its own close is among them.

        Raises:
            ClientDisconnected: The client has left, or its frames were malformed and the connection is closed already.
                uvicorn would take what the application says then for its mistake, with a traceback.
        """
        comes_late = message["type"] in ("websocket.send", "websocket.close") and self.close_sent
        if comes_late or (message["type"] == "websocket.accept" and self.transport.is_closing()):
            self.handshake_complete = self.disconnected = True
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
        self._count_half()
        return self._pay(self._n_frames, len(piece))

    def _pay(self, n_frames: int, n_bytes: int) -> float:
        """Pay for what was parsed; the seconds to wait before the next piece."""
        frames, bytes_ = [self._frames_left], [self._bytes_left]
        if self.allowance is not None:
            frames.append(self.allowance.messages)
            bytes_.append(self.allowance.received)
        now_s = self.loop.time()
        waits_s = [bucket.spend(n_frames, now_s) for bucket in frames]
        return max(waits_s + [bucket.spend(n_bytes, now_s) for bucket in bytes_])

    def _count_half(self) -> None:
        """Count what the peer has begun to send, and close the connection if it is too much."""
        n_bytes = len(self.conn.reader.buffer) + sum(map(len, self.frames))
        before, self._n_half_bytes = self._n_half_bytes, n_bytes
        if not self.halves.change(before, n_bytes):
            self._fail(TRY_AGAIN_LATER, "too many messages have begun and not ended")

    def _fail(self, code: int, reason: str) -> None:
        self.frames = []
        if not self.close_sent and not self.transport.is_closing():
            self.conn.fail(code, reason)
            self.handle_parser_exception()

    def _refuse_handshake(self) -> None:
        # uvicorn takes no notice of a request that its WebSocket parser refuses, and would wait for ever
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.transport.close()

    def _may_parse(self) -> bool:
        return not self.read_paused and not self.transport.is_closing()

    def _rank(self) -> Rank:
        return Rank.STREAM if self.handshake_complete else rank_of(self.slot)

    def _ask(self) -> None:
        """Send a ping whose answer nobody waits for, unless a close or what the peer does not take tells enough."""
        if (
            self.handshake_complete
            and self.writable.is_set()
            and not self.close_sent
            and not self.transport.is_closing()
        ):
            self.conn.send_ping(b"")
            self.transport.write(b"".join(self.conn.data_to_send()))

    def _give_up(self) -> None:
        if not self.handshake_complete:
            self.transport.abort()


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
