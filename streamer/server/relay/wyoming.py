"""The Wyoming protocol over TCP: the listening port, and the transport of one connection."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from streamer.access.decoding_budget import DecodingAccount, DecodingBudget
from streamer.access.exposure import is_loopback
from streamer.access.keys import Caller
from streamer.access.open_sockets import network
from streamer.access.places import Places
from streamer.access.token_buckets import Bucket
from streamer.config import Config
from streamer.dialects.wyoming import WyomingProtocol
from streamer.errors import OverloadError
from streamer.host.sockets import refusal
from streamer.server.duplex import ClientGone, drop_frames
from streamer.server.interfaces import SessionService
from streamer.server.relay.relay import Relay

MAX_CONNECTIONS = 64
"""Most open connections, of an address no more than are left; one more is refused."""
MAX_LINGERING = 64
"""Most connections that are over and whose clients still send; one more is reset."""
READ_BYTES = 4096
"""Bytes taken at once: at most 300 messages before others get their turn."""
BYTES_PER_S, BYTE_BURST = 1_048_576.0, 16_777_216.0
"""Bytes of one connection each second, and at once; audio at 48 kHz has 0.2 MB. More are read later."""
LINES_PER_S, LINE_BURST = 2000.0, 8000.0
"""Line ends of one connection each second, and at once; audio at 48 kHz has 750 by chance. More are read later."""

log = structlog.get_logger()


class TcpTransport:
    """
    Carries bytes over TCP.

    Args:
        reader: Of one connection.
        writer: Of the same connection.
        send_timeout_s: A client that takes no message for so many seconds is gone.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, send_timeout_s: float) -> None:
        self._reader, self._writer, self._send_timeout_s = reader, writer, send_timeout_s
        self._is_over = False
        self._lines, self._bytes = Bucket(LINES_PER_S, LINE_BURST), Bucket(BYTES_PER_S, BYTE_BURST)
        self._owed_s = 0.0

    async def receive(self) -> bytes:
        """
        Wait for the next bytes, at most READ_BYTES. Cancelling is safe: nothing is lost.

        Raises:
            ClientGone: The client has closed its side, or the connection broke.
        """
        owed_s, self._owed_s = self._owed_s, 0.0
        await asyncio.sleep(owed_s)  # before anything is read, so that cancelling loses nothing
        try:
            data = await self._reader.read(READ_BYTES)
        except OSError:
            data = b""
        if not data:
            raise ClientGone
        now_s = time.monotonic()
        self._owed_s = max(self._lines.spend(data.count(b"\n"), now_s), self._bytes.spend(len(data), now_s))
        return data

    async def send(self, text: str) -> None:
        """
        Send one text.

        Raises:
            ClientGone: The client has left, or took nothing for the send timeout; or `close` was called.
        """
        if self._is_over:
            raise ClientGone
        self._writer.write(text.encode())
        try:
            async with asyncio.timeout(self._send_timeout_s):
                await self._writer.drain()
        except (OSError, TimeoutError):
            raise ClientGone from None

    async def close(self, code: int, reason: str = "") -> None:
        """
        End the stream of bytes to the client, after everything sent before. TCP has neither codes nor reasons.

        The connection stays open for `linger`.
        """
        if not self._is_over:
            self._is_over = True
            with contextlib.suppress(OSError):
                self._writer.write_eof()

    async def linger(self, seconds: float) -> None:
        """
        Read and drop what the client still sends until it closes, at most so many seconds; then close.

        Closing at once would reset the connection of a client that still sends, which then loses what it has not read.
        """
        with contextlib.suppress(ClientGone, TimeoutError):
            async with asyncio.timeout(seconds):
                await self.close(1000)
                await drop_frames(self)
        self._writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(self._send_timeout_s):
                await self._writer.wait_closed()


@asynccontextmanager
async def wyoming_server(
    scheduler: SessionService, config: Config, listening: socket.socket | None = None
) -> AsyncIterator[int]:
    """
    Serve the Wyoming protocol on `wyoming.port` while the block runs; yield the port, or 0 where none is configured.

    Args:
        scheduler: Opens sessions.
        config: `wyoming`, `server`, `limits` and `session` are read.
        listening: A listening socket in place of the port; it is closed at the end.

    Raises:
        StreamerError: The port is taken, or the address is not one of this machine.
    """
    if not config.wyoming.port:
        yield 0
        return
    server = await _listen(_Handler(scheduler, config), config, listening)
    if not is_loopback(config.wyoming.host):
        log.warning(
            "wyoming_is_open",
            host=config.wyoming.host,
            remedy="the Wyoming protocol has no keys: keep the port away from the internet",
        )
    try:
        yield config.wyoming.port
    finally:
        server.close()


async def _listen(handler: _Handler, config: Config, listening: socket.socket | None) -> asyncio.Server:
    if listening is not None:
        return await asyncio.start_server(handler.serve, sock=listening)
    host, port = config.wyoming.host, config.wyoming.port
    try:
        return await asyncio.start_server(handler.serve, host, port)
    except (OSError, UnicodeError) as error:
        raise refusal(f"wyoming.port {port} on {host}", error, "another wyoming.port") from None


class _Handler:
    def __init__(self, scheduler: SessionService, config: Config) -> None:
        self._scheduler, self._config = scheduler, config
        self._places = Places(MAX_CONNECTIONS, "connections")
        self._n_lingering = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end; a client may go on sending for `server.idle_s` after it."""
        transport = TcpTransport(reader, writer, self._config.limits.send_timeout_s)
        peer: tuple[str, ...] = writer.get_extra_info("peername") or ("",)
        try:
            with structlog.contextvars.bound_contextvars(address=peer[0]):
                await self._converse(transport, peer[0])
            await self._linger(transport)
        finally:
            writer.transport.abort()

    async def _converse(self, transport: TcpTransport, host: str) -> None:
        relay = self._relay(transport)
        try:
            with self._places.taken(None if is_loopback(host) else network(host)):
                await relay.begin()
                await relay.run()
        except OverloadError as refusal:  # there is no place
            with contextlib.suppress(ClientGone):
                await relay.fail(refusal)

    async def _linger(self, transport: TcpTransport) -> None:
        self._n_lingering += 1
        try:
            await transport.linger(self._config.server.idle_s if self._n_lingering <= MAX_LINGERING else 0)
        finally:
            self._n_lingering -= 1

    def _relay(self, transport: TcpTransport) -> Relay:
        scheduler, config = self._scheduler, self._config
        dialect = WyomingProtocol(scheduler.model, scheduler.languages, config.server.max_frame_bytes)
        account = DecodingAccount(DecodingBudget())  # it has plain samples alone
        return Relay(transport, scheduler, config, Caller(), account, dialect)
