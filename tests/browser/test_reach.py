"""What can be reached on the pages: by the keys alone, in windows of any size as at a large zoom, and on paper."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Page, expect

from streamer.config import Config, ServerConfig
from streamer.server.rooms.room import Room
from tests.browser.conftest import open_page
from tests.helpers.fake_scheduler import ScriptLine, script_of
from tests.helpers.http_daemon import Daemon, serving

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

CONFIG = Config(server=ServerConfig(port=0, rooms=True))
TURNS = [f"This is the sentence with the number {n}, which is as long as most." for n in range(1, 13)]
SIZES = [(320, 256), (320, 640), (390, 844), (640, 430), (930, 700), (1280, 400)]
COVERED = """() => {
    const focused = document.activeElement;
    if (focused === document.body) return null;
    const { left, right, top, bottom } = focused.getBoundingClientRect();
    const middle = (low, high, most) => (Math.max(low, 0) + Math.min(high, most)) / 2;
    const seen = document.elementFromPoint(middle(left, right, innerWidth), middle(top, bottom, innerHeight));
    const isSeen = seen && (focused.contains(seen) || seen.contains(focused));
    const isWhole = top >= -1 && bottom <= innerHeight + 1 && left >= -1 && right <= innerWidth + 1;
    const name = focused.id || focused.ariaLabel || focused.textContent.trim();
    const { outlineStyle, outlineWidth } = getComputedStyle(focused);
    const hasRing = outlineStyle !== "none" && parseFloat(outlineWidth) >= 2;
    return { name, isSeen: Boolean(isSeen && isWhole), hasRing };
}"""


@pytest.fixture
def script() -> list[ScriptLine]:
    """A talk that is longer than the paper."""
    return script_of(TURNS, word_s=0.02, pause_s=0.1)


@pytest.fixture
def config(port: int) -> Config:
    """With rooms."""
    return Config(server=ServerConfig(port=port, rooms=True))


async def reached(page: Page, most: int = 40) -> list[dict[str, Any]]:
    """All that Tab comes to from the top of a page."""
    await page.evaluate("document.body.tabIndex = -1, document.body.focus()")
    found = []
    for _ in range(most):
        await page.keyboard.press("Tab")
        stop = await page.evaluate(COVERED)
        if stop is None:
            break
        found.append(stop)
    return found


async def test_what_has_the_focus_is_seen(context: BrowserContext, daemon: Daemon) -> None:
    """Nothing covers it, it has a ring around it, and no window is too small: the first one is 1280 x 1024 at 400 %."""
    page = await open_page(context, daemon.url("/"))
    await page.locator("#room").fill("stage")
    await page.get_by_role("button", name="Start").click()
    await expect(page.locator("#log .turn")).to_have_count(len(TURNS))
    await page.get_by_role("button", name="Stop").click()
    await expect(page.locator("#status")).to_have_text("Ready")
    wanted = ["Display", "toggle", "device", "language", "room", "Options", "watch-link", "copy-link", "show-code"]
    for width, height in SIZES:
        await page.set_viewport_size({"width": width, "height": height})
        stops = await reached(page)
        names = [stop["name"] for stop in stops]
        assert names[: len(wanted)] == wanted
        assert names[-2] == TURNS[-1]
        assert names[-1].startswith("Correct the sentence at")
        assert [stop for stop in stops if not (stop["isSeen"] and stop["hasRing"])] == [], (width, height)
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("path", ["/watch/microphone", "/overlay/options"])
async def test_the_other_pages_too(browser: Browser, path: str) -> None:
    """At 400 %."""
    room = Room()
    context = await browser.new_context(viewport={"width": 320, "height": 256})
    async with serving(CONFIG, microphone=room) as daemon:
        with room.speaking("s_1"):
            for _, event in script_of(TURNS):
                room.publish(event)
            page = await open_page(context, daemon.url(path))
            await expect(page.locator("#log .turn, #settings label").last).to_be_attached()
            stops = await reached(page)
    assert len(stops) >= 7
    assert [stop for stop in stops if not (stop["isSeen"] and stop["hasRing"])] == []


@pytest.mark.parametrize("theme", ["As the system", "Yellow on black"])
async def test_paper_shows_the_whole_transcript_and_nothing_to_press(
    context: BrowserContext, daemon: Daemon, theme: str
) -> None:
    """In dark ink, whatever the colours on the screen are."""
    page = await open_page(context, daemon.url("/"))
    await page.locator("#display summary").click()
    await page.get_by_label("Colours").select_option(theme)
    await page.keyboard.press("Escape")
    await page.get_by_role("button", name="Start").click()
    await expect(page.locator("#log .turn")).to_have_count(len(TURNS))
    await page.emulate_media(media="print", color_scheme="dark")

    assert await page.get_by_role("button").count() == 0
    assert await page.locator("#log").evaluate("(log) => log.scrollHeight <= log.clientHeight")
    assert await page.locator("#log time:visible").count() == len(TURNS)
    ink = "(said) => Math.max(...getComputedStyle(said).color.match(/\\d+/g).slice(0, 3))"
    assert await page.locator(".said").first.evaluate(ink) < 60
