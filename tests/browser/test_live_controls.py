"""The controls of the live page in a real browser: what can be chosen, before and while captions run."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import numpy as np
import pytest
from playwright.async_api import Browser, BrowserContext, Page, expect

from streamer.access.keys import Keys
from streamer.config import Config, ServerConfig
from streamer.protocol.options import SessionOptions
from tests.browser.conftest import count_wake_locks, expect_wake_locks, open_page
from tests.helpers.fake_scheduler import FakeScheduler, ScriptLine, script_of
from tests.helpers.http_daemon import Daemon, serving, within
from tests.helpers.waiting import until

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

CONFIG = Config(server=ServerConfig(port=0, rooms=True))
KEY = "0123456789abcdef0123"
TURNS = ["So the first thing is latency.", "The second thing is that no word is lost.", "And a third one follows here."]


@pytest.fixture
def script() -> list[ScriptLine]:
    """Three turns."""
    return script_of(TURNS, word_s=0.25)


@pytest.fixture
def config(port: int) -> Config:
    """With rooms."""
    return Config(server=ServerConfig(port=port, rooms=True))


async def running_page(context: BrowserContext, daemon: Daemon) -> Page:
    """A page whose captions run."""
    page = await open_page(context, daemon.url("/"))
    await page.get_by_role("button", name="Start").click()
    await expect(page.locator("#status")).to_have_text("Listening")
    return page


async def test_another_language_while_captions_run(context: BrowserContext, daemon: Daemon) -> None:
    """The session goes on with it; a detected language is shown."""
    page = await running_page(context, daemon)
    await expect(page.locator("#detected")).to_have_text("Detected language: English")
    await page.get_by_label("Language").select_option("German")
    await page.get_by_role("button", name="Stop").click()
    await expect(page.locator("#status")).to_have_text("Ready")

    (stream,) = daemon.scheduler.streams
    assert [update.language for update in stream.updates] == ["de"]


async def test_the_language_of_the_configuration_holds_until_another_is_chosen(context: BrowserContext) -> None:
    """The page shows it; what was chosen here counts from then on."""
    config = msgspec.structs.replace(CONFIG, session=SessionOptions(language="de"))
    async with serving(config, FakeScheduler(script_of(TURNS))) as daemon:
        page = await running_page(context, daemon)
        await expect(page.locator("#language option:checked")).to_have_text("German")
        assert daemon.scheduler.streams[0].options.language == "de"
        await page.get_by_label("Language").select_option("Detect language")
        await page.get_by_role("button", name="Stop").click()
        await expect(page.locator("#status")).to_have_text("Ready")
        await page.reload()
        await expect(page.locator("#language option:checked")).to_have_text("Detect language")


async def test_another_model_since_the_page_was_opened(context: BrowserContext, config: Config) -> None:
    """A page that is open for days asks for no language that the server has no more, and names the new model."""
    async with serving(config, FakeScheduler()) as daemon:
        page = await open_page(context, daemon.url("/"))
        await page.get_by_label("Language").select_option("German")
    other = FakeScheduler(languages=("en", "fr"))
    other.model = "other"
    async with serving(config, other):
        await page.get_by_role("button", name="Start").click()
        await expect(page.locator("#status")).to_have_text("Listening")
        await expect(page.locator("#language option:checked")).to_have_text("Detect language")
        await expect(page.locator("#model")).to_have_text("other")


async def test_what_the_server_can_do_is_not_known(context: BrowserContext, daemon: Daemon) -> None:
    """Its own language is shown as the one that counts, until the page could ask."""
    await context.route("**/info", lambda route: route.abort())
    page = await context.new_page()
    await page.goto(daemon.url("/"))
    await expect(page.get_by_role("alert")).to_be_visible()
    await expect(page.get_by_label("Language")).to_be_disabled()
    await expect(page.locator("#language option:checked")).to_have_text("As the server is set")
    await context.unroute("**/info")
    await page.get_by_role("button", name="Start").click()
    await expect(page.locator("#language option:checked")).to_have_text("Detect language")


@pytest.mark.parametrize("is_compressed", [False, True])
async def test_another_microphone_while_captions_run(
    context: BrowserContext, daemon: Daemon, is_compressed: bool
) -> None:
    """One session, without a gap, and the sound after the change is that of the new one."""
    page = await open_page(context, daemon.url("/"))
    if is_compressed:
        await page.get_by_text("Options").click()
        await page.get_by_label("Slow network").check()
    await page.get_by_role("button", name="Start").click()
    await expect(page.locator("#log")).to_contain_text(TURNS[0])
    stream = await within(daemon.scheduler.wait_stream())
    await expect(page.locator("#device")).to_contain_text("Fake Audio Input 2")
    names = await page.locator("#device option").all_inner_texts()
    await page.evaluate(
        """() => {
            const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
            navigator.mediaDevices.getUserMedia = async (wanted) => (window.heard = await open(wanted));
        }"""
    )
    await page.get_by_label("Sound").select_option(next(name for name in names if "Fake Audio Input 2" in name))
    await page.wait_for_function("() => window.heard")
    changed_s = stream.received_s
    await until(lambda: stream.received_s > changed_s + 2.0)
    await page.get_by_role("button", name="Stop").click()
    await expect(page.locator("#status")).to_have_text("Ready")

    assert daemon.scheduler.streams == [stream]
    after = np.concatenate(stream.samples)[round((changed_s + 1.0) * 16_000) :]
    assert float(np.abs(after).max()) > 0.05
    await expect(page.get_by_role("alert")).to_be_hidden()


async def test_a_microphone_that_cannot_be_opened_changes_nothing(context: BrowserContext, daemon: Daemon) -> None:
    """The old one is heard on, and shown as the chosen one."""
    page = await running_page(context, daemon)
    await page.evaluate(
        """() => {
            const fail = async () => { throw new DOMException("gone", "OverconstrainedError"); };
            navigator.mediaDevices.getUserMedia = fail;
        }"""
    )
    await page.get_by_label("Sound").select_option(index=1)
    await expect(page.get_by_role("alert")).to_contain_text("is gone")
    await expect(page.get_by_label("Sound")).to_have_value("")
    await expect(page.locator("#log")).to_contain_text(TURNS[1])


async def test_the_microphone_that_is_heard_is_shown(context: BrowserContext, daemon: Daemon) -> None:
    """A browser names them only once it was allowed: the default one is open by then, whatever was chosen days ago."""
    await context.add_init_script(
        """
        localStorage.setItem("device", "near");
        const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        const near = { kind: "audioinput", deviceId: "near", label: "" };
        navigator.mediaDevices.getUserMedia = (wanted) => { near.label = "Near microphone"; return open(wanted); };
        navigator.mediaDevices.enumerateDevices = async () => [near];
        """
    )
    page = await running_page(context, daemon)
    await expect(page.get_by_label("Sound")).to_contain_text("Near microphone")
    await expect(page.get_by_label("Sound")).to_have_value("")


async def test_a_microphone_that_is_pulled_out_is_told(context: BrowserContext, daemon: Daemon) -> None:
    """The session ends, and the page still says why when it has ended."""
    page = await open_page(context, daemon.url("/"))
    await page.evaluate(
        """() => {
            const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
            navigator.mediaDevices.getUserMedia = async (wanted) => (window.heard = await open(wanted));
        }"""
    )
    await page.get_by_role("button", name="Start").click()
    await expect(page.locator("#status")).to_have_text("Listening")
    await page.evaluate("() => heard.getAudioTracks()[0].dispatchEvent(new Event('ended'))")
    await expect(page.locator("#status")).to_have_text("Ready")
    await expect(page.get_by_role("alert")).to_contain_text("The microphone was disconnected")


async def test_a_muted_microphone_is_told(context: BrowserContext, daemon: Daemon) -> None:
    """Without haste, in the state that screen readers hear, and no longer than it lasts."""
    page = await open_page(context, daemon.url("/"))
    await page.evaluate(
        """() => {
            const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
            navigator.mediaDevices.getUserMedia = async (wanted) => {
                const stream = await open(wanted);
                const [track] = stream.getAudioTracks();
                Object.defineProperty(track, "muted", { get: () => window.isMuted === true });
                window.mute = (isMuted) => {
                    window.isMuted = isMuted;
                    track.dispatchEvent(new Event(isMuted ? "mute" : "unmute"));
                };
                return stream;
            };
        }"""
    )
    await page.get_by_role("button", name="Start").click()
    await expect(page.get_by_role("status")).to_have_text("Listening")
    await page.evaluate("mute(true)")
    await expect(page.get_by_role("status")).to_have_text("Microphone silent")
    await expect(page.locator("#muted")).to_be_visible()
    await expect(page.get_by_role("alert")).to_be_hidden()
    await page.evaluate("mute(false)")
    await expect(page.get_by_role("status")).to_have_text("Listening")
    await expect(page.locator("#muted")).to_be_hidden()


async def test_the_screen_stays_on_after_the_page_was_hidden(context: BrowserContext, daemon: Daemon) -> None:
    """A browser lets it sleep again when it hides the page, as a phone does that shows another one meanwhile."""
    await count_wake_locks(context)
    page = await running_page(context, daemon)
    await expect_wake_locks(page, 1, 1)
    await page.evaluate("() => document.dispatchEvent(new Event('visibilitychange'))")
    await expect_wake_locks(page, 2, 1)
    await page.get_by_role("button", name="Stop").click()
    await expect(page.locator("#status")).to_have_text("Ready")
    await expect_wake_locks(page, 2, 0)


async def test_a_room_of_earlier_days_stops_nobody(context: BrowserContext) -> None:
    """Where the server has no rooms any more the field is hidden, and the name that it keeps is not sent."""
    await context.add_init_script("localStorage.setItem('room', 'stage')")
    async with serving(Config(server=ServerConfig(port=0))) as daemon:
        page = await open_page(context, daemon.url("/"))
        await expect(page.locator("#language")).to_be_enabled()  # once the page knows the server
        await page.get_by_role("button", name="Start").click()
        await expect(page.locator("#status")).to_have_text("Listening")


async def test_terms_translation_and_delay(context: BrowserContext, daemon: Daemon) -> None:
    """They reach the session; terms can be changed while it runs; a reload keeps them."""
    page = await open_page(context, daemon.url("/"))
    await page.get_by_text("Options").click()
    await page.get_by_label("Names and terms").fill("Ray Serve\nvLLM, Kubernetes\n\n")
    await page.get_by_label("Delay").select_option("high")
    await page.get_by_label("Translate into English").check()
    await page.reload()
    await page.get_by_role("button", name="Start").click()
    await expect(page.locator("#status")).to_have_text("Listening")
    await page.get_by_text("Options").click()
    await expect(page.get_by_label("Delay")).to_be_disabled()
    await page.get_by_label("Names and terms").fill("Ray Serve")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Escape")
    await page.get_by_role("button", name="Stop").click()
    await expect(page.locator("#status")).to_have_text("Ready")

    (stream,) = daemon.scheduler.streams
    options = stream.options
    assert (options.keyterms, options.delay, options.task) == (("Ray Serve", "vLLM", "Kubernetes"), "high", "translate")
    assert [update.keyterms for update in stream.updates] == [("Ray Serve",)]


async def test_nothing_leaves_a_narrow_window(context: BrowserContext, daemon: Daemon) -> None:
    """The options, whose button may stand at the left in a second row, and a model with a long name."""
    daemon.scheduler.model = "somebody/a-model-with-quite-a-long-name-of-its-own"
    page = await open_page(context, daemon.url("/"))
    await expect(page.locator("#audience")).to_be_visible()
    for width in (710, 844):
        await page.set_viewport_size({"width": width, "height": 390})
        await page.get_by_text("Options").click()
        left = await page.locator("#options .sheet").evaluate("(sheet) => sheet.getBoundingClientRect().left")
        assert left >= 0
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        await page.keyboard.press("Escape")


async def test_more_terms_than_the_protocol_allows_are_left_out(context: BrowserContext, daemon: Daemon) -> None:
    """By number, by length and by bytes: the session begins all the same."""
    page = await open_page(context, daemon.url("/"))
    for terms in (",".join(map(str, range(500))), "x" * 500, "\n".join("漢" * 100 + str(i) for i in range(200))):
        await page.get_by_text("Options").click()
        await page.get_by_label("Names and terms").fill(terms)
        await page.keyboard.press("Tab")
        await page.get_by_role("button", name="Start").click()
        await expect(page.locator("#status")).to_have_text("Listening")
        await page.get_by_role("button", name="Stop").click()
        await expect(page.locator("#status")).to_have_text("Ready")

    assert [len(stream.options.keyterms) for stream in daemon.scheduler.streams] == [256, 1, 27]


async def test_what_the_server_cannot_do_is_not_offered(
    context: BrowserContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No compressed sound without its decoder, no translation by an English model."""
    monkeypatch.setattr("streamer.audio.opus.find_spec", lambda _: None)
    async with serving(CONFIG, FakeScheduler(languages=("en",))) as daemon:
        page = await open_page(context, daemon.url("/"))
        await page.get_by_text("Options").click()
        await expect(page.get_by_label("Names and terms")).to_be_visible()
        await expect(page.locator("#language")).to_contain_text("English")
        await expect(page.get_by_label("Slow network")).to_be_hidden()
        await expect(page.get_by_label("Translate into English")).to_be_hidden()


async def test_a_daemon_that_is_down_is_named(context: BrowserContext, config: Config) -> None:
    """Before Start, and while captions run."""
    async with serving(config, FakeScheduler(script_of(TURNS))) as daemon:
        page = await context.new_page()
        await page.goto(daemon.url("/"))
        await expect(page.locator("#language")).to_contain_text("German")
    await page.get_by_role("button", name="Start").click()
    await expect(page.get_by_role("alert")).to_contain_text("does not answer. Is the daemon still running?")
    await expect(page.locator("#status")).to_have_text(re.compile("Ready|Reconnecting…"))
    async with serving(config, FakeScheduler(script_of(TURNS))):
        if await page.locator("#status").inner_text() == "Ready":
            await page.get_by_role("button", name="Start").click()
        await expect(page.locator("#status")).to_have_text("Listening")
        await expect(page.get_by_role("alert")).to_be_hidden()
    await expect(page.get_by_role("alert")).to_contain_text("does not answer")


async def test_a_clock_runs_while_captions_run(context: BrowserContext, daemon: Daemon) -> None:
    """The time of the recording, which the next one continues."""
    page = await running_page(context, daemon)
    clock = page.get_by_role("timer")
    await expect(clock).to_have_text(re.compile(r"^0:(0[2-9]|[1-5]\d)$"))
    await page.get_by_role("button", name="Stop").click()
    await expect(clock).to_be_hidden()
    stopped = str(await page.locator("#clock").text_content())
    await page.get_by_role("button", name="Start").click()
    await expect(clock).to_be_visible()
    await expect(clock).not_to_have_text(stopped)
    assert await clock.inner_text() > stopped


async def test_the_key_of_the_address_is_used(context: BrowserContext, tmp_path: Path) -> None:
    """Nobody is asked; a wrong one in the address gives way to the one that is typed, after a reload too."""
    (tmp_path / "keys").write_text(f"laptop {KEY}\n")
    async with serving(CONFIG, FakeScheduler(script_of(TURNS)), keys=Keys(tmp_path / "keys")) as daemon:
        page = await context.new_page()
        await page.goto(daemon.url(f"/#key={KEY}"))
        await page.get_by_role("button", name="Start").click()
        await expect(page.locator("#status")).to_have_text("Listening")
        await page.get_by_role("button", name="Stop").click()
        await expect(page.locator("#status")).to_have_text("Ready")

        other = await context.new_page()
        await other.goto(daemon.url("/#key=wrong-key-wrong-key"))
        await other.get_by_role("button", name="Start").click()
        await other.get_by_label("API key").fill(KEY)
        await other.keyboard.press("Enter")
        await expect(other.locator("#status")).to_have_text("Listening")
        await other.get_by_role("button", name="Stop").click()
        await expect(other.locator("#status")).to_have_text("Ready")
        await other.reload()
        await other.get_by_role("button", name="Start").click()
        await expect(other.locator("#status")).to_have_text("Listening")


async def test_full_screen_shows_the_captions_alone(context: BrowserContext, daemon: Daemon) -> None:
    """With a way back, by the button and by Escape; a browser without full screen covers the page instead."""
    page = await running_page(context, daemon)
    for has_full_screen in (True, False):
        if not has_full_screen:
            await page.evaluate("document.documentElement.requestFullscreen = undefined")
        await page.locator("#display summary").click()
        await page.get_by_role("button", name="Full screen", exact=True).click()
        await expect(page.locator("#toggle")).to_be_hidden()
        board = await page.locator(".board").bounding_box()
        size = page.viewport_size
        assert board is not None
        assert size is not None
        assert board["width"] >= size["width"] - 1
        await page.get_by_role("button", name="Leave full screen").click()
        await expect(page.locator("#toggle")).to_be_visible()
    await page.locator("#display summary").click()
    await page.get_by_role("button", name="Full screen", exact=True).click()
    await page.keyboard.press("Escape")
    await expect(page.locator("#toggle")).to_be_visible()


@pytest.mark.parametrize(("width", "height"), [(1280, 860), (390, 844), (844, 390)])
async def test_the_newest_words_are_in_view(browser: Browser, daemon: Daemon, width: int, height: int) -> None:
    """At every size of the text and number of lines, also after the window has turned."""
    context = await browser.new_context(permissions=["microphone"], viewport={"width": width, "height": height})
    page = await open_page(context, daemon.url("/"))
    await expect(page.locator("#toggle")).to_be_enabled()
    hidden: list[str] = await page.evaluate(
        """async () => {
            const { CaptionView } = await import("/pages/caption-view.js");
            const [stage, root] = [document.getElementById("stage"), document.documentElement];
            const hidden = [];
            for (const size of [0.6, 1, 2.1]) for (const lines of [2, 6]) {
                root.style.setProperty("--size", size);
                root.style.setProperty("--lines", lines);
                const view = new CaptionView(stage);
                stage.replaceChildren();
                for (let turn = 0; turn < 12; turn++) {
                    for (let n = 1; n <= 24; n += 4) {
                        const words = Array.from({ length: n }, (_, i) => `word${i}`).join(" ");
                        view.show({ key: `${turn}`, text: words, partial: " newest" });
                        stage.getAnimations().forEach((animation) => animation.finish());
                        await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve, 0)));
                        const word = stage.querySelector("p:last-child .partial").getBoundingClientRect();
                        const box = stage.getBoundingClientRect();
                        const distance = stage.scrollHeight - stage.clientHeight - stage.scrollTop;
                        const lineHeight = parseFloat(getComputedStyle(stage).lineHeight);
                        const isOn = box.top >= 0 && box.bottom <= innerHeight + 1 && box.right <= innerWidth + 1;
                        const isSettling = distance <= 1.5 * lineHeight; // by a line, smoothly
                        if (!isOn || !isSettling || word.bottom - distance > box.bottom + 1) {
                            hidden.push([size, lines, turn, n, box.top, box.bottom, word.bottom, distance].join());
                        }
                    }
                }
            }
            return hidden;
        }"""
    )
    await context.close()

    assert hidden == []
