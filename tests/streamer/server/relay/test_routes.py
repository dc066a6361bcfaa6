"""Tests of streamer/server/relay/routes.py: who is let in, and how others are sent away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from benchmarks.hostile.bombs import wav
from streamer.access.keys import Keys
from tests.helpers.fake_scheduler import FakeScheduler
from tests.helpers.http_daemon import SECOND, Daemon, closing, serving, start, within
from tests.helpers.relayed_clients import listen, vosk

KEY = "0123456789abcdef"


@pytest.fixture
async def daemon() -> AsyncIterator[Daemon]:
    """A server for everybody."""
    async with serving() as running:
        yield running


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    """One key."""
    (tmp_path / "keys").write_text(f"box {KEY}\n")
    return Keys(tmp_path / "keys")


class TestDeepgram:
    """`/v1/listen`."""

    async def test_refused_query(self, daemon: Daemon) -> None:
        """A program is told by HTTP, in body and header, before anything was opened."""
        with pytest.raises(InvalidStatus) as refused:
            async with listen(daemon, "&encoding=g729&x=\u00fc"):
                pass
        response = refused.value.response
        assert response.status_code == 400
        body = json.loads(response.body or b"")
        assert body["err_code"] == "INVALID_QUERY_PARAMETER"
        assert body["err_msg"] == response.headers["dg-error"]
        assert body["request_id"] == response.headers["dg-request-id"]
        assert daemon.scheduler.streams == []

    async def test_refused_page(self, daemon: Daemon) -> None:
        """A browser shows its page nothing of an HTTP answer, so the page is told in words."""
        async with listen(daemon, "&channels=0", origin=daemon.url(""), subprotocols=["token", "k"]) as client:
            assert client.subprotocol == "token"
            messages, code = await closing(client)
        assert "channels=0" in messages[0]["description"]
        assert code == 1008

    async def test_keys(self, keys: Keys) -> None:
        """In Deepgram's header or subprotocol; without a good one, 401."""
        async with serving(keys=keys) as daemon:
            for options in (
                {"additional_headers": {"Authorization": f"Token {KEY}"}},
                {"subprotocols": ["token", KEY]},
            ):
                async with listen(daemon, **options) as client:
                    await client.send('{"type":"CloseStream"}')
                    assert (await closing(client))[1] == 1000
            with pytest.raises(InvalidStatus) as refused:
                async with listen(daemon, additional_headers={"Authorization": "Token wrong"}):
                    pass
        assert refused.value.response.status_code == 401
        assert json.loads(refused.value.response.body or b"")["err_code"] == "INVALID_AUTH"

    async def test_no_capacity(self) -> None:
        """503, after which clients try again; of several channels none stays open."""
        async with serving(scheduler=FakeScheduler(max_sessions=1)) as daemon:
            with pytest.raises(InvalidStatus) as refused:
                async with listen(daemon, "&channels=2&multichannel=true"):
                    pass
            assert refused.value.response.status_code == 503
            [first] = daemon.scheduler.streams
            assert first.has_ended


async def test_recordings_without_sound_count_together_on_all_paths(daemon: Daemon) -> None:
    """Whoever sent too many over one protocol waits over another one too; plain samples are heard at once."""
    for _ in range(30):
        async with daemon.connect() as client:
            await start(client, audio={"encoding": "container"})
            await client.send(b"no recording" * 1000)
            assert (await closing(client))[0][-1]["code"] == "bad_audio"
    async with daemon.connect("/v1/listen", subprotocols=None, close_timeout=0.1) as waiting, listen(daemon) as client:
        recorded, plain = daemon.scheduler.streams[-2:]
        await waiting.send(wav(8000, 1, bytes(8000)))
        await client.send(SECOND)
        await within(plain.fed.wait())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await recorded.fed.wait()
        waiting.transport.abort()


class TestVosk:
    """`/vosk`, and `/` for clients that name no path."""

    async def test_a_client_of_another_protocol_is_sent_on(self, daemon: Daemon) -> None:
        """Whoever offers subprotocols does not speak Vosk's, and is told where `captions.v1` is spoken."""
        with pytest.raises(InvalidStatus) as refused:
            await daemon.connect("/")
        assert refused.value.response.status_code == 404
        assert b"/v1/captions" in (refused.value.response.body or b"")

    async def test_keys(self, keys: Keys) -> None:
        """As for the daemon's own protocol."""
        async with serving(keys=keys) as daemon:
            with pytest.raises(InvalidStatus):
                async with vosk(daemon):
                    pass
            async with vosk(daemon, additional_headers={"Authorization": f"Bearer {KEY}"}) as client:
                await client.send('{"eof":1}')
                assert json.loads(await within(client.recv())) == {"text": ""}
