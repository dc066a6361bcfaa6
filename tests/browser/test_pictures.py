"""
Every page as it looks, on a desktop and a phone, light and dark: nothing cut off, no accessibility rule broken.

    SCREENSHOTS_FOLDER=FOLDER pytest tests/browser/test_pictures.py      all of them to look at
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, BrowserContext, Page, expect

from streamer.access.keys import Keys
from streamer.config import Config, ServerConfig
from streamer.server.rooms.room import Room
from tests.browser.conftest import open_page
from tests.helpers.fake_scheduler import FakeScheduler, script_of
from tests.helpers.http_daemon import Daemon, serving

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

CONFIG = Config(server=ServerConfig(port=0, rooms=True))
TALK = [
    "So the first thing is latency, and nobody wants to wait for a word.",
    "The second thing is that no word is lost, whatever happens to the line.",
    "Captions that jump around are hard to read, so what is solid stays where it is, and only the end may change.",
]
SCREENS = {"desktop": (1280, 860), "phone": (390, 844)}


async def screen(browser: Browser, name: str, scheme: str) -> BrowserContext:
    """A window of this size and colour scheme."""
    width, height = SCREENS[name]
    return await browser.new_context(
        permissions=["microphone"],
        viewport={"width": width, "height": height},
        device_scale_factor=1 if name == "desktop" else 2,
        has_touch=name == "phone",
        color_scheme="dark" if scheme == "dark" else "light",
        reduced_motion="reduce",
    )


async def picture(page: Page, name: str, *, transparent: bool = False) -> None:
    """Keep how a page looks, if somebody wants to see."""
    if folder := os.environ.get("SCREENSHOTS_FOLDER"):
        await page.screenshot(path=Path(folder) / f"{name}.png", omit_background=transparent)


async def assert_accessible(page: Page) -> None:
    """No rule of axe broken, and nothing wider than the screen."""
    results = await Axe().run(page)
    assert results.violations_count == 0, results.generate_report()
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def speak(room: Room, n_turns: int = 2, n_words: int = 13) -> None:
    """So many turns, and some words of the next."""
    script = [event for _, event in script_of(TALK)]
    ends = [i for i, event in enumerate(script) if event.__class__.__name__ == "TurnEnd"]
    for event in script[: ends[n_turns - 1] + 1 + n_words]:
        room.publish(event)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SCREENS)
async def test_every_page(browser: Browser, size: str, scheme: str) -> None:
    """The live page before, while and after; its menu; an audience's page; the overlay."""
    room = Room()
    scheduler = FakeScheduler(script_of(TALK, word_s=0.2, pause_s=0.4, stays_open=True))
    scheduler.model = "tiny.en"
    async with serving(CONFIG, scheduler, room) as daemon:
        context = await screen(browser, size, scheme)
        await live_page(context, daemon, f"{size}-{scheme}")
        with room.speaking("s_1"):
            speak(room)
            await watch_page(context, daemon, f"{size}-{scheme}")
            await overlay(context, daemon, f"{size}-{scheme}")
        await overlay_options(context, daemon, f"{size}-{scheme}")
        await context.close()


async def live_page(context: BrowserContext, daemon: Daemon, name: str) -> None:
    """Ready, running, with the menu open."""
    page = await open_page(context, daemon.url("/"))
    await expect(page.locator("#language")).to_be_enabled()
    await expect(page.locator("#toggle")).to_be_in_viewport()
    await picture(page, f"ready-{name}")
    await assert_accessible(page)
    await page.locator("#room").fill("stage")
    await page.get_by_role("button", name="Start").click()
    await expect(page.locator("#log")).to_contain_text(TALK[1])
    await expect(page.locator("#stage .partial")).to_be_visible()
    await expect(page.locator("#stage")).to_contain_text("hard to")
    await picture(page, f"live-{name}")
    await assert_accessible(page)
    await page.locator("#display summary").click()
    await picture(page, f"menu-{name}")
    await assert_accessible(page)
    for theme in ("contrast", "yellow") if name == "desktop-light" else ():
        await page.get_by_label("Colours").select_option(theme)
        await picture(page, f"live-{theme}")
        await assert_accessible(page)
    await page.keyboard.press("Escape")
    await page.get_by_role("button", name="Stop").click()
    await expect(page.locator("#status")).to_have_text("Ready")
    await page.close()


@pytest.mark.parametrize("size", SCREENS)
async def test_every_state(browser: Browser, tmp_path: Path, size: str) -> None:
    """What opens on a click, what is wrong, and the largest text, of each page."""
    scheduler = FakeScheduler(script_of(TALK, word_s=0.1, pause_s=0.2))
    async with serving(CONFIG, scheduler) as daemon:
        context = await screen(browser, size, "light")
        await live_states(await open_page(context, daemon.url("/")), size)
    page = await context.new_page()
    (tmp_path / "keys").write_text("laptop 0123456789abcdef0123\n")
    async with serving(CONFIG, scheduler, keys=Keys(tmp_path / "keys")) as daemon:
        await page.goto(daemon.url("/watch/stage"))
        await expect(page.get_by_label("API key")).to_be_visible()
        await picture(page, f"watch-key-{size}")
        await assert_accessible(page)
        await page.goto(daemon.url("/overlay"))
        await expect(page.get_by_role("status")).to_contain_text("#key=")
        await picture(page, f"overlay-key-{size}", transparent=True)
        await assert_accessible(page)
    for name in ("outline", "shadow", "center"):
        extra = "align=center" if name == "center" else f"back=none&edge={name}"
        async with serving(CONFIG) as daemon:
            page = await open_page(context, daemon.url(f"/overlay?sample=yes&size=40&{extra}"))
            await picture(page, f"overlay-{name}-{size}", transparent=True)
            await assert_accessible(page)


async def live_states(page: Page, size: str) -> None:
    """Options, code, editor and full screen; all with the largest text too."""
    await page.locator("#room").fill("stage")
    await page.get_by_role("button", name="Start").click()
    await expect(page.locator("#log")).to_contain_text(TALK[2])
    await page.locator("#options summary").click()
    await picture(page, f"options-{size}")
    await assert_accessible(page)
    await page.keyboard.press("Escape")
    await page.get_by_role("button", name="QR code").click()
    await picture(page, f"code-{size}")
    await assert_accessible(page)
    await page.get_by_role("button", name="Close").click()
    await page.locator(".turn").last.hover()
    await page.get_by_role("button", name="Correct the sentence").last.click()
    await picture(page, f"edit-{size}")
    await assert_accessible(page)
    await page.keyboard.press("Escape")
    await page.locator("#display summary").click()
    for _ in range(4):
        await page.get_by_role("button", name="Larger text").click()
    await page.get_by_label("Lines").select_option("6")
    await page.keyboard.press("Escape")
    await picture(page, f"largest-{size}")
    await assert_accessible(page)
    await page.locator("#display summary").click()
    await page.get_by_role("button", name="Full screen", exact=True).click()
    await picture(page, f"full-{size}")
    await assert_accessible(page)
    await page.get_by_role("button", name="Leave full screen").click()
    await page.get_by_role("button", name="Stop").click()
    await expect(page.locator("#status")).to_have_text("Ready")
    await picture(page, f"stopped-{size}")


async def watch_page(context: BrowserContext, daemon: Daemon, name: str) -> None:
    """Joined late: the last turns are there."""
    page = await open_page(context, daemon.url("/watch/microphone"))
    await expect(page.locator("#log .turn")).to_have_count(2)
    await expect(page.locator("#stage .partial")).to_be_visible()
    await picture(page, f"watch-{name}")
    await assert_accessible(page)
    await page.close()


async def overlay(context: BrowserContext, daemon: Daemon, name: str) -> None:
    """On nothing at all."""
    page = await open_page(context, daemon.url("/overlay?size=40"))
    await expect(page.locator("#stage .partial")).to_be_visible()
    await picture(page, f"overlay-{name}", transparent=True)
    await assert_accessible(page)
    await page.close()


async def overlay_options(context: BrowserContext, daemon: Daemon, name: str) -> None:
    """Every option with its meaning."""
    page = await open_page(context, daemon.url("/overlay/options"))
    await page.locator("[name=back]").fill("none")
    await expect(page.locator("#address")).to_contain_text("/overlay?back=none")
    await picture(page, f"overlay-options-{name}")
    await assert_accessible(page)
    await page.close()
