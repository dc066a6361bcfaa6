"""A real nginx with TLS in front of the real daemon, under a path, with the site that docs/operations.md shows."""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

import httpx
import numpy as np
import pytest
import pytest_asyncio
import trustme
from websockets.asyncio.client import connect as connect_socket
from websockets.exceptions import InvalidStatus

from streamer.client import Start, TurnEnd, connect
from tests.helpers.daemon_process import CHUNK, DaemonProcess, daemon_process, word_errors
from tests.helpers.nginx import needs_nginx, nginx
from tests.helpers.recordings import Recording

pytestmark = [needs_nginx, pytest.mark.asyncio(loop_scope="session")]
DAEMON = {
    "STREAMER_SERVER_TRUSTED_PROXIES": '["127.0.0.1"]',
    "STREAMER_SERVER_ALLOWED_ORIGINS": "https://captions.example",
    "STREAMER_SERVER_ROOMS": "true",
    "STREAMER_LIMITS_HANDSHAKES_PER_S": "0.1",  # one in ten seconds
}


@dataclass(frozen=True)
class Proxied:
    """The daemon behind nginx, and how it is reached."""

    daemon: DaemonProcess
    port: int
    tls: ssl.SSLContext
    authority: Path
    """PEM file of the authority that issued the certificate."""

    def url(self, path: str, scheme: str = "https") -> str:
        """Address of a path."""
        return f"{scheme}://localhost:{self.port}/captions/{path}"

    def client(self, address: str = "127.0.0.1") -> httpx.AsyncClient:
        """An HTTP client at an address of this machine."""
        transport = httpx.AsyncHTTPTransport(verify=self.tls, local_address=address)
        return httpx.AsyncClient(transport=transport, timeout=60)

    async def refusal(self, address: str, **headers: str) -> int:
        """HTTP status with which a WebSocket of an address is refused; 101: it is not."""
        socket = connect_socket(
            self.url("v1/captions", "wss").replace("localhost", "127.0.0.1"),
            ssl=self.tls,
            proxy=None,
            local_addr=(address, 0),
            additional_headers=headers,
        )
        try:
            async with socket:
                return 101
        except InvalidStatus as refused:
            return refused.response.status_code


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def proxied(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Proxied]:
    """Ready, with tiny.en."""
    folder, authority = tmp_path_factory.mktemp("proxy"), trustme.CA()
    authority.cert_pem.write_to_path(folder / "authority.pem")
    tls = ssl.create_default_context()
    authority.configure_trust(tls)
    async with (
        daemon_process(folder, **DAEMON) as daemon,
        nginx(folder, f"127.0.0.1:{daemon.port}", authority) as port,
    ):
        yield Proxied(daemon, port, tls, folder / "authority.pem")


def pcm(recording: Recording) -> list[bytes]:
    """16-bit blocks of 0.1 s."""
    samples = (np.clip(recording.samples, -1, 1) * 32767).astype("<i2")
    return [samples[at : at + CHUNK].tobytes() for at in range(0, len(samples), CHUNK)]


@pytest.mark.parametrize("page", ["", "overlay", "overlay/options", "watch", "watch/stage"])
async def test_pages_and_all_that_they_load_come_through(proxied: Proxied, page: str) -> None:
    """Each from under the path of the proxy."""
    async with proxied.client() as client:
        text = (await client.get(proxied.url(page))).raise_for_status().text
        for name in re.findall(r'(?:href|src)="([^"#]+)"', text):
            there = urljoin(proxied.url(page), name)
            assert there.startswith(proxied.url("pages/"))
            assert (await client.get(there)).status_code == 200


async def test_speech_comes_back_as_captions(
    proxied: Proxied, recordings: dict[str, Recording], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over TLS and the path, by the client of this project, and to a viewer of its room by server-sent events."""
    monkeypatch.setenv("SSL_CERT_FILE", str(proxied.authority))
    spoken = recordings["dev-jfk"]
    async with (
        connect(proxied.url("?room=stage", "wss"), Start(language="en", words=False)) as captions,
        proxied.client() as viewer,
        viewer.stream("GET", proxied.url("v1/watch/stage")) as watched,
    ):
        events = captions.transcribe(pcm(spoken))
        turns = [event.text async for event in events if isinstance(event, TurnEnd)]
        heard = ""
        async for chunk in watched.aiter_text():  # nginx passes each event on as it comes
            heard += chunk
            if turns[-1] in heard:
                break
    assert word_errors(spoken.text, " ".join(turns)) <= 0.1


async def test_a_recording_is_posted_through_it(proxied: Proxied) -> None:
    """With the path in the base address, as OpenAI's libraries take it."""
    file = Path(__file__).parent.parent / "data" / "dev-jfk.flac"
    async with proxied.client("127.0.0.5") as client:
        answer = await client.post(
            proxied.url("v1/audio/transcriptions"), files={"file": file.read_bytes()}, data={"model": "any"}
        )
    assert "your country" in answer.json()["text"].lower()


async def test_the_log_names_the_client_of_a_session(proxied: Proxied) -> None:
    """Not the proxy."""
    address, local = proxied.url("v1/captions", "wss").replace("localhost", "127.0.0.1"), ("127.0.0.6", 0)
    async with connect_socket(address, ssl=proxied.tls, proxy=None, local_addr=local) as socket:
        await socket.send('{"type":"start"}')
        while '"started"' not in str(await socket.recv()):
            pass
    opened = [line for line in proxied.daemon.log.read_text().splitlines() if "session_opened" in line]
    assert '"address": "127.0.0.6"' in opened[-1]


async def test_limits_count_the_clients_of_the_proxy(proxied: Proxied) -> None:
    """Each by its own address; what a client writes into the header gives it no other one, and the log names it."""
    spoofed = {"X-Forwarded-For": "192.0.2.77"}
    assert [await proxied.refusal("127.0.0.2", **spoofed) for _ in range(3)] == [101, 429, 429]
    assert await proxied.refusal("127.0.0.2", Forwarded="for=192.0.2.78") == 429
    assert await proxied.refusal("127.0.0.3") == 101
    refused = [line for line in proxied.daemon.log.read_text().splitlines() if "connection_refused" in line]
    assert refused
    assert all('"address": "127.0.0.2"' in line for line in refused)


async def test_pages_of_other_sites_are_refused_and_those_allowed_may_import_the_client(proxied: Proxied) -> None:
    """By the origin that the browser tells."""
    async with proxied.client() as client:
        module = proxied.url("pages/client.js")
        allowed = await client.get(module, headers={"Origin": "https://captions.example"})
        own = await client.get(module, headers={"Origin": f"https://localhost:{proxied.port}"})
        foreign = await client.get(module, headers={"Origin": "https://evil.example"})
    assert [allowed.status_code, own.status_code, foreign.status_code] == [200, 200, 403]
    assert allowed.headers["access-control-allow-origin"] == "https://captions.example"


async def test_a_path_that_is_kept_and_a_unix_socket(tmp_path: Path) -> None:
    """`server.root_path`, and nginx on the daemon's Unix socket."""
    authority, path = trustme.CA(), tmp_path / "daemon.sock"
    tls = ssl.create_default_context()
    authority.configure_trust(tls)
    places = {"STREAMER_SERVER_HOST": f"unix:{path}", "STREAMER_SERVER_ROOT_PATH": "/captions"}
    proxies = {"STREAMER_SERVER_TRUSTED_PROXIES": "unix", "STREAMER_LIMITS_HANDSHAKES_PER_S": "0.1"}
    async with daemon_process(tmp_path, socket=path, **places, **proxies) as daemon:
        async with nginx(tmp_path, f"unix:{path}:", authority, keeps_path=True) as port:
            proxied = Proxied(daemon, port, tls, path)
            async with proxied.client() as client:
                assert (await client.get(proxied.url("pages/client.js"))).status_code == 200
                assert (await client.get(proxied.url("healthz"))).text == "ok\n"
            assert [await proxied.refusal("127.0.0.2") for _ in range(2)] == [101, 429]
            assert await proxied.refusal("127.0.0.3") == 101
        daemon.terminate()
        assert await daemon.exit_code() == 0
    assert not path.exists()
