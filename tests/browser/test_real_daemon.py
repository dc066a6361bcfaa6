"""The whole product: speech into a browser's microphone, captions of a real daemon on its page."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
import soxr
from playwright.async_api import Page, expect

from tests.browser.conftest import SPOKEN_RATE, OpenChromium, save_wav
from tests.helpers.daemon_process import daemon_process, with_silence, word_errors
from tests.helpers.recordings import Recording

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def screenshot(page: Page, folder: Path, name: str) -> None:
    """A picture for this test, and for the folder in SCREENSHOTS_FOLDER if there is one."""
    await page.screenshot(path=folder / name)
    if kept := os.environ.get("SCREENSHOTS_FOLDER"):
        await page.screenshot(path=Path(kept) / name)


async def test_speech_becomes_captions(
    chromium: OpenChromium, recordings: dict[str, Recording], tmp_path: Path
) -> None:
    """Words appear while they are spoken, become stable, and end in the transcript, which is right."""
    spoken = recordings["dev-jfk"]
    sound = soxr.resample(with_silence(spoken.samples, 2.0), 16_000, SPOKEN_RATE)
    browser = await chromium(save_wav(tmp_path / "spoken.wav", np.asarray(sound, dtype=np.float32)))
    async with daemon_process(tmp_path) as daemon:
        context = await browser.new_context(permissions=["microphone"], viewport={"width": 1280, "height": 860})
        page = await context.new_page()
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        await page.goto(daemon.url("/"))
        await expect(page.locator("#language")).to_contain_text("English")
        await page.get_by_role("button", name="Start").click()
        await expect(page.locator("#status")).to_have_text("Listening")

        await expect(page.locator("#stage")).to_contain_text(re.compile("fellow", re.IGNORECASE))
        await expect(page.locator("#stage")).to_contain_text(re.compile("country", re.IGNORECASE))
        await screenshot(page, tmp_path, "real-live.png")
        # the end of the last sentence has no partial left, and stands in the transcript
        await expect(page.locator("#log")).to_contain_text(
            re.compile("what you can do for your country", re.IGNORECASE)
        )
        await expect(page.locator("#stage .partial")).to_have_count(0)
        await screenshot(page, tmp_path, "real-final.png")
        await page.get_by_role("button", name="Stop").click()
        await expect(page.locator("#status")).to_have_text("Ready")

        turns = await page.locator("#log .said").all_inner_texts()
        await screenshot(page, tmp_path, "real-stopped.png")
        await context.close()
    await browser.close()
    said = re.sub(r"\d+:\d\d(:\d\d)?", " ", " ".join(turns))

    assert word_errors(spoken.text, said) <= 0.2, said
    assert problems == []
