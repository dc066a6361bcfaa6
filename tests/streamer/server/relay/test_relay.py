"""Tests of streamer/server/relay/relay.py over loopback sockets, with scripted sessions."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator

import av
import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from streamer.config import Config, LimitsConfig, ServerConfig
from streamer.errors import EngineError
from streamer.protocol.options import PAUSE_MS, SessionOptions
from tests.helpers.fake_scheduler import FakeScheduler, script_of
from tests.helpers.http_daemon import SECOND, Daemon, Message, closing, receive, receive_until, serving, within
from tests.helpers.live_recordings import recording
from tests.helpers.relayed_clients import listen, vosk
from tests.helpers.webm import recorded

TEXT = "so the first thing"


@pytest.fixture
async def daemon() -> AsyncIterator[Daemon]:
    """A server whose sessions say one turn."""
    async with serving(scheduler=FakeScheduler(script_of([TEXT]))) as running:
        yield running


async def close_stream(client: ClientConnection) -> list[Message]:
    """Ask for the end: everything up to it."""
    await client.send('{"type":"CloseStream"}')
    messages, code = await closing(client)
    assert code == 1000
    return messages


class TestDeepgram:
    """`/v1/listen`."""

    async def test_a_whole_stream_is_captioned_to_its_end(self, daemon: Daemon) -> None:
        """Results as audio comes, the summary, close 1000; the session got every sample."""
        async with listen(daemon, "&interim_results=true&keyterm=Ray") as client:
            await client.send(SECOND * 3)
            messages = await close_stream(client)
        assert messages[-1]["type"] == "Metadata"
        finals = [message for message in messages if message["type"] == "Results" and message["is_final"]]
        assert [final["channel"]["alternatives"][0]["transcript"] for final in finals] == [TEXT]
        [stream] = daemon.scheduler.streams
        assert (stream.received_s, stream.options.keyterms) == (3.0, ("Ray",))

    @pytest.mark.parametrize(
        ("query", "configured_ms", "endpoint_ms"),
        [("", None, PAUSE_MS), ("", 900, 900), ("&endpointing=300", 900, 300), ("&endpointing=300", None, 300)],
    )
    async def test_an_utterance_ends_at_a_pause(self, query: str, configured_ms: int | None, endpoint_ms: int) -> None:
        """Of the length that the client names, else the configuration, else of half a second: not at a sentence."""
        config = Config(session=SessionOptions(endpoint_ms=configured_ms))
        async with (
            serving(config, scheduler=FakeScheduler(script_of([TEXT]))) as daemon,
            listen(daemon, query) as client,
        ):
            await client.send(SECOND)
            await close_stream(client)
        assert daemon.scheduler.streams[0].options.endpoint_ms == endpoint_ms

    async def test_finalize_and_configure_are_answered(self, daemon: Daemon) -> None:
        """Both are answered, and the session is told."""
        async with listen(daemon) as client:
            await client.send('{"type":"Finalize"}')
            assert (await receive(client))["from_finalize"]
            await client.send('{"type":"Configure","keyterms":["Ray"]}')
            assert (await receive(client))["type"] == "ConfigureSuccess"
            await client.send('{"type":"KeepAlive"}')
            await client.send("nonsense")
            assert (await receive(client))["variant"] == "SchemaError"
            assert (await close_stream(client))[-1]["type"] == "Metadata"
        assert daemon.scheduler.streams[0].updates[0].keyterms == ("Ray",)

    async def test_each_channel_has_a_session(self, daemon: Daemon) -> None:
        """It gets the samples of its channel; the end waits for all of them."""
        async with listen(daemon, "&channels=2&multichannel=true") as client:
            stereo = np.tile(np.array([1000, -2000], "<i2"), 16_000)
            await client.send(stereo.tobytes())
            messages = await close_stream(client)
        indices = [message["channel_index"] for message in messages if message["type"] == "Results"]
        assert sorted(indices) == [[0, 2], [1, 2]]
        assert messages[-1]["channels"] == 2
        for stream, value in zip(daemon.scheduler.streams, (1000, -2000), strict=True):
            assert np.array_equal(np.concatenate(stream.samples), np.full(16_000, value, np.float32) / 32768)

    async def test_audio_of_an_unknown_format_is_refused(self, daemon: Daemon) -> None:
        """Audio that does not say what it is: the client is told, and nothing was opened."""
        async with daemon.connect("/v1/listen?model=nova-3", subprotocols=None) as client:
            await client.send(b"OggS" * 2000)
            messages, code = await closing(client)
        assert "neither wav nor webm" in messages[0]["description"]
        assert code == 1008
        assert daemon.scheduler.streams == []

    @pytest.mark.parametrize("name", ["wav 8 bit", "ogg opus", "mp3", "aac", "flac", "fragmented mp4", "webm opus"])
    async def test_every_container_is_transcribed(self, daemon: Daemon, name: str) -> None:
        """As files are, without an `encoding`, in messages of which the first is one byte; twice on one connection."""
        data = recording(name, np.zeros(16_000, np.float32))
        async with daemon.connect("/v1/listen?model=nova-3", subprotocols=None) as client:
            for _ in range(2):
                await client.send(data[:1])
                for at in range(1, len(data), 3000):
                    await client.send(data[at : at + 3000])
            await close_stream(client)
        assert daemon.scheduler.streams[0].received_s == pytest.approx(2.0, abs=0.2)

    async def test_opus_packets_are_transcribed(self, daemon: Daemon) -> None:
        """`encoding=opus`, one packet a message."""
        with av.open(io.BytesIO(recording("ogg opus", np.zeros(16_000, np.float32)))) as file:
            packets = [bytes(packet) for packet in file.demux(audio=0) if packet.size]
        path = "/v1/listen?model=nova-3&encoding=opus&sample_rate=48000&channels=2"
        async with daemon.connect(path, subprotocols=None) as client:
            for packet in packets:
                await client.send(packet)
            await close_stream(client)
        assert daemon.scheduler.streams[0].received_s == pytest.approx(1.0, abs=0.1)

    async def test_an_error_in_the_sound_takes_no_text_back(self, daemon: Daemon) -> None:
        """What was heard before it is delivered, then the error."""
        async with daemon.connect("/v1/listen?model=nova-3", subprotocols=None) as client:
            await client.send(recording("webm opus", np.zeros(32_000, np.float32)))
            for _ in range(11):  # less is passed over as damage
                await client.send(bytes(100_000))
            messages, code = await closing(client)
        assert [message["type"] for message in messages] == ["Results", "Error"]
        assert messages[0]["channel"]["alternatives"][0]["transcript"] == TEXT
        assert code == 1011

    async def test_a_recording_of_a_browser_is_transcribed(self, daemon: Daemon) -> None:
        """MediaRecorder's chunks, as Deepgram's browser examples send them."""
        recording = recorded(np.zeros(2 * 48_000, np.float32))
        async with daemon.connect("/v1/listen?model=nova-3", subprotocols=None) as client:
            for at in range(0, len(recording), 1000):
                await client.send(recording[at : at + 1000])
            await close_stream(client)
        assert daemon.scheduler.streams[0].received_s == pytest.approx(2.0, abs=0.1)


class TestVosk:
    """`/vosk`."""

    @pytest.mark.parametrize("path", ["/vosk", "/"])
    async def test_a_whole_stream_is_captioned_to_its_end(self, daemon: Daemon, path: str) -> None:
        """One answer to each chunk, the last text, close 1000; `words: 0` as vosk-server's sample sends it."""
        answers = []
        async with vosk(daemon, path) as client:
            await client.send('{"config" : \n { "phrase_list" : ["one two"], "sample_rate" : 8000, "words" : 0}}')
            for _ in range(6):
                await client.send(bytes(8000))
                answers.append(await receive_any(client))
            await client.send('{"eof" : 1}')
            answers.append(await receive_any(client))
            with pytest.raises(ConnectionClosed):
                await receive_any(client)
            assert client.close_code == 1000
        assert len(answers) == 7
        assert not any("result" in answer for answer in answers)
        assert " ".join(answer["text"] for answer in answers if answer.get("text")) == TEXT
        # the resampler holds back a few samples until the end
        assert daemon.scheduler.streams[0].received_s == pytest.approx(3.0)

    async def test_a_client_that_names_no_rate_sends_8_khz(self, daemon: Daemon) -> None:
        """As with vosk-server."""
        async with vosk(daemon) as client:
            await client.send(bytes(16_000))
            assert await receive_any(client) == {"partial": ""}
            await client.send('{"eof" : 1}')
            await closing_of_vosk(client)
        assert daemon.scheduler.streams[0].received_s == pytest.approx(1.0)

    async def test_a_refused_config_closes_with_the_reason(self, daemon: Daemon) -> None:
        """In the close frame."""
        async with vosk(daemon) as client:
            await client.send('{"config":{"sample_rate":1}}')
            with pytest.raises(ConnectionClosed):
                await receive_any(client)
            assert client.close_code == 1008
            assert client.close_reason == "sample_rate 1: expected a number from 8000 to 48000"

    async def test_a_full_daemon_closes_with_1013(self) -> None:
        """At the first audio."""
        async with serving(scheduler=FakeScheduler(max_sessions=0)) as daemon, vosk(daemon) as client:
            await client.send(SECOND)
            assert (await closing(client))[1] == 1013
            assert "0 of 0" in str(client.close_reason)


async def closing_of_vosk(client: ClientConnection) -> None:
    """Read until the server closes."""
    while client.close_code is None:
        with contextlib.suppress(ConnectionClosed):
            await receive_any(client)


async def receive_any(client: ClientConnection) -> Message:
    """The next message; Vosk's have no type."""
    async with asyncio.timeout(120):
        message: Message = json.loads(await client.recv())
        return message


class TestLeaving:
    """All the ways in which a connection ends."""

    async def test_a_client_that_vanishes_has_its_sessions_ended(self, daemon: Daemon) -> None:
        """The sessions end, and nobody is left to read them."""
        async with listen(daemon) as client:
            await client.send(SECOND)
            stream = await within(daemon.scheduler.wait_stream())
            client.transport.abort()
        await within(stream.detached.wait())
        assert stream.has_ended

    async def test_a_daemon_that_stops_delivers_the_text_so_far(self, daemon: Daemon) -> None:
        """Then it closes with 1012: come back."""
        async with listen(daemon) as client:
            await client.send(SECOND * 2)
            await within((await daemon.scheduler.wait_stream()).fed.wait())
            await daemon.scheduler.drain(1.0)
            messages, code = await closing(client)
        assert [message["type"] for message in messages] == ["Results", "Metadata"]
        assert code == 1012

    async def test_a_silent_client_gets_its_tail_and_the_reason(self) -> None:
        """The reason stands in the close frame."""
        config = Config(server=ServerConfig(port=0, idle_s=1.0))
        async with serving(config, FakeScheduler(script_of([TEXT]))) as daemon, listen(daemon) as client:
            messages, code = await closing(client)
        assert messages[-1]["type"] == "Metadata"
        assert (code, client.close_reason) == (1011, "no audio and no message for 1 s")

    async def test_silence_before_any_audio_closes_too(self) -> None:
        """No session was opened yet."""
        config = Config(server=ServerConfig(port=0, idle_s=1.0))
        async with serving(config) as daemon, vosk(daemon) as client:
            assert await closing(client) == ([], 1011)

    async def test_an_old_connection_ends_as_at_a_restart(self) -> None:
        """With 1012: come back."""
        config = Config(server=ServerConfig(port=0), limits=LimitsConfig(max_connection_s=1.0))
        async with serving(config) as daemon, listen(daemon) as client:
            messages, code = await closing(client)
        assert ([message["type"] for message in messages], code) == (["Metadata"], 1012)

    async def test_a_failed_session_is_told_in_the_words_of_the_dialect(self, daemon: Daemon) -> None:
        """Then the connection closes with 1011."""
        async with listen(daemon) as client:
            stream = await within(daemon.scheduler.wait_stream())
            stream.say(EngineError("broken"))
            messages, code = await closing(client)
        assert messages[-1]["description"] == "broken"
        assert code == 1011

    async def test_frames_after_the_end_are_dropped(self, daemon: Daemon) -> None:
        """The text that is owed still comes."""
        async with listen(daemon) as client:
            await client.send('{"type":"CloseStream"}')
            await client.send(SECOND)
            assert (await receive_until(client, "Metadata"))[-1]["duration"] == 0.0
