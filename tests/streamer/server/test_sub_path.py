"""Tests of streamer/server/sub_path.py: the daemon under a path of a proxy, which removes it or leaves it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from urllib.parse import urljoin

import httpx
import msgspec
import pytest

from streamer.client import Start, connect
from streamer.config import ServerConfig
from tests.helpers.fake_scheduler import FakeScheduler
from tests.helpers.http_daemon import CONFIG, Daemon, receive, serving

PAGES = ("", "overlay", "overlay/options", "watch", "watch/stage")


@pytest.fixture(params=["/captions", "captions/", "/a/b"])
async def daemon(request: pytest.FixtureRequest) -> AsyncIterator[Daemon]:
    """Under a path, which is configured in different ways."""
    server = ServerConfig(port=0, root_path=request.param, rooms=True)
    async with serving(msgspec.structs.replace(CONFIG, server=server), FakeScheduler()) as running:
        yield running


def root_of(daemon: Daemon, request: pytest.FixtureRequest) -> str:
    """The path, as it stands in an address."""
    return "/" + request.node.callspec.params["daemon"].strip("/")


async def test_paths_are_served_with_the_root_path_and_without(daemon: Daemon, request: pytest.FixtureRequest) -> None:
    """A proxy may remove it or leave it, and a monitor asks the daemon itself."""
    root = root_of(daemon, request)
    assert [(await daemon.get(f"{root}{path}")).status_code for path in ("/healthz", "/", "/watch/x")] == [200] * 3
    assert (await daemon.get("/healthz")).status_code == 200
    assert (await daemon.get(f"{root}x/healthz")).status_code == 404


async def test_sockets_are_under_the_root_path_too(daemon: Daemon, request: pytest.FixtureRequest) -> None:
    """Also for the Python client, which completes an address that has a path."""
    root = root_of(daemon, request)
    async with daemon.connect(f"{root}/v1/captions") as socket:
        assert (await receive(socket))["type"] == "hello"
    for address in (daemon.url(root, "ws"), daemon.url(f"{root}/?room=stage", "ws")):
        async with connect(address, Start(language="en")) as captions:
            await captions.end()


async def test_the_root_path_without_its_slash_leads_to_the_page(
    daemon: Daemon, request: pytest.FixtureRequest
) -> None:
    """By a redirect that is relative, since a browser knows other names than the daemon."""
    root = root_of(daemon, request)
    for asked, there in ((root, f"{root}/"), (f"{root}?a=1", f"{root}/?a=1")):
        response = await daemon.get(asked)
        assert urljoin(f"https://captions.example{asked}", response.headers["location"]).endswith(f"example{there}")


@pytest.mark.parametrize("page", PAGES)
async def test_a_page_loads_its_files_from_wherever_it_is(page: str) -> None:
    """Every file that a page names is found beside it, under whatever path a browser has got it."""
    async with serving() as daemon:
        text = (await daemon.get(f"/{page}")).text
        named = re.findall(r'(?:href|src)="([^"#]+)"', text)
        under = [urljoin(f"https://captions.example/a/b/{page}", name) for name in named]
        assert len(named) >= 3
        assert all(address.startswith("https://captions.example/a/b/pages/") for address in under)
        for address in under:
            assert (await daemon.get(address.removeprefix("https://captions.example/a/b"))).status_code == 200


async def test_a_slash_too_much_is_taken_off() -> None:
    """By a relative redirect that keeps the query."""
    async with serving() as daemon, httpx.AsyncClient(trust_env=False) as client:
        for path, there in (
            ("/overlay/?size=40", "/overlay?size=40"),
            ("/watch/stage/", "/watch/stage"),
            ("/info/", "/info"),
        ):
            response = await client.get(daemon.url(path))
            assert urljoin(daemon.url(path), response.headers["location"]) == daemon.url(there)
        assert (await client.get(daemon.url("/nowhere/"))).status_code == 404
