"""
Fixtures of the browser tests: Debian's Chromium with a sound file for a microphone.

A browser takes longer to start than most tests to run: those that only need to be heard share one, each in contexts of
its own, which share nothing. They run on one event loop, that of the browser.
"""

from __future__ import annotations

import wave
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import pytest_asyncio
from numpy.typing import NDArray
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from streamer.config import Config, ServerConfig
from tests.helpers.fake_scheduler import FakeScheduler, ScriptLine
from tests.helpers.http_daemon import Daemon, serving
from tests.helpers.ports import reserved_port

EXECUTABLE = "/usr/bin/chromium"
SPOKEN_RATE = 48000

OpenChromium: TypeAlias = Callable[..., Awaitable[Browser]]

expect.set_options(timeout=60_000)  # by default 5 s, which a machine full of other work passes


def arguments(wav: Path, *, loops: bool) -> list[str]:
    """Switches of a Chromium that hears `wav`, asks nobody, and knows `box.test` as this machine."""
    return [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={wav}{'' if loops else '%noloop'}",
        "--autoplay-policy=no-user-gesture-required",
        "--host-resolver-rules=MAP box.test 127.0.0.1",
    ]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator[OpenChromium]:
    """Opens a browser whose microphone plays a WAV file (48 kHz mono PCM16) once, or with `loops` for ever."""
    async with async_playwright() as playwright:

        async def open_chromium(wav: Path, *, loops: bool = False) -> Browser:
            switches = arguments(wav, loops=loops)
            return await playwright.chromium.launch(
                executable_path=EXECUTABLE, headless=True, args=switches, timeout=120_000
            )

        yield open_chromium


def save_wav(path: Path, samples: NDArray[np.float32]) -> Path:
    """Write samples in [-1, 1], (n,), at 48 kHz as a file that `chromium` plays; its path."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SPOKEN_RATE)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return path


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_browser(chromium: OpenChromium, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    """A browser that hears what sounds like nothing, at the loudness of speech: 20 s, again and again."""
    t = np.arange(20 * SPOKEN_RATE) / SPOKEN_RATE
    murmur = (0.2 * np.sin(2 * np.pi * 220 * t) * np.sin(2 * np.pi * 1.5 * t)).astype(np.float32)
    opened = await chromium(save_wav(tmp_path_factory.mktemp("murmur") / "murmur.wav", murmur), loops=True)
    yield opened
    await opened.close()


@pytest_asyncio.fixture(loop_scope="session")
async def browser(shared_browser: Browser) -> AsyncIterator[Browser]:
    """A browser that hears somebody, and keeps nothing of what a test opens in it."""
    yield shared_browser
    for context in shared_browser.contexts:
        await context.close()


@pytest.fixture
def window() -> dict[str, Any]:
    """Options of `context` beyond its size; a file of tests may define its own."""
    return {}


@pytest_asyncio.fixture(loop_scope="session")
async def context(browser: Browser, window: dict[str, Any]) -> BrowserContext:
    """A desktop window with permission for the microphone."""
    size = {"width": 1280, "height": 860}
    return await browser.new_context(permissions=["microphone"], viewport=size, **window)  # type: ignore[arg-type]


@pytest.fixture
def port() -> Iterator[int]:
    """For servers that come up one after the other where a page looks for them."""
    with reserved_port() as port:
        yield port


@pytest.fixture
def config(port: int) -> Config:
    """Of `daemon`; a file of tests may define its own."""
    return Config(server=ServerConfig(port=port))


@pytest_asyncio.fixture(loop_scope="session")
async def daemon(config: Config, script: list[ScriptLine]) -> AsyncIterator[Daemon]:
    """A server whose sessions say `script`, which a file of tests defines."""
    async with serving(config, FakeScheduler(script)) as running:
        yield running


async def count_wake_locks(context: BrowserContext) -> None:
    """Let pages count how often they asked for a screen that stays on, and how many of these they hold."""
    await context.add_init_script(
        """
        let [nAsked, nHeld] = [0, 0];
        const count = (n) => {
            nHeld += n;
            document.documentElement.dataset.wakeLocks = `asked ${nAsked}, held ${nHeld}`;
        };
        const request = async () => { nAsked += 1; count(1); return { release() { count(-1); } }; };
        Object.defineProperty(navigator, "wakeLock", { value: { request } });
        """
    )


async def expect_wake_locks(page: Page, n_asked: int, n_held: int) -> None:
    """Wait until a page of `count_wake_locks` has asked so often, and holds so many."""
    told = f"asked {n_asked}, held {n_held}"
    await expect(page.locator("html")).to_have_attribute("data-wake-locks", told)


async def open_page(context: BrowserContext, url: str) -> Page:
    """A page that fails the test when anything goes wrong in it."""
    page = await context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    await page.goto(url)
    assert problems == []
    return page
