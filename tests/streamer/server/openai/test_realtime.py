"""Tests of streamer.server.openai.realtime over loopback sockets, with scripted sessions."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus

from streamer.access.keys import Keys
from streamer.config import ServerConfig
from streamer.errors import EngineError
from tests.helpers.fake_scheduler import FakeScheduler, script_of
from tests.helpers.http_daemon import CONFIG, Daemon, Message, closing, receive, receive_until, serving, within

COMPLETED = "conversation.item.input_audio_transcription.completed"
PATH = "/v1/realtime?intent=transcription"
KEY = "0123456789abcdef"


@pytest.fixture
async def daemon() -> AsyncIterator[Daemon]:
    """A server whose sessions say one turn."""
    async with serving(scheduler=FakeScheduler(script_of(["so the first thing"]))) as running:
        yield running


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    """One key."""
    path = tmp_path / "keys"
    path.write_text(f"box {KEY}\n")
    return Keys(path)


async def say(client: ClientConnection, type_: str, **fields: Any) -> None:
    await client.send(json.dumps({"type": type_, **fields}))


async def configure(client: ClientConnection, **given: Any) -> Message:
    await say(client, "session.update", session={"type": "transcription", "audio": {"input": given}})
    return (await receive_until(client, "session.updated"))[-1]


async def append(client: ClientConnection, audio: bytes) -> None:
    await say(client, "input_audio_buffer.append", audio=base64.b64encode(audio).decode())


def open_(daemon: Daemon, **options: Any) -> Any:
    return daemon.connect(PATH, **{"subprotocols": None, **options})


class TestConversation:
    """What a well-behaved client sees."""

    async def test_manual_turn(self, daemon: Daemon) -> None:
        """Created, updated, deltas as audio comes, committed and completed; the session is ended when it leaves."""
        async with open_(daemon) as client:
            assert (await receive(client))["type"] == "session.created"
            assert daemon.scheduler.streams == [], "a client that only waits takes no place"
            await configure(client, turn_detection=None, transcription={"language": "de", "keywords": ["Ray"]})
            for _ in range(6):
                await append(client, bytes(24000))
            await receive_until(client, "conversation.item.input_audio_transcription.delta")
            await say(client, "input_audio_buffer.commit")
            messages = await receive_until(client, COMPLETED)

        [stream] = daemon.scheduler.streams
        assert messages[-1]["transcript"] == "so the first thing"
        assert (stream.options.language, stream.options.keyterms) == ("de", ("Ray",))
        await within(stream.detached.wait())
        assert stream.has_ended

    async def test_audio_is_decoded_as_configured(self, daemon: Daemon) -> None:
        """48 kHz reaches the session at 16 kHz, and what the resampler holds too when the format changes."""
        async with open_(daemon) as client:
            await configure(client, format={"type": "audio/pcm", "rate": 48000})
            for _ in range(10):
                await append(client, np.full(4800, 8192, "<i2").tobytes())
            await configure(client, format={"type": "audio/pcmu"})
            await append(client, b"\xff" * 800)
            await say(client, "input_audio_buffer.commit")
            await receive_until(client, COMPLETED)

        first, second = daemon.scheduler.streams
        samples = np.concatenate(first.samples)
        assert len(samples) == 16000
        assert abs(float(samples[8000]) - 0.25) < 1e-3
        assert second.received_s > 1.0, "the second session goes on in stream time"

    async def test_an_event_holds_as_much_audio_as_a_binary_message(self, daemon: Daemon) -> None:
        """Although base64 makes it longer; what is longer still is refused, and the session goes on."""
        most = CONFIG.server.max_frame_bytes
        async with open_(daemon) as client:
            await append(client, bytes(most + most // 4))
            assert (await receive_until(client, "error"))[-1]["error"]["code"] == "event_too_large"
            await append(client, bytes(most))
            await say(client, "input_audio_buffer.commit")
            await receive_until(client, COMPLETED)
        [stream] = daemon.scheduler.streams
        assert stream.received_s == pytest.approx(most / 2 / 24_000, abs=0.1)

    async def test_a_browser_is_answered_its_subprotocol(self, daemon: Daemon) -> None:
        """Or it fails the handshake; the key beside it is never echoed."""
        offered = ["realtime", f"openai-insecure-api-key.{KEY}"]
        async with open_(daemon, subprotocols=offered) as client:
            assert client.subprotocol == "realtime"
            assert (await receive(client))["type"] == "session.created"

    async def test_the_beta_header(self, daemon: Daemon) -> None:
        """The first event is in the beta form already."""
        async with open_(daemon, additional_headers={"OpenAI-Beta": "realtime=v1"}) as client:
            assert (await receive(client))["type"] == "transcription_session.created"


class TestTrouble:
    """Every way to leave."""

    async def test_a_wrong_event_costs_nothing(self, daemon: Daemon) -> None:
        """The connection goes on; one that says nothing else is cut off."""
        async with open_(daemon) as client:
            await client.send("{")
            error = (await receive_until(client, "error"))[-1]["error"]
            assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_json")
            await configure(client)
            for _ in range(60):
                await client.send("{")
            messages, code = await closing(client)
        assert code == 1008
        assert len(messages) == 50

    async def test_a_lost_client_has_its_session_ended(self, daemon: Daemon) -> None:
        """Nobody will come back for it."""
        async with open_(daemon) as client:
            await append(client, bytes(48000))
            stream = await within(daemon.scheduler.wait_stream())
            client.transport.abort()
            await within(stream.detached.wait())
        assert stream.has_ended

    async def test_a_full_daemon(self) -> None:
        """The error says so, and the close code makes OpenAI's clients come back."""
        async with serving(scheduler=FakeScheduler(max_sessions=0)) as daemon, open_(daemon) as client:
            await append(client, bytes(48000))
            messages, code = await closing(client)
        assert messages[-1]["error"]["code"] == "overloaded"
        assert code == 1013

    async def test_a_failed_session(self, daemon: Daemon) -> None:
        """Its item has failed, then the connection ends."""
        async with open_(daemon) as client:
            await configure(client, turn_detection=None)
            await append(client, bytes(48000))
            await append(client, bytes(48000))
            stream = await within(daemon.scheduler.wait_stream())
            await receive_until(client, "conversation.item.input_audio_transcription.delta")
            stream.say(EngineError("three steps failed in a row"))
            messages, code = await closing(client)
        assert [message["type"] for message in messages][-2:] == [
            "conversation.item.input_audio_transcription.failed",
            "error",
        ]
        assert messages[-1]["error"]["message"] == "three steps failed in a row"
        assert code == 1011

    async def test_silence_on_the_wire(self) -> None:
        """Push to talk may be silent for long: it loses its place, not its connection nor its words."""
        config = msgspec.structs.replace(CONFIG, server=ServerConfig(port=0, idle_s=1.0))
        scheduler = FakeScheduler(script_of(["so the first thing"]))
        async with serving(config, scheduler) as daemon, open_(daemon) as client:
            await configure(client, turn_detection=None)
            await append(client, bytes(48000))
            await within(scheduler.wait_stream())
            await within(scheduler.streams[0].detached.wait())
            assert scheduler.streams[0].has_ended
            await say(client, "input_audio_buffer.commit")
            completed = (await receive_until(client, COMPLETED))[-1]
            await append(client, bytes(48000))
            await say(client, "input_audio_buffer.commit")
            await receive_until(client, COMPLETED)
        assert completed["transcript"] == "so the first thing"
        assert len(scheduler.streams) == 2

    async def test_the_daemon_stops(self, daemon: Daemon) -> None:
        """What was heard is completed, and 1012 makes OpenAI's clients come back."""
        async with open_(daemon) as client:
            await configure(client, turn_detection=None)
            await append(client, bytes(48000))
            await append(client, bytes(48000))
            await within(daemon.scheduler.wait_stream())
            await receive_until(client, "conversation.item.input_audio_transcription.delta")
            await daemon.scheduler.drain(1.0)
            messages, code = await closing(client)
        assert messages[-1]["transcript"] == "so the first thing"
        assert code == 1012

    async def test_reading_pauses_while_the_backlog_is_full(self, daemon: Daemon) -> None:
        """Nothing is dropped, and idleness is not held against a client that must wait."""
        async with open_(daemon) as client:
            await append(client, bytes(480))
            stream = await within(daemon.scheduler.wait_stream())
            await within(stream.fed.wait())
            stream.room.clear()
            for _ in range(5):
                await append(client, bytes(48000))
            await say(client, "input_audio_buffer.commit")
            stream.room.set()
            await receive_until(client, COMPLETED)
        assert sum(map(len, stream.samples)) > 4.9 * 16000


class TestKeys:
    """Who is let in."""

    async def test_programs(self, keys: Keys) -> None:
        """By header; refused with HTTP 401 in OpenAI's shape."""
        async with serving(keys=keys) as daemon:
            async with open_(daemon, additional_headers={"Authorization": f"Bearer {KEY}"}) as client:
                assert (await receive(client))["type"] == "session.created"
            with pytest.raises(InvalidStatus) as refused:
                await open_(daemon)
        response = refused.value.response
        assert response.status_code == 401
        assert json.loads(response.body or b"")["error"]["code"] == "invalid_api_key"

    async def test_pages(self, keys: Keys) -> None:
        """By subprotocol; a page sees no HTTP status, so it is told by an event and by the close code."""
        async with serving(keys=keys) as daemon:
            origin: Any = daemon.url("")
            good = ["realtime", f"openai-insecure-api-key.{KEY}"]
            async with open_(daemon, subprotocols=good, origin=origin) as client:
                assert (await receive(client))["type"] == "session.created"
            async with open_(daemon, subprotocols=["realtime"], origin=origin) as client:
                messages, code = await closing(client)
        assert messages[0]["error"]["code"] == "invalid_api_key"
        assert code == 4401

    async def test_client_secrets(self, keys: Keys) -> None:
        """Issued to who shows a key, with the settings of the session; worth nothing elsewhere."""
        session = {"type": "transcription", "audio": {"input": {"turn_detection": None}}}
        async with serving(keys=keys) as daemon, httpx.AsyncClient(base_url=daemon.url(""), trust_env=False) as http:
            path = "/v1/realtime/client_secrets"
            assert (await http.post(path, json={"session": session})).status_code == 401
            http.headers["Authorization"] = f"Bearer {KEY}"
            answer = (await http.post(path, json={"session": session, "expires_after": {"seconds": 60}})).json()
            wrong = await http.post(path, json={"expires_after": {"seconds": 5}})
            http.headers["Authorization"] = f"Bearer {answer['value']}"
            elsewhere = await http.get("/v1/models")
            async with open_(daemon, subprotocols=["realtime", f"openai-insecure-api-key.{answer['value']}"]) as client:
                created = await receive(client)
        assert answer["session"]["audio"]["input"]["turn_detection"] is None
        assert created["session"]["audio"]["input"]["turn_detection"] is None
        assert wrong.json()["error"]["message"] == "expires_after.seconds: expected int >= 10"
        assert elsewhere.status_code == 401

    async def test_beta_secrets_without_keys(self, daemon: Daemon) -> None:
        """A daemon that asks for no keys issues secrets too: they carry settings."""
        async with httpx.AsyncClient(base_url=daemon.url(""), trust_env=False) as http:
            path = "/v1/realtime/transcription_sessions"
            answer = (await http.post(path, json={"input_audio_format": "g711_alaw"})).json()
        secret = answer["client_secret"]["value"]
        async with open_(daemon, subprotocols=["realtime", f"realtime-token.{secret}"]) as client:
            created = await receive(client)
        assert created["session"]["audio"]["input"]["format"]["type"] == "audio/pcma"
