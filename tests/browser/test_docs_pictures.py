"""
The pictures of the docs: a real session with real weights, in the middle of a sentence.

    make pictures
"""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import numpy as np
import pytest
import soxr
from numpy.typing import NDArray
from playwright.async_api import Browser, Page, expect

from tests.browser.conftest import SPOKEN_RATE, OpenChromium, open_page, save_wav
from tests.browser.test_pictures import picture, screen
from tests.helpers.daemon_process import DaemonProcess, daemon_process, with_silence
from tests.helpers.recordings import Recording

pytestmark = [
    pytest.mark.browser,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.skipif("SCREENSHOTS_FOLDER" not in os.environ, reason="asked for with `make pictures`"),
]


def talk(recordings: dict[str, Recording]) -> NDArray[np.float32]:
    """A speech, then after a pause that ends any turn a novel, at the rate of the browser's microphone."""
    spoken = [with_silence(recordings[name].samples, 2.5) for name in ("dev-jfk", "dev-sns-0870")]
    return np.asarray(soxr.resample(np.concatenate(spoken), 16_000, SPOKEN_RATE), np.float32)


async def speak(page: Page) -> None:
    """Start, and wait for the middle of the novel's sentence."""
    await expect(page.locator("#language")).to_contain_text("English")
    await page.locator("#room").fill("stage")
    await page.get_by_role("button", name="Start").click()
    await expect(page.locator("#log")).to_contain_text(re.compile("your country", re.IGNORECASE))
    await expect(page.locator("#stage")).to_contain_text("leisure to consider")
    await expect(page.locator("#stage .partial")).to_be_visible()


async def speaker_and_audience(browser: Browser, daemon: DaemonProcess) -> None:
    """The page of who speaks, and those that show it to others, at the same moment."""
    light, dark = await screen(browser, "desktop", "light"), await screen(browser, "desktop", "dark")
    audience = await open_page(dark, daemon.url("/watch/stage"))
    overlay = await open_page(light, daemon.url("/overlay?room=stage&size=40"))
    speaker = await open_page(light, daemon.url("/"))
    await speak(speaker)
    await asyncio.gather(
        picture(speaker, "live-desktop-light"),
        picture(audience, "watch-desktop-dark"),
        picture(overlay, "overlay-desktop-light", transparent=True),
    )


async def phone(browser: Browser, daemon: DaemonProcess) -> None:
    """The page of who speaks, in one hand."""
    page = await open_page(await screen(browser, "phone", "dark"), daemon.url("/"))
    await speak(page)
    await picture(page, "live-phone-dark")


async def test_a_real_session(chromium: OpenChromium, recordings: dict[str, Recording], tmp_path: Path) -> None:
    """What the docs show is what users see."""
    wav = save_wav(tmp_path / "spoken.wav", talk(recordings))
    async with daemon_process(tmp_path, STREAMER_SERVER_ROOMS="true") as daemon:
        # each in a browser of its own: its microphone plays the talk once
        for show in (speaker_and_audience, phone):
            browser = await chromium(wav)
            await show(browser, daemon)
            await browser.close()
