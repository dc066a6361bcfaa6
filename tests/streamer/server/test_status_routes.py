"""Tests of streamer/server/status_routes.py."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import Counter

from streamer.access.keys import Keys
from streamer.protocol.messages import SAMPLE_BYTES
from tests.helpers.fake_scheduler import engine_statistics
from tests.helpers.http_daemon import Daemon, serving

KEY = "kitchen-0123456789abcdef"


@pytest.fixture
async def daemon() -> AsyncIterator[Daemon]:
    """A server with nothing to say."""
    async with serving() as running:
        yield running


async def test_the_daemon_is_alive_at_once_and_ready_later(daemon: Daemon) -> None:
    """Ready when the scheduler says so."""
    assert (await daemon.get("/healthz")).status_code == 200
    assert (await daemon.get("/readyz")).status_code == 200
    daemon.scheduler.ready = False
    assert (await daemon.get("/readyz")).status_code == 503


async def test_a_daemon_whose_engines_are_all_lost_says_so(daemon: Daemon) -> None:
    """Whoever looks at the probe knows where to look next; one engine that is left is enough."""
    daemon.scheduler.ready = False
    daemon.scheduler.engines = (engine_statistics(is_alive=False),) * 2
    assert (await daemon.get("/readyz")).text == "not ready: no engine is alive\n"
    daemon.scheduler.engines = (engine_statistics(is_alive=False), engine_statistics())
    assert (await daemon.get("/readyz")).text == "not ready\n"


async def test_the_given_registry_is_shown(daemon: Daemon) -> None:
    """As Prometheus reads it."""
    Counter("captions_shown", "Captions.", registry=daemon.metrics).inc(3)

    response = await daemon.get("/metrics")

    assert response.headers["content-type"].startswith("text/plain; version=")
    assert "captions_shown_total 3.0" in response.text


async def test_info_tells_a_page_its_choices(daemon: Daemon) -> None:
    """Model, languages, rooms and encodings: compressed sound only where it can be decoded."""
    info = (await daemon.get("/info")).json()

    assert (info["model"], info["languages"], info["language"]) == ("fake", ["en", "de", "fr"], "auto")
    assert info["encodings"] == [*SAMPLE_BYTES, "container", "opus_packets", "webm_opus"]


async def test_info_offers_no_compressed_sound_without_its_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A browser that cannot know the packages of the server is told."""
    monkeypatch.setattr("streamer.audio.opus.find_spec", lambda _: None)

    async with serving() as daemon:
        info = (await daemon.get("/info")).json()

    assert info["encodings"] == [*SAMPLE_BYTES]


async def test_health_is_public_and_use_is_not(tmp_path: Path) -> None:
    """Whether the daemon lives is no secret; how it is used is."""
    (tmp_path / "keys").write_text(f"kitchen {KEY}\n")
    async with serving(keys=Keys(tmp_path / "keys")) as daemon:
        for path in ("/", "/healthz", "/readyz", "/info"):
            assert (await daemon.get(path)).status_code == 200
        for path in ("/metrics", "/statz"):
            assert (await daemon.get(path)).status_code == 401
            assert (await daemon.get(path, Authorization=f"Bearer {KEY}")).status_code == 200
