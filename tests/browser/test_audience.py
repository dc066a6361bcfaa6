"""The pages of an audience in a real browser: a room that is followed, and the overlay."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import expect

from streamer.config import Config, ServerConfig
from streamer.server.rooms.room import Room
from tests.browser.conftest import OpenChromium, open_page
from tests.helpers.fake_scheduler import FakeScheduler, script_of
from tests.helpers.http_daemon import serving

pytestmark = pytest.mark.browser

TURNS = ["So the first thing is latency.", "The second thing is that no word is lost."]
CONFIG = Config(server=ServerConfig(port=0, rooms=True))


async def test_an_audience_follows_a_speaker(chromium: OpenChromium, murmur: Path) -> None:
    """Who is there before, who comes late, and after a restart of the server."""
    browser = await chromium(murmur)
    context = await browser.new_context(permissions=["microphone"])
    async with serving(CONFIG, FakeScheduler(script_of(TURNS))) as daemon:
        early = await open_page(context, daemon.url("/watch/stage"))
        await expect(early.locator("#status")).to_have_text("Nobody is speaking yet")
        speaker = await open_page(context, daemon.url("/"))
        await speaker.get_by_label("Audience room").fill("stage")
        async with context.expect_page() as opened:
            await speaker.get_by_role("link", name="Audience:").click()
        late = await opened.value
        await speaker.get_by_role("button", name="Start").click()
        await expect(early.locator("#status")).to_have_text("Live")
        await expect(early.locator("#stage .partial")).to_be_visible()
        await expect(early.locator("#log")).to_contain_text(TURNS[1], timeout=20_000)
        await late.reload()
        await expect(late.locator("#log .turn")).to_have_count(2)
        assert await early.locator("#stage").get_attribute("aria-live") == "off"
        assert await early.get_by_role("log").locator(".partial").count() == 0
        await speaker.get_by_role("button", name="Stop").click()
        await expect(early.locator("#status")).to_have_text("Nobody is speaking yet")
        port = daemon.http.port
    await expect(early.locator("#status")).to_have_text("Reconnecting…")
    async with serving(Config(server=ServerConfig(port=port, rooms=True))):
        await expect(early.locator("#status")).to_have_text("Nobody is speaking yet", timeout=15_000)
    await browser.close()


async def test_a_room_that_is_not_there_is_explained(chromium: OpenChromium, murmur: Path) -> None:
    """In words for who watches, and with what the operator can do."""
    browser = await chromium(murmur)
    async with serving() as daemon:
        page = await (await browser.new_context()).new_page()
        await page.goto(daemon.url("/watch/stage"))
        await expect(page.get_by_role("alert")).to_contain_text("no audience rooms")
    await browser.close()


async def test_overlay(chromium: OpenChromium, murmur: Path) -> None:
    """The microphone's captions on nothing, as the address says; what was said before does not come up again."""
    browser = await chromium(murmur)
    microphone = Room()
    script = [event for _, event in script_of(TURNS)]
    async with serving(CONFIG, microphone=microphone) as daemon:
        with microphone.speaking("s_1"):
            for event in script[:7]:
                microphone.publish(event)
            page = await open_page(await browser.new_context(), daemon.url("/overlay?lines=1&size=44&color=ff0&hold=1"))
            for event in script[7:]:
                microphone.publish(event)
            await expect(page.locator("#stage")).to_contain_text("second thing")
            await expect(page.locator("#stage")).not_to_contain_text("first thing")
            ground = await page.evaluate("getComputedStyle(document.body).backgroundColor")
            line = page.locator("#stage p").last
            await expect(line).to_have_css("font-size", "44px")
            await expect(line).to_have_css("color", "rgb(255, 255, 0)")
            await expect(page.locator("#stage p")).to_have_count(0, timeout=5_000)
    await browser.close()

    assert ground == "rgba(0, 0, 0, 0)"
