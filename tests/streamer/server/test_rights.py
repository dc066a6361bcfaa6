"""Who may do what: every caller on every path of the application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec
import pytest
from prometheus_client import CollectorRegistry
from starlette.routing import Mount, Route, WebSocketRoute
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from streamer.access.keys import Keys, Right
from streamer.config import ServerConfig
from streamer.server.app import build_app
from streamer.server.connection import Connections
from tests.helpers.fake_scheduler import FakeScheduler
from tests.helpers.http_daemon import CONFIG, Daemon, serving

SPEAK, WATCH, STATE, ISSUE = Right.SPEAK, Right.WATCH, Right.STATE, Right.ISSUE
PATHS: dict[tuple[str, str], Right | None] = {
    ("WS", "/v1/captions"): SPEAK,
    ("WS", "/v1/listen"): SPEAK,
    ("WS", "/v1/realtime"): SPEAK,
    ("WS", "/vosk"): SPEAK,
    ("WS", "/"): SPEAK,
    ("WS", "/v1/watch"): WATCH,
    ("WS", "/v1/watch/{room}"): WATCH,
    ("GET", "/v1/watch/{room}"): WATCH,
    ("POST", "/v1/audio/transcriptions"): SPEAK,
    ("POST", "/v1/audio/translations"): SPEAK,
    ("GET", "/v1/models"): SPEAK,
    ("GET", "/v1/models/{name:path}"): SPEAK,
    ("POST", "/v1/tokens"): ISSUE,
    ("POST", "/v1/realtime/client_secrets"): ISSUE,
    ("POST", "/v1/realtime/transcription_sessions"): ISSUE,
    ("GET", "/metrics"): STATE,
    ("GET", "/statz"): STATE,
    ("GET", "/v1/captions/schema.json"): None,
    ("GET", "/healthz"): None,
    ("GET", "/readyz"): None,
    ("GET", "/info"): None,
    ("GET", "/"): None,
    ("GET", "/overlay"): None,
    ("GET", "/overlay/options"): None,
    ("GET", "/watch"): None,
    ("GET", "/watch/{room}"): None,
    ("GET", "/pages/{name}"): None,
}
"""Every path, and the right that it needs; None: it is open to everybody."""
FULL, VIEWER, STATISTICIAN = "0123456789abcdef-full", "0123456789abcdef-watch", "0123456789abcdef-state"
RIGHTS: dict[str, frozenset[Right]] = {
    "no key": frozenset(),
    "wrong key": frozenset(),
    "expired token": frozenset(),
    "key": frozenset(Right),
    "viewer key": frozenset((WATCH, ISSUE)),
    "state key": frozenset((STATE,)),
    "page token": frozenset((SPEAK, WATCH)),
    "token of a viewer key": frozenset((WATCH,)),
}
"""What each caller may do. A client secret is tried apart, for it opens one path alone."""


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    """A server with a key of each kind."""
    (tmp_path / "keys").write_text(f"kitchen {FULL}\nscreen {VIEWER} watch\nprometheus {STATISTICIAN} state\n")
    config = msgspec.structs.replace(CONFIG, server=msgspec.structs.replace(CONFIG.server, rooms=True))
    async with serving(config, keys=Keys(tmp_path / "keys")) as running:
        yield running


async def shown(daemon: Daemon, caller: str) -> str | None:
    """The key or token that a caller shows."""
    match caller:
        case "no key":
            return None
        case "wrong key":
            return "0123456789abcdef-wrong"
        case "expired token":
            return "t.kitchen.1000000000." + "A" * 43
        case "page token" | "token of a viewer key":
            key = FULL if caller == "page token" else VIEWER
            answer = await post(daemon, "/v1/tokens", key)
            return str(answer.json()["token"])
    return {"key": FULL, "viewer key": VIEWER, "state key": STATISTICIAN}[caller]


def headers_of(key: str | None) -> dict[str, str]:
    """As a program shows a key: every protocol takes this header."""
    return {} if key is None else {"Authorization": f"Bearer {key}"}


async def post(daemon: Daemon, path: str, key: str | None, **headers: str) -> httpx.Response:
    """The answer to a POST without a body."""
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.post(daemon.url(path), headers={**headers_of(key), **headers})


async def status(daemon: Daemon, method: str, path: str, key: str | None, **headers: str) -> int:
    """The status of an answer; 101: the WebSocket is accepted."""
    path = path.replace("{room}", "studio").replace("{name:path}", "fake").replace("{name}", "live.js")
    if method == "WS":
        query = "?encoding=mulaw" if path == "/v1/listen" else ""
        name = headers.pop("Host", "127.0.0.1")
        url = f"ws://{name}:{daemon.port}{path}{query}"
        try:
            async with connect(url, host="127.0.0.1", additional_headers={**headers_of(key), **headers}, proxy=None):
                return 101
        except InvalidStatus as refused:
            return refused.response.status_code
    async with (
        httpx.AsyncClient(trust_env=False) as client,
        client.stream(method, daemon.url(path), headers={**headers_of(key), **headers}) as answer,
    ):
        return answer.status_code


def test_the_table_names_every_path() -> None:
    """A new path has to say what right it needs."""
    found = set()
    app = build_app(FakeScheduler(), CONFIG, CollectorRegistry(), keys=Keys(), connections=Connections())
    for route in app.routes:
        if isinstance(route, WebSocketRoute):
            found.add(("WS", route.path))
        elif isinstance(route, Mount):
            found.add(("GET", route.path))
        elif isinstance(route, Route):
            found |= {(method, route.path) for method in route.methods or () if method != "HEAD"}

    assert found - {("WS", "/{path:path}")} == set(PATHS)


@pytest.mark.parametrize("caller", RIGHTS)
async def test_each_caller_gets_what_its_rights_say(daemon: Daemon, caller: str) -> None:
    """On every path: 401 where no valid key was shown, 403 where it lacks the right, else whatever the path answers."""
    key = await shown(daemon, caller)
    found, expected = {}, {}
    for (method, path), right in PATHS.items():
        is_allowed = right is None or right in RIGHTS[caller]
        expected[method, path] = "in" if is_allowed else "forbidden" if RIGHTS[caller] else "unauthorized"
        code = await status(daemon, method, path, key)
        found[method, path] = {401: "unauthorized", 403: "forbidden"}.get(code, "in")

    assert found == expected


async def test_a_client_secret_opens_one_path_alone(daemon: Daemon) -> None:
    """It stands for its caller on `/v1/realtime`, and is an unknown key everywhere else."""
    answer = await post(daemon, "/v1/realtime/client_secrets", FULL)
    secret = str(answer.json()["value"])

    for (method, path), right in PATHS.items():
        code = await status(daemon, method, path, secret)
        if path == "/v1/realtime":
            assert code == 101
        elif right is not None:
            assert code == 401, path


async def test_a_secret_lives_no_longer_than_a_token(daemon: Daemon) -> None:
    """However long a lifetime is asked for."""
    token = (await post(daemon, "/v1/tokens", FULL)).json()
    async with httpx.AsyncClient(trust_env=False) as client:
        asked = {"expires_after": {"anchor": "created_at", "seconds": 7200}}
        url = daemon.url("/v1/realtime/client_secrets")
        secret = (await client.post(url, json=asked, headers=headers_of(FULL))).json()

    assert abs(secret["expires_at"] - token["expires_at"]) <= 2


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"},
        {"Host": "evil.example"},
        {"Host": "evil.example", "Origin": "http://evil.example"},
    ],
    ids=str,
)
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
async def test_a_page_of_another_site_gets_nothing_of_a_daemon_without_keys(headers: dict[str, str], host: str) -> None:
    """Whether it posts, opens a WebSocket, or reads; and whether or not it has its own name point here."""
    server = ServerConfig(port=0, host=host, rooms=True, allow_without_keys=True)
    async with serving(msgspec.structs.replace(CONFIG, server=server)) as daemon:
        codes = {(method, path): await status(daemon, method, path, None, **headers) for method, path in PATHS}

    assert set(codes.values()) == {403}


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Host": "evil.example"}], ids=str)
async def test_a_page_of_another_site_gets_nothing_with_a_key_either(daemon: Daemon, headers: dict[str, str]) -> None:
    """Whatever it has of its visitor: a key that a page holds is of use on the daemon's own pages alone."""
    codes = {(method, path): await status(daemon, method, path, FULL, **headers) for method, path in PATHS}

    assert set(codes.values()) == {403}


@pytest.mark.parametrize("name", ["localhost", "192.0.2.7", "[2001:db8::7]", "captions", "box.local", "box.lan"])
async def test_names_that_no_stranger_can_own_are_served_on_a_network(name: str) -> None:
    """Of a container, of a home, and addresses: no page of the internet can be behind them."""
    server = ServerConfig(port=0, host="0.0.0.0", allow_without_keys=True)
    async with serving(msgspec.structs.replace(CONFIG, server=server)) as daemon:
        assert await status(daemon, "GET", "/info", None, Host=name) == 200


async def test_a_link_from_another_site_may_be_clicked(daemon: Daemon) -> None:
    """A page is shown; only what a foreign page does by itself is refused."""
    clicked = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert await status(daemon, "GET", "/", None, **clicked) == 200
    assert await status(daemon, "POST", "/v1/tokens", FULL, **clicked) == 403
