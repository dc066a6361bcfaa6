"""The pages behind a real nginx, with TLS and under a path, in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme
from playwright.async_api import Browser, expect

from streamer.config import Config, ServerConfig
from tests.browser.conftest import open_page
from tests.helpers.fake_scheduler import FakeScheduler, script_of
from tests.helpers.http_daemon import serving
from tests.helpers.nginx import needs_nginx, nginx

pytestmark = [pytest.mark.browser, needs_nginx, pytest.mark.asyncio(loop_scope="session")]

TURNS = ["So the first thing is latency.", "The second thing is that no word is lost."]


@pytest.mark.parametrize("keeps_path", [False, True])
async def test_speaker_and_audience_under_a_path(browser: Browser, tmp_path: Path, keeps_path: bool) -> None:
    """Captions come, and every link leads to a page under the path, whether the proxy removes it or not."""
    root_path = "/captions" if keeps_path else ""
    config = Config(server=ServerConfig(port=0, rooms=True, root_path=root_path))
    async with (
        serving(config, FakeScheduler(script_of(TURNS, word_s=0.1))) as daemon,
        nginx(tmp_path, f"127.0.0.1:{daemon.port}", trustme.CA(), keeps_path=keeps_path) as port,
    ):
        root = f"https://localhost:{port}/captions"
        context = await browser.new_context(permissions=["microphone"], ignore_https_errors=True)
        speaker = await open_page(context, root)
        await speaker.get_by_label("Audience room").fill("stage")
        link = speaker.get_by_role("link", name="Audience:")
        assert await link.get_attribute("href") == f"{root}/watch/stage"
        viewer = await open_page(context, f"{root}/watch/stage")
        await speaker.get_by_role("button", name="Start").click()
        await expect(viewer.locator("#log .said")).to_have_text(TURNS)
        await expect(speaker.locator("#log .said")).to_have_text(TURNS)
        options = await open_page(context, f"{root}/overlay/options")
        await expect(options.locator("#address")).to_have_text(f"{root}/overlay")
        await open_page(context, f"{root}/overlay?room=stage")
