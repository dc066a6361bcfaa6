"""Tests of streamer/server/relay/wyoming.py with the protocol's own library, over loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from wyoming.asr import Transcribe, Transcript, TranscriptChunk, TranscriptStop
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.event import Event
from wyoming.info import Describe, Info

from streamer.config import Config, ServerConfig, WyomingConfig
from streamer.errors import StreamerError
from streamer.protocol.options import SessionOptions
from streamer.server.relay.wyoming import MAX_CONNECTIONS, wyoming_server
from tests.helpers.fake_scheduler import FakeScheduler, FakeStream, script_of
from tests.helpers.http_daemon import SECOND, within
from tests.helpers.ports import reserved_port

TEXT = "turn on the kitchen light"


@asynccontextmanager
async def serving(scheduler: FakeScheduler, idle_s: float = 30.0) -> AsyncIterator[int]:
    """The port of a running server."""
    with reserved_port() as free:
        config = Config(server=ServerConfig(idle_s=idle_s), wyoming=WyomingConfig(port=free))
        async with wyoming_server(scheduler, config) as port:
            yield port


async def read(client: AsyncTcpClient) -> list[Event]:
    """Everything up to the end of the connection."""
    events = []
    while (event := await within(client.read_event())) is not None:
        events.append(event)
    return events


async def speak(client: AsyncTcpClient, seconds: int) -> None:
    """As Home Assistant does."""
    await client.write_event(Transcribe(language="en").event())
    await client.write_event(AudioStart(rate=16000, width=2, channels=1).event())
    for _ in range(seconds):
        await client.write_event(AudioChunk(rate=16000, width=2, channels=1, audio=SECOND).event())
    await client.write_event(AudioStop().event())


class Noting(FakeScheduler):
    """Keeps the address that lines of the log have when a session is opened."""

    address = ""

    async def begin(self, options: SessionOptions, **given: Any) -> FakeStream:
        """As any scheduler."""
        self.address = structlog.contextvars.get_contextvars()["address"]
        return await super().begin(options, **given)


async def test_the_log_has_the_address_of_the_client() -> None:
    """Also over TCP."""
    scheduler = Noting(script_of([TEXT]))
    async with serving(scheduler) as port, AsyncTcpClient("127.0.0.1", port) as client:
        await speak(client, 3)
        await read(client)
    assert scheduler.address == "127.0.0.1"


async def test_an_utterance_is_answered_with_its_text() -> None:
    """The chunks are the text, the whole comes too, and the connection closes."""
    scheduler = FakeScheduler(script_of([TEXT]))
    async with serving(scheduler) as port, AsyncTcpClient("127.0.0.1", port) as client:
        await speak(client, 3)
        events = await read(client)
    chunks = [TranscriptChunk.from_event(event).text for event in events if TranscriptChunk.is_type(event.type)]
    [whole] = [Transcript.from_event(event) for event in events if Transcript.is_type(event.type)]
    assert "".join(chunks) == whole.text == TEXT
    assert TranscriptStop.is_type(events[-1].type)
    assert scheduler.streams[0].received_s == 3.0


async def test_the_library_reads_the_description() -> None:
    """With every field that it needs."""
    async with serving(FakeScheduler()) as port, AsyncTcpClient("127.0.0.1", port) as client:
        await client.write_event(Describe().event())
        event = await within(client.read_event())
    [program] = Info.from_event(event).asr
    assert program.installed
    assert program.supports_transcript_streaming
    assert program.models[0].languages == ["en", "de", "fr"]


async def test_errors_are_told_before_the_close() -> None:
    """Of a full daemon, and of bytes that are not of the protocol."""
    async with serving(FakeScheduler(max_sessions=0)) as port:
        async with AsyncTcpClient("127.0.0.1", port) as client:
            await speak(client, 1)
            errors = [Error.from_event(event) for event in await read(client) if Error.is_type(event.type)]
            assert errors[0].code == "overloaded"
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert b"not a message of the Wyoming protocol" in await within(reader.read())
        writer.close()


async def test_the_session_of_a_client_that_vanishes_is_ended() -> None:
    """Nobody reads its text any more."""
    scheduler = FakeScheduler()
    async with serving(scheduler) as port:
        async with AsyncTcpClient("127.0.0.1", port) as client:
            await client.write_event(AudioChunk(rate=16000, width=2, channels=1, audio=SECOND).event())
            stream = await within(scheduler.wait_stream())
        await within(stream.detached.wait())
    assert stream.has_ended


async def test_the_text_of_a_silent_client_is_delivered() -> None:
    """Then the connection closes."""
    scheduler = FakeScheduler(script_of([TEXT]))
    async with serving(scheduler, idle_s=1.0) as port, AsyncTcpClient("127.0.0.1", port) as client:
        await client.write_event(AudioChunk(rate=16000, width=2, channels=1, audio=SECOND).event())
        events = await read(client)
    assert any(Transcript.is_type(event.type) for event in events)


@settings(max_examples=10)
@given(st.lists(st.integers(1, 400_000), min_size=1, max_size=12), st.sampled_from(["full", "width", "language"]))
def test_a_refusal_reaches_a_client_that_sends_everything_first(sizes: list[int], reason: str) -> None:
    """A client reads once its utterance is sent, megabytes after the refusal: a reset would hide the reason."""

    async def refused() -> str:
        async with (
            serving(FakeScheduler(max_sessions=0)) as port,
            AsyncTcpClient("127.0.0.1", port) as client,
        ):
            await client.write_event(Transcribe(language="xx" if reason == "language" else "en").event())
            await client.write_event(AudioStart(rate=16000, width=1 if reason == "width" else 2, channels=1).event())
            for n in sizes:
                audio = AudioChunk(rate=16000, width=2, channels=1, audio=bytes(2 * n))
                await within(client.write_event(audio.event()))
            await client.write_event(AudioStop().event())
            [error] = [Error.from_event(event) for event in await read(client) if Error.is_type(event.type)]
            return str(error.code)

    expected = {"full": "overloaded", "width": "bad_audio", "language": "bad_language"}
    assert asyncio.run(refused()) == expected[reason]


async def test_a_client_that_goes_on_sending_is_reset_in_the_end() -> None:
    """After `idle_s`: it holds nothing for ever."""

    async def send_for_ever(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(bytes(100_000))
            await writer.drain()

    async with serving(FakeScheduler(max_sessions=0), idle_s=1.0) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"x\n")
        assert b"bad_json" in await within(reader.read())
        with pytest.raises(ConnectionError):
            await within(send_for_ever(writer))
        writer.close()


async def test_a_connection_too_many_is_refused() -> None:
    """It is told why, and the others stay."""
    async with serving(FakeScheduler()) as port:
        clients = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MAX_CONNECTIONS)]
        clients[0][1].write(b'{"type":"ping"}\n')
        await within(clients[0][0].readline())
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert b'"code":"overloaded"' in await within(reader.read())
        clients[-1][1].write(b'{"type":"ping"}\n')
        assert b"pong" in await within(clients[-1][0].readline())
        for _, each in [*clients, (reader, writer)]:
            each.close()


async def test_no_port_is_opened_by_default() -> None:
    """The protocol has no keys."""
    async with wyoming_server(FakeScheduler(), Config()) as port:
        assert port == 0


async def test_a_taken_port_is_named_with_its_key() -> None:
    """The error names the configuration key."""
    async with serving(FakeScheduler()) as port:
        config = Config(wyoming=WyomingConfig(port=port))
        with pytest.raises(StreamerError, match=f"wyoming.port {port} on 127.0.0.1 is in use: .*; stop "):
            async with wyoming_server(FakeScheduler(), config):
                pass
