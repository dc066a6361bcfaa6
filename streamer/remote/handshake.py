"""
The handshake of gateways and engines over TCP: both sides prove that they know the engine's secret (HMAC).

The secret itself is never sent. The engine sends a nonce, the gateway proves with it that it knows the secret and sends
one of its own, and then both speak the messages of `wire`. Nothing is encrypted: the network must be a trusted one.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import structlog

from streamer.host.sockets import notice_loss
from streamer.remote import wire
from streamer.remote.host import EngineHost
from streamer.remote.link import read_ready

NONCE_BYTES = 32
PROOF_BYTES = 32
HANDSHAKE_S = 5.0
"""Time in which both sides must have proved that they know the secret, seconds."""
READY_S = 30.0
"""Time in which the engine's first message must come, seconds: it holds the vocabulary."""
VANISHED_S = 30
"""Time after which a gateway is gone whose machine answers nothing, seconds: the sessions that it had count no more."""
MAX_GATEWAYS = 1024
"""Connections at once, unproved ones among them; one more is closed."""

log = structlog.get_logger()


def new_secret() -> bytes:
    """A secret for an engine."""
    return secrets.token_bytes(32)


def _proof(secret: bytes, side: bytes, nonces: bytes) -> bytes:
    return hmac.digest(secret, side + nonces, "sha256")


class EngineServer:
    """
    Serves the gateways that know the secret of an engine.

    Args:
        host: Of the engine.
        ready: What it tells each gateway first.
        secret: What gateways must know.
        clock: The monotonic clock of the host, seconds.
    """

    def __init__(
        self, host: EngineHost, ready: wire.Ready, secret: bytes, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.n_gateways = 0
        """Gateways that use the engine now."""
        self._host, self._ready, self._secret, self._clock = host, ready, secret, clock
        self.n_connections = 0
        """Connections now, those among them that have proved nothing yet."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end, whatever comes over it."""
        self.n_connections += 1
        try:
            notice_loss(writer.get_extra_info("socket"), VANISHED_S)
            if self.n_connections <= MAX_GATEWAYS and await self._is_authentic(reader, writer):
                await self._serve_gateway(reader, writer)
        finally:
            self.n_connections -= 1
            writer.transport.abort()

    async def _is_authentic(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the other side knows the secret; proves to it that this one does."""
        ours = secrets.token_bytes(NONCE_BYTES)
        writer.write(ours)
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                theirs = await reader.readexactly(NONCE_BYTES)
                proof = await reader.readexactly(PROOF_BYTES)
        except (asyncio.IncompleteReadError, OSError):  # a TimeoutError is one
            return False
        if not hmac.compare_digest(proof, _proof(self._secret, b"gateway", ours + theirs)):
            log.warning("gateway_refused", peer=str(writer.get_extra_info("peername")))
            return False
        writer.write(_proof(self._secret, b"engine", ours + theirs))
        return True

    async def _serve_gateway(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.n_gateways += 1
        try:
            writer.write(wire.pack(msgspec.structs.replace(self._ready, clock_s=self._clock())))
            await self._host.serve(reader, writer)
        except wire.WireError as error:
            log.error("gateway_unreadable", error=str(error))  # noqa: TRY400 - it says all
        finally:
            self.n_gateways -= 1


@dataclass(frozen=True, slots=True)
class EngineConnection:
    """A connection to an engine, on which its messages follow."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    ready: wire.Ready
    ahead_s: float
    """How far the engine's clock is ahead, at least, seconds."""


async def connect(host: str, port: int, secret: bytes) -> EngineConnection:
    """
    Connect to an engine.

    Args:
        host: Its address.
        port: Its port.
        secret: Of the engine.

    Raises:
        OSError: Nobody is there.
        ConnectionAbortedError: It ends the connection: it does not know this secret.
        WireError: It is no engine with this secret, or one of another version.
    """
    async with asyncio.timeout(HANDSHAKE_S):  # a TimeoutError is an OSError
        reader, writer = await asyncio.open_connection(host, port)
    try:
        async with asyncio.timeout(HANDSHAKE_S):
            await _prove(reader, writer, secret)
        async with asyncio.timeout(READY_S):
            ready = await read_ready(reader)
    except BaseException as error:
        writer.transport.abort()
        if isinstance(error, asyncio.IncompleteReadError):
            raise ConnectionAbortedError("the engine ended the connection") from error
        raise
    return EngineConnection(reader, writer, ready, ready.clock_s - time.monotonic())


async def _prove(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, secret: bytes) -> None:
    theirs, ours = await reader.readexactly(NONCE_BYTES), secrets.token_bytes(NONCE_BYTES)
    writer.write(ours + _proof(secret, b"gateway", theirs + ours))
    if not hmac.compare_digest(await reader.readexactly(PROOF_BYTES), _proof(secret, b"engine", theirs + ours)):
        raise wire.WireError("it does not know the secret of the engine")
