"""Tests of streamer/remote/handshake.py: who is let in to an engine, and who is taken for one."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator

import pytest

from streamer.remote import handshake, wire
from streamer.remote.handshake import NONCE_BYTES, PROOF_BYTES, EngineServer, connect, new_secret
from tests.helpers.hosted_engines import FINGERPRINT, facts, hosted
from tests.helpers.scripted_engine import ScriptedEngine
from tests.helpers.waiting import until, until_idle


@contextlib.asynccontextmanager
async def opened(
    secret: bytes, version: int = wire.VERSION, ahead_s: float = 0.0
) -> AsyncIterator[tuple[EngineServer, int]]:
    """The server of a scripted engine whose clock is ahead, and its port."""
    ready = wire.Ready(version=version, facts=facts(), pid=1, nice=0)
    found = EngineServer(hosted(ScriptedEngine()), ready, secret, clock=lambda: time.monotonic() + ahead_s)
    async with asyncio.timeout(120), await asyncio.start_server(found.serve, "127.0.0.1", 0) as server:
        yield found, server.sockets[0].getsockname()[1]
        await until(lambda: not found.n_connections)
    await until_idle()  # what was aborted is closed


async def test_a_gateway_with_the_secret_gets_in_and_is_told_of_the_model() -> None:
    """Any number of them; the engine knows how many there are."""
    secret = new_secret()
    async with opened(secret) as (found, port):
        entered = [await connect("127.0.0.1", port, secret) for _ in range(3)]
        assert {each.ready.facts.fingerprint for each in entered} == {FINGERPRINT}
        assert found.n_gateways == 3
        for each in entered:
            each.writer.write(wire.pack(wire.Ping()))
            assert isinstance(wire.from_engine(await wire.FRAMING.read(each.reader)), wire.Pong)
            each.writer.transport.abort()
        await until(lambda: not found.n_gateways)


async def test_the_clock_of_another_machine_is_told() -> None:
    """Deadlines are told in it; what is known of it is never too much."""
    secret = new_secret()
    async with opened(secret, ahead_s=1000.0) as (_, port):
        entered = await connect("127.0.0.1", port, secret)
        entered.writer.transport.abort()

    assert 900.0 < entered.ahead_s <= 1000.0


async def test_a_gateway_without_the_secret_is_told_nothing() -> None:
    """The connection ends; the next gateway is let in."""
    secret = new_secret()
    async with opened(secret) as (found, port):
        with pytest.raises(ConnectionAbortedError):
            await connect("127.0.0.1", port, new_secret())
        assert found.n_gateways == 0
        entered = await connect("127.0.0.1", port, secret)
        entered.writer.transport.abort()


async def test_an_answer_that_was_heard_opens_nothing_later() -> None:
    """Each connection is asked another question."""
    secret = new_secret()
    async with opened(secret) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        question = await reader.readexactly(NONCE_BYTES)
        heard = bytes(NONCE_BYTES) + handshake._proof(secret, b"gateway", question + bytes(NONCE_BYTES))
        for _ in range(2):
            writer.write(heard)
            answered = await reader.read(PROOF_BYTES)
            writer.transport.abort()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await reader.readexactly(NONCE_BYTES)
        writer.transport.abort()

    assert answered == b""


async def test_who_does_not_know_the_secret_is_no_engine() -> None:
    """A program that has taken the port of one gets no audio."""

    async def impostor(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(bytes(NONCE_BYTES + PROOF_BYTES))
        with contextlib.suppress(ConnectionResetError):
            await reader.read()
        writer.transport.abort()

    async with await asyncio.start_server(impostor, "127.0.0.1", 0) as server:
        with pytest.raises(wire.WireError, match="secret"):
            await connect("127.0.0.1", server.sockets[0].getsockname()[1], new_secret())
    await until_idle()


async def test_an_engine_of_another_version_is_refused() -> None:
    """With the version that is expected."""
    secret = new_secret()
    async with opened(secret, version=wire.VERSION + 1) as (_, port):
        with pytest.raises(wire.WireError, match=f"version {wire.VERSION}"):
            await connect("127.0.0.1", port, secret)


async def test_a_connection_that_proves_nothing_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """In bounded time."""
    monkeypatch.setattr(handshake, "HANDSHAKE_S", 0.05)
    async with opened(new_secret()) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await reader.readexactly(NONCE_BYTES)
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.transport.abort()


async def test_a_gateway_whose_machine_vanishes_is_noticed() -> None:
    """Without a farewell its connection would last for ever, and its sessions count, and keep the engine."""
    secret, sockets = new_secret(), list[socket.socket]()
    ready = wire.Ready(version=wire.VERSION, facts=facts(), pid=1, nice=0)
    found = EngineServer(hosted(ScriptedEngine()), ready, secret)

    async def admit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sockets.append(writer.get_extra_info("socket"))
        await found.serve(reader, writer)

    async with await asyncio.start_server(admit, "127.0.0.1", 0) as server:
        entered = await connect("127.0.0.1", server.sockets[0].getsockname()[1], secret)
        assert sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        entered.writer.transport.abort()
        await until(lambda: not found.n_connections)
    await until_idle()


async def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is ended at once."""
    monkeypatch.setattr(handshake, "MAX_GATEWAYS", 1)
    secret = new_secret()
    async with opened(secret) as (_, port):
        first = await connect("127.0.0.1", port, secret)
        with pytest.raises(ConnectionError):
            await connect("127.0.0.1", port, secret)
        first.writer.transport.abort()


async def test_bytes_that_are_no_message_end_the_connection_alone() -> None:
    """The engine serves the others."""
    secret = new_secret()
    async with opened(secret) as (found, port):
        good, bad = [await connect("127.0.0.1", port, secret) for _ in range(2)]
        bad.writer.write(wire.LENGTH.pack(1) + b"x")
        with contextlib.suppress(ConnectionResetError):
            assert await bad.reader.read() == b""
        assert found.n_gateways == 1
        for each in (good, bad):
            each.writer.transport.abort()
