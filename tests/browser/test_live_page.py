"""The live page and the overlay in a real browser, before scripted sessions."""

from __future__ import annotations

import base64
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr
from playwright.async_api import BrowserContext, Page, expect

from streamer.access.keys import Keys
from streamer.config import Config, ServerConfig
from tests.browser.conftest import open_page
from tests.helpers.fake_scheduler import FakeScheduler, ScriptLine, script_of
from tests.helpers.http_daemon import Daemon, serving
from tests.helpers.live_recordings import RATE, heard_by_ffmpeg

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

TURNS = [
    "So the first thing is latency, and nobody wants to wait for a word.",
    "The second thing is that no word is lost.",
    "Captions that jump around are hard to read, so what is solid stays where it is, and only the end may "
    "still change.",
]
CONFIG = Config(server=ServerConfig(port=0))


@pytest.fixture
def script() -> list[ScriptLine]:
    """Two turns in about five seconds of audio, and the words of a third."""
    return script_of(TURNS, word_s=0.15, stays_open=True)


@pytest.fixture
def window() -> dict[str, Any]:
    """A light one."""
    return {"color_scheme": "light"}


async def test_captions_from_start_to_download(context: BrowserContext, daemon: Daemon, tmp_path: Path) -> None:
    """Words appear as partial, become solid, end in the transcript, and can be downloaded."""
    page = await open_page(context, daemon.url("/"))
    await expect(page.locator("#language")).to_be_enabled()
    await page.screenshot(path=tmp_path / "ready.png")

    await expect(page.locator("#stage")).to_have_attribute("data-hint", "Press Start and speak.")

    await page.get_by_role("button", name="Start").click()
    await expect(page.locator("#status")).to_have_text("Listening")
    await expect(page.locator("#stage")).to_have_attribute("data-hint", "Captions appear here.")
    await expect(page.locator("#stage")).to_contain_text("So the first thing is latency")
    await expect(page.locator("#log")).to_contain_text(TURNS[1])
    await expect(page.locator("#stage")).to_contain_text("hard to read")
    await expect(page.locator("#stage .partial")).to_be_visible()
    await expect(page.locator("#delay")).to_have_text(re.compile(r"^\d+\.\d s behind$"))
    await page.screenshot(path=tmp_path / "live.png")
    await page.get_by_role("button", name="Stop").click()

    await expect(page.locator("#status")).to_have_text("Ready")
    await expect(page.locator("#log .turn")).to_have_count(3)
    await expect(page.locator("#stage .partial")).to_have_count(0)
    await page.screenshot(path=tmp_path / "ended.png")
    stream = daemon.scheduler.streams[0]
    assert stream.has_ended
    assert float(np.abs(np.concatenate(stream.samples)).max()) > 0.1
    for format_, beginning in (("TXT", TURNS[0]), ("SRT", "1\n00:00:00,"), ("VTT", "WEBVTT\n\n00:00:00.")):
        async with page.expect_download() as download:
            await page.get_by_role("button", name=format_).click()
        text = read_text(await (await download.value).path())
        assert text.startswith(beginning)
        assert max(map(len, text.splitlines())) <= 42 or format_ == "TXT"


def read_text(path: Path) -> str:
    """A file that was downloaded."""
    return path.read_text(encoding="utf-8")


async def test_screen_readers_hear_final_text_only(context: BrowserContext, daemon: Daemon) -> None:
    """What may still change is in no live region."""
    page = await open_page(context, daemon.url("/"))
    await page.get_by_role("button", name="Start").click()
    await expect(page.locator("#stage .partial")).to_be_visible()

    assert await page.locator("#stage").get_attribute("aria-live") == "off"
    assert await page.get_by_role("log").locator(".partial").count() == 0


async def test_keyboard_alone(context: BrowserContext, daemon: Daemon) -> None:
    """Start and stop need no mouse."""
    page = await open_page(context, daemon.url("/"))
    await expect(page.locator("#toggle")).to_be_enabled()  # once the transcript is there
    await page.locator("#toggle").focus()
    await page.keyboard.press("Enter")
    await expect(page.locator("#status")).to_have_text("Listening")
    await page.keyboard.press("Space")
    await expect(page.locator("#status")).to_have_text("Ready")


NOTE = """async () => {
    const { Captions } = await import("/pages/client.js");
    const send = Captions.prototype.send;
    window.sent = [];
    Captions.prototype.send = function (chunk, endS) {
        window.sent.push(chunk);
        return send.call(this, chunk, endS);
    };
}"""
"""Lets a page keep what it gives its client to send."""
TELL = """async () => {
    const reader = new FileReader();
    await new Promise((resolve) => { reader.onload = resolve; reader.readAsDataURL(new Blob(window.sent)); });
    return [reader.result.split(",")[1], new AudioContext().sampleRate];
}"""


async def sent_sound(page: Page, *, is_compressed: bool = False) -> np.typing.NDArray[np.float32]:
    """What a page of `NOTE` has sent, (n,) at 16 kHz: a browser without processor time leaves gaps of its own in it."""
    told, rate = await page.evaluate(TELL)
    data = base64.b64decode(told)
    if is_compressed:
        return heard_by_ffmpeg(data)
    return np.asarray(soxr.resample(np.frombuffer(data, "<i2") / np.float32(32768), rate, RATE), np.float32)


def longest_silence_s(samples: np.typing.NDArray[np.float32], quiet: float) -> float:
    """Within samples, (n,) at 16 kHz, without half a second at both ends; the murmur fades three times a second."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.abs(samples[RATE // 2 : -RATE // 2]) < quiet, [0]])))
    return float((edges[1::2] - edges[::2]).max(initial=0)) / RATE


async def test_lost_connection_is_resumed(context: BrowserContext, daemon: Daemon) -> None:
    """The same session goes on after the server was away, without a gap in its audio."""
    page = await open_page(context, daemon.url("/"))
    await page.evaluate(NOTE)
    await page.get_by_role("button", name="Start").click()
    await expect(page.locator("#stage")).to_contain_text("first")
    stream = daemon.scheduler.streams[0]
    port = daemon.port
    await daemon.http.stop()
    await expect(page.locator("#status")).to_have_text("Reconnecting…")

    config = Config(server=ServerConfig(port=port))
    async with serving(config, daemon.scheduler):
        await expect(page.locator("#status")).to_have_text("Listening")
        await expect(page.locator("#log")).to_contain_text(TURNS[0])
        await page.get_by_role("button", name="Stop").click()
        await expect(page.locator("#status")).to_have_text("Ready")

    assert daemon.scheduler.streams == [stream]
    sent, heard = await sent_sound(page), np.concatenate(stream.samples)
    assert len(heard) == pytest.approx(len(sent), abs=0.05 * RATE)
    assert longest_silence_s(heard, 1e-4) < longest_silence_s(sent, 1e-4) + 0.05


async def test_full_server_is_explained(context: BrowserContext) -> None:
    """A daemon at capacity shows as such, not as an error."""
    async with serving(CONFIG, FakeScheduler(max_sessions=0)) as full:
        page = await open_page(context, full.url("/"))
        await page.get_by_role("button", name="Start").click()
        await expect(page.locator("#status")).to_have_text("Server busy, waiting…")


async def test_insecure_address_is_explained(context: BrowserContext, tmp_path: Path) -> None:
    """On plain http from elsewhere the page says why there is no microphone, and what to do."""
    config = Config(server=ServerConfig(port=0, allowed_origins=("http://box.test",)))
    async with serving(config) as box:
        page = await context.new_page()
        await page.goto(f"http://box.test:{box.port}/")
        await expect(page.get_by_role("alert")).to_contain_text("https")
        await expect(page.locator("#toggle")).to_be_disabled()
        await page.emulate_media(color_scheme="dark")
        await page.screenshot(path=tmp_path / "insecure-dark.png")


async def test_a_new_server_takes_over_without_a_gap(context: BrowserContext, daemon: Daemon) -> None:
    """A restart loses the session: another one goes on from the stable text, with the last words as context."""
    page = await open_page(context, daemon.url("/"))
    await page.evaluate(NOTE)
    await page.get_by_role("button", name="Start").click()
    await expect(page.locator("#log")).to_contain_text(TURNS[0])
    old, port = daemon.scheduler.streams[0], daemon.port
    await daemon.http.stop()
    await expect(page.locator("#status")).to_have_text("Reconnecting…")

    async with serving(Config(server=ServerConfig(port=port)), FakeScheduler()) as after:
        await expect(page.locator("#status")).to_have_text("Listening")
        await page.get_by_role("button", name="Stop").click()
        await expect(page.locator("#status")).to_have_text("Ready")
        (new,) = after.scheduler.streams

    sent, heard = await sent_sound(page), np.concatenate(new.samples)
    begun_s = new.received_s - len(heard) / RATE
    assert begun_s <= old.received_s
    assert TURNS[0].split()[-1] in new.context
    assert new.received_s == pytest.approx(len(sent) / RATE, abs=0.05)
    assert longest_silence_s(heard, 1e-4) < longest_silence_s(sent, 1e-4) + 0.05


@pytest.mark.parametrize("is_interrupted", [False, True])
async def test_compressed_sound(context: BrowserContext, daemon: Daemon, is_interrupted: bool) -> None:
    """As webm/opus the server hears the same, and after a lost connection only what it has not heard."""
    page = await open_page(context, daemon.url("/"))
    await page.evaluate(NOTE)
    await page.get_by_text("Options").click()
    await page.get_by_label("Slow network").check()
    await page.get_by_role("button", name="Start").click()
    await expect(page.locator("#stage")).to_contain_text("latency")
    stream, port = daemon.scheduler.streams[0], daemon.port
    if is_interrupted:
        await daemon.http.stop()
        await expect(page.locator("#status")).to_have_text("Reconnecting…")
    async with serving(Config(server=ServerConfig(port=port)), daemon.scheduler) if is_interrupted else nullcontext():
        await expect(page.locator("#log")).to_contain_text(TURNS[0])
        await page.get_by_role("button", name="Stop").click()
        await expect(page.locator("#status")).to_have_text("Ready")

    assert daemon.scheduler.streams == [stream]
    sent, heard = await sent_sound(page, is_compressed=True), np.concatenate(stream.samples)
    assert float(np.abs(heard).max()) > 0.1
    assert len(heard) == pytest.approx(len(sent), abs=0.2 * RATE)
    assert longest_silence_s(heard, 1e-3) < longest_silence_s(sent, 1e-3) + 0.1


async def test_shared_sound_can_be_chosen(context: BrowserContext, daemon: Daemon) -> None:
    """The sound of a tab is a source like any other; this browser has none to share, and the page says what to do."""
    page = await open_page(context, daemon.url("/"))
    await page.evaluate(
        "navigator.mediaDevices.getDisplayMedia = () => navigator.mediaDevices.getUserMedia({audio: true})"
    )
    await page.locator("#device").select_option("Tab or screen sound")
    await page.get_by_role("button", name="Start").click()
    await expect(page.locator("#stage")).to_contain_text("latency")
    await page.get_by_role("button", name="Stop").click()
    await expect(page.locator("#status")).to_have_text("Ready")
    await page.evaluate("navigator.mediaDevices.getDisplayMedia = async () => new MediaStream()")
    await page.get_by_role("button", name="Start").click()
    await expect(page.get_by_role("alert")).to_contain_text("tick “Also share tab audio”")


async def test_keys_are_asked_for_and_a_wrong_one_explained(context: BrowserContext, tmp_path: Path) -> None:
    """The page asks, says when the key is not accepted, and goes on with the right one."""
    key = "0123456789abcdef0123"
    (tmp_path / "keys").write_text(f"laptop {key}\n")
    async with serving(CONFIG, FakeScheduler(script_of(TURNS)), keys=Keys(tmp_path / "keys")) as daemon:
        page = await context.new_page()
        await page.goto(daemon.url("/"))
        await page.get_by_role("button", name="Start").click()
        await page.get_by_label("API key").fill("wrong-key-wrong-key")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_contain_text("did not accept the key")
        await page.get_by_label("API key").fill(key)
        await page.keyboard.press("Enter")
        await expect(page.locator("#status")).to_have_text("Listening")
        await expect(page.get_by_role("alert")).to_be_hidden()


BLOCKED = """
for (const name of ["localStorage", "sessionStorage", "indexedDB"]) {
    Object.defineProperty(window, name, { get() { throw new DOMException("blocked", "SecurityError"); } });
}
"""
FULL = """
Storage.prototype.setItem = () => { throw new DOMException("full", "QuotaExceededError"); };
"""


@pytest.mark.parametrize("storage", [BLOCKED, FULL], ids=["blocked", "full"])
async def test_a_page_works_where_the_browser_keeps_nothing(
    context: BrowserContext, tmp_path: Path, storage: str
) -> None:
    """With site data blocked, or no room for it: the key and what was chosen hold until the page is left."""
    key = "0123456789abcdef0123"
    (tmp_path / "keys").write_text(f"laptop {key}\n")
    await context.add_init_script(storage)
    async with serving(CONFIG, FakeScheduler(script_of(TURNS)), keys=Keys(tmp_path / "keys")) as daemon:
        page = await open_page(context, daemon.url("/"))
        await page.get_by_label("Language").select_option("German")
        await page.locator("#display summary").click()
        await page.get_by_label("Larger text").click()
        await page.keyboard.press("Escape")
        await page.get_by_role("button", name="Start").click()
        await page.get_by_label("API key").fill(key)
        await page.keyboard.press("Enter")
        await expect(page.locator("#log")).to_contain_text(TURNS[0])
        await page.get_by_role("button", name="Stop").click()
        await expect(page.locator("#status")).to_have_text("Ready")
        await page.get_by_role("button", name="New").click()
        await expect(page.locator("#log .turn")).to_have_count(0)
        assert daemon.scheduler.streams[0].options.language == "de"
        watcher = await open_page(context, daemon.url("/watch/stage"))
        await expect(watcher.get_by_label("API key")).to_be_visible()
