"""The pages of an audience in a real browser: a room that is followed, and the overlay."""

from __future__ import annotations

import asyncio
import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import av
import msgspec
import pytest
import zxingcpp
from playwright.async_api import Browser, Route, expect

from streamer.access.keys import Keys
from streamer.config import Config, ServerConfig
from streamer.protocol.events import Caption, TurnEnd
from streamer.server.rooms.base_room import HISTORY
from streamer.server.rooms.room import Room
from tests.browser.conftest import count_wake_locks, expect_wake_locks, open_page
from tests.helpers.fake_scheduler import FakeScheduler, script_of
from tests.helpers.http_daemon import serving, within
from tests.helpers.waiting import until

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

TURNS = ["So the first thing is latency.", "The second thing is that no word is lost."]
CONFIG = Config(server=ServerConfig(port=0, rooms=True))


@pytest.fixture
def config(port: int) -> Config:
    """With rooms."""
    return Config(server=ServerConfig(port=port, rooms=True))


async def test_an_audience_follows_a_speaker(browser: Browser, config: Config) -> None:
    """Who is there before, who comes late, and after a restart of the server; nobody there knows a time of day."""
    context = await browser.new_context(permissions=["microphone"])
    script = script_of([*TURNS, "And so on."], stays_open=True)
    async with serving(config, FakeScheduler(script)) as daemon:
        early = await open_page(context, daemon.url("/watch/stage"))
        await expect(early.locator("#status")).to_have_text("Nobody is speaking")
        speaker = await open_page(context, daemon.url("/"))
        await speaker.get_by_label("Audience room").fill("stage")
        async with context.expect_page() as opened:
            await speaker.get_by_role("link", name="Audience:").click()
        late = await opened.value
        await speaker.get_by_role("button", name="Start").click()
        await expect(early.locator("#status")).to_have_text("Live")
        await expect(early.locator("#log")).to_contain_text(TURNS[1])
        await expect(early.locator("#stage .partial")).to_be_visible()
        await late.reload()
        await expect(late.locator("#log .turn")).to_have_count(2)
        assert await late.locator("#log time[title]").count() == 0
        assert await early.locator("#stage").get_attribute("aria-live") == "off"
        assert await early.get_by_role("log").locator(".partial").count() == 0
        await speaker.get_by_role("button", name="Stop").click()
        await expect(early.locator("#status")).to_have_text("Nobody is speaking")
    await expect(early.locator("#status")).to_have_text("Reconnecting…")
    async with serving(config):
        await expect(early.locator("#status")).to_have_text("Nobody is speaking")


async def test_a_room_that_is_not_there_is_explained(browser: Browser) -> None:
    """In words for who watches, and with what the operator can do; also under a name that is no address."""
    async with serving() as daemon:
        page = await (await browser.new_context()).new_page()
        for name in ("stage", "100%"):
            await page.goto(daemon.url(f"/watch/{name}"))
            await expect(page.get_by_role("alert")).to_contain_text("no audience rooms")


async def test_a_key_is_asked_for(browser: Browser, tmp_path: Path) -> None:
    """By the page of an audience, which then goes on; the key of the address is used, and a wrong one explained."""
    key, speaking = "0123456789abcdef0123", "speak-0123456789abcdef"
    (tmp_path / "keys").write_text(f"hall {key} watch\nstage {speaking} speak\n")
    async with serving(CONFIG, keys=Keys(tmp_path / "keys")) as daemon:
        page = await (await browser.new_context()).new_page()
        await page.goto(daemon.url("/watch/stage#key=wrong-key-wrong-key"))
        await expect(page.get_by_role("alert")).to_contain_text("did not accept the key")
        await page.get_by_label("API key").fill(speaking)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_contain_text("may not watch")
        await page.get_by_label("API key").fill(key)
        await page.keyboard.press("Enter")
        await expect(page.locator("#status")).to_have_text("Nobody is speaking")
        await expect(page.get_by_role("alert")).to_be_hidden()
        other = await (await browser.new_context(permissions=["microphone"])).new_page()
        await other.goto(daemon.url(f"/#key={key}"))
        await other.get_by_role("button", name="Start").click()
        await expect(other.get_by_role("alert")).to_contain_text("may watch, not speak")
        await other.goto(daemon.url(f"/watch/stage#key={key}"))
        await expect(other.locator("#status")).to_have_text("Nobody is speaking")
        await other.goto(daemon.url("/overlay?room=stage"))
        await expect(other.get_by_role("status")).to_contain_text("add #key=… to the end")
        await other.goto(daemon.url(f"/overlay?room=stage#key={key}"))
        await expect(other.get_by_role("status")).to_contain_text("Nobody is speaking in room “stage” yet")


async def test_the_link_is_shared(browser: Browser) -> None:
    """As a copy and as a QR code of the same address; the name of the room is there after a reload."""
    context = await browser.new_context(permissions=["microphone", "clipboard-read", "clipboard-write"])
    async with serving(CONFIG) as daemon:
        page = await open_page(context, daemon.url("/"))
        await page.get_by_label("Audience room").fill("stage-1")
        await page.get_by_label("Audience room").blur()
        await page.reload()
        await expect(page.get_by_label("Audience room")).to_have_value("stage-1")
        await page.clock.install()  # the button says so for two seconds
        await page.clock.pause_at(datetime.now(tz=UTC) + timedelta(minutes=1))
        await page.get_by_role("button", name="Copy link").click()
        await expect(page.get_by_role("button", name="Copied")).to_be_visible()
        await page.clock.run_for(2_000)
        await expect(page.get_by_role("button", name="Copy link")).to_be_visible()
        assert await page.evaluate("navigator.clipboard.readText()") == daemon.url("/watch/stage-1")
        await page.get_by_role("button", name="QR code").click()
        await expect(page.get_by_role("dialog")).to_contain_text("Only this machine can open this address")
        code = await page.get_by_role("img", name="QR code").screenshot()
        with av.open(io.BytesIO(code)) as file:
            image = next(file.decode(video=0)).to_ndarray(format="gray")
        assert [found.text for found in zxingcpp.read_barcodes(image)] == [daemon.url("/watch/stage-1")]
        await page.get_by_role("button", name="Close").click()
        await expect(page.get_by_role("dialog")).to_be_hidden()


async def test_what_was_said_survives_a_restart(browser: Browser, config: Config) -> None:
    """A connection that was lost shows nothing twice; a new daemon, which counts from 0 again, replaces nothing."""
    old, new = Room(), Room()
    async with serving(config, microphone=old) as daemon:
        with old.speaking("s_1"):
            for _, event in script_of(TURNS):
                old.publish(event)
        page = await open_page(await browser.new_context(), daemon.url("/watch"))
        await expect(page.locator("#log .said")).to_have_text(TURNS)
    await expect(page.locator("#status")).to_have_text("Reconnecting…")
    async with serving(config, microphone=old):
        await expect(page.locator("#status")).to_have_text("Nobody is speaking")
        await expect(page.get_by_role("alert")).to_be_hidden()
        await expect(page.locator("#log .said")).to_have_text(TURNS)
    await expect(page.locator("#status")).to_have_text("Reconnecting…")
    async with serving(config, microphone=new):
        await expect(page.locator("#status")).to_have_text("Nobody is speaking")
        with new.speaking("s_2"):
            for _, event in script_of(["It went on."]):
                new.publish(event)
            await expect(page.locator("#log .said")).to_have_text([*TURNS, "It went on."])
        with new.speaking("s_3"):
            await expect(page.locator("#log .turn")).to_have_count(0)


async def test_a_speaker_brings_the_talk_back(browser: Browser, config: Config) -> None:
    """After a restart of the server, for who has seen it and for who comes late."""
    context = await browser.new_context(permissions=["microphone"])
    async with serving(config, FakeScheduler(script_of(TURNS))) as daemon:
        early = await open_page(context, daemon.url("/watch/stage"))
        speaker = await open_page(context, daemon.url("/"))
        await speaker.get_by_label("Audience room").fill("stage")
        await speaker.get_by_role("button", name="Start").click()
        await expect(early.locator("#log .said")).to_have_text(TURNS)
    # its turn of the new session comes seconds after what the old one said
    went_on = [
        (at_s + 5.0, msgspec.structs.replace(event, turn=0))
        for at_s, event in script_of([*TURNS, "It went on."])
        if isinstance(event, Caption | TurnEnd) and event.turn == len(TURNS)
    ]
    async with serving(config, FakeScheduler(went_on)) as daemon:
        late = await open_page(context, daemon.url("/watch/stage"))
        for page in (late, early):
            await expect(page.locator("#log .said")).to_have_text([*TURNS, "It went on."])


async def test_text_has_its_language_and_room_for_its_marks(browser: Browser) -> None:
    """On the stage, in the transcript and on the overlay; whole lines of a script with high letters are shown."""
    room, thai = Room(), "ญี่ปุ่น ปู่ ที่นี่"
    async with serving(CONFIG, microphone=room) as daemon:
        page = await open_page(await browser.new_context(), daemon.url("/watch"))
        overlay = await open_page(page.context, daemon.url("/overlay"))
        await until(lambda: room.n_viewers == 2)
        with room.speaking("s_1"):
            for turn, (text, language) in enumerate([("Guten Tag.", "de"), (thai, "th")]):
                room.publish(
                    TurnEnd(turn=turn, text=text, start_s=turn, end_s=turn, language=language, reason="silence")
                )
            await expect(page.locator("#log .said").last).to_have_attribute("lang", "th")
            await expect(page.locator("#log .said").first).to_have_attribute("lang", "de")
            await expect(page.locator("#announced p").last).to_have_attribute("lang", "th")
            for shown in (page, overlay):
                await expect(shown.locator("#stage p").last).to_have_text(thai)
                await expect(shown.locator("#stage p").last).to_have_attribute("lang", "th")
                leading = """(stage) => {
                    const { lineHeight, fontSize } = getComputedStyle(stage);
                    return parseFloat(lineHeight) / parseFloat(fontSize);
                }"""
                assert await shown.locator("#stage").evaluate(leading) == pytest.approx(1.7, abs=0.01)
            lines = "(stage) => stage.clientHeight / parseFloat(getComputedStyle(stage).lineHeight)"
            assert await page.locator("#stage").evaluate(lines) == pytest.approx(2, abs=0.1)


async def test_forgotten_turns_are_counted(browser: Browser) -> None:
    """The last turns of a longer talk do not look like all of it, nor do those that a page keeps for so long."""
    microphone = Room()
    ends = [event for _, event in script_of(["Word."] * (HISTORY + 110)) if isinstance(event, TurnEnd)]
    async with serving(CONFIG, microphone=microphone) as daemon:
        with microphone.speaking("s_1"):
            for event in ends[: HISTORY + 7]:
                microphone.publish(event)
            page = await open_page(await browser.new_context(), daemon.url("/watch"))
            await expect(page.locator("#log .turn")).to_have_count(HISTORY)
            await expect(page.locator("#missing")).to_have_text(
                "without the first 7 sentences, which the server no longer has"
            )
            for event in ends[HISTORY + 7 :]:
                microphone.publish(event)
            await expect(page.locator("#missing")).to_contain_text("the first 10 sentences")
            await expect(page.locator("#log .turn")).to_have_count(HISTORY + 100)


async def test_the_screen_stays_on_while_somebody_speaks(browser: Browser) -> None:
    """Nobody touches a phone to read; it is asked again after the page was hidden, and sleeps when the talk is over."""
    context = await browser.new_context()
    await count_wake_locks(context)
    microphone = Room()
    async with serving(CONFIG, microphone=microphone) as daemon:
        page = await open_page(context, daemon.url("/watch"))
        await expect(page.locator("#status")).to_have_text("Nobody is speaking")
        assert await page.locator("html").get_attribute("data-wake-locks") is None
        with microphone.speaking("s_1"):
            await expect_wake_locks(page, 1, 1)
            await page.evaluate("() => document.dispatchEvent(new Event('visibilitychange'))")
            await expect_wake_locks(page, 2, 1)
        await expect_wake_locks(page, 2, 0)


async def test_a_server_that_is_down_is_named(browser: Browser) -> None:
    """On the page of an audience and on the overlay."""
    context = await browser.new_context()
    async with serving(CONFIG) as daemon:
        watching, over = await context.new_page(), await context.new_page()
        await watching.goto(daemon.url("/watch/stage"))
        await over.goto(daemon.url("/overlay?room=stage"))
        await expect(watching.locator("#status")).to_have_text("Nobody is speaking")
    await expect(watching.get_by_role("alert")).to_contain_text("does not answer")
    await expect(over.get_by_role("status")).to_contain_text("does not answer")


async def test_the_overlay_tells_no_trouble_that_is_over(browser: Browser, config: Config) -> None:
    """What it asked of a lost connection may be answered after the next one stands: it would be on air for nothing."""
    page = await (await browser.new_context()).new_page()
    room, asked, answered = Room(), asyncio.Event(), asyncio.Event()

    async def hold(route: Route) -> None:
        asked.set()
        await answered.wait()
        await route.abort()

    await page.route("**/healthz", hold)
    async with serving(config, microphone=room) as daemon:
        await page.goto(daemon.url("/overlay"))
        await expect(page.get_by_role("status")).to_contain_text("Nobody is speaking")
    await within(asked.wait())
    async with serving(config, microphone=room):
        with room.speaking("s_1"):
            await expect(page.get_by_role("status")).to_be_hidden()
            answered.set()
            await page.evaluate("fetch('/healthz').catch(() => null)")
            await expect(page.get_by_role("status")).to_be_hidden()


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ("", "captions no microphone"),
        ("?room=stage", "has no audience rooms"),
        ("?sise=48&back=blue&sample=yes", "unknown: sise, back"),
    ],
)
async def test_the_overlay_says_in_small_print_what_is_wrong(browser: Browser, search: str, message: str) -> None:
    """For a while: whoever sets the scene up sees it, and an audience does not."""
    async with serving() as daemon:
        page = await (await browser.new_context()).new_page()
        await page.clock.install()
        await page.goto(daemon.url(f"/overlay{search}"))
        await expect(page.get_by_role("status")).to_contain_text(message)
        await page.clock.fast_forward(25_000)
        await expect(page.get_by_role("status")).to_be_hidden()


async def test_overlay_on_nothing_has_edges_and_lines_can_be_centred(browser: Browser) -> None:
    """White letters on a white scene can be read; without `align` words stay where they are."""
    async with serving() as daemon:
        page = await (await browser.new_context()).new_page()
        stage = page.locator("#stage")
        for search, shadow, align in (
            ("back=none", True, "start"),
            ("back=none&edge=shadow", True, "start"),
            ("back=none&edge=none", False, "start"),
            ("align=center", False, "center"),
            ("align=right", False, "right"),
        ):
            await page.goto(daemon.url(f"/overlay?sample=yes&{search}"))
            await expect(stage).to_contain_text("captions as they will look")
            found = await stage.evaluate("(stage) => getComputedStyle(stage).textShadow")
            assert (found != "none") == shadow, search
            await expect(stage).to_have_css("text-align", align)


async def test_the_options_of_the_overlay_make_its_address(browser: Browser) -> None:
    """Defaults are left out, wrong values too, and the key stands where no server sees it."""
    async with serving() as daemon:
        page = await open_page(await browser.new_context(), daemon.url("/overlay/options"))
        await expect(page.locator("#address")).to_have_text(daemon.url("/overlay"))
        for name, value in (("room", "stage"), ("size", "48"), ("hold", "0"), ("key", "secret-key"), ("lines", "2")):
            await page.locator(f"[name={name}]").fill(value)
        await page.locator("[name=align]").select_option("center")
        address = daemon.url("/overlay?room=stage&size=48&align=center#key=secret-key")
        await expect(page.locator("#address")).to_have_text(address)
        async with page.context.expect_page() as opened:
            await page.get_by_role("link", name="sample").click()
        await expect((await opened.value).locator("#stage p")).to_have_css("font-size", "48px")


async def test_overlay(browser: Browser) -> None:
    """The microphone's captions on nothing, as the address says; what was said before does not come up again."""
    microphone = Room()
    script = [event for _, event in script_of(TURNS)]
    async with serving(CONFIG, microphone=microphone) as daemon:
        with microphone.speaking("s_1"):
            for event in script[:7]:
                microphone.publish(event)
            context = await browser.new_context()
            await context.clock.install()
            page = await open_page(context, daemon.url("/overlay?lines=1&size=44&color=ff0&hold=90"))
            await until(lambda: microphone.n_viewers == 1)
            for event in script[7:]:
                microphone.publish(event)
            await expect(page.locator("#stage")).to_contain_text("second thing")
            await expect(page.locator("#stage")).not_to_contain_text("first thing")
            ground = await page.evaluate("getComputedStyle(document.body).backgroundColor")
            line = page.locator("#stage p").last
            await expect(line).to_have_css("font-size", "44px")
            await expect(line).to_have_css("color", "rgb(255, 255, 0)")
            await page.clock.fast_forward(90_000)
            await expect(page.locator("#stage p")).to_have_count(0)

    assert ground == "rgba(0, 0, 0, 0)"
