"""The transcript of the live page in a real browser: kept, renewed, corrected, marked and downloaded."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from playwright.async_api import BrowserContext, Page, expect

from streamer.config import Config, ServerConfig
from streamer.protocol.events import TurnEnd, TurnRevised, Word
from tests.browser.conftest import open_page
from tests.helpers.fake_scheduler import FakeScheduler, ScriptLine, script_of
from tests.helpers.http_daemon import Daemon, serving

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

CONFIG = Config(server=ServerConfig(port=0))
TURNS = ["So the first thing is latency.", "The second thing is that no word is lost.", "The third comes much later."]


@pytest.fixture
def script() -> list[ScriptLine]:
    """Two turns in about four seconds, and a third later."""
    return script_of(TURNS, word_s=0.2)


@pytest.fixture
def window() -> dict[str, Any]:
    """In a place whose time of day is not UTC."""
    return {"timezone_id": "America/St_Johns", "locale": "en-GB"}


def said_surely(text: str, confidences: Sequence[float]) -> list[ScriptLine]:
    """One turn after half a second, whose words are this sure, a quarter of a second each."""
    words = tuple(
        Word(text=word, start_s=0.25 * i, end_s=0.25 * (i + 1), confidence=confidence, stable=True)
        for i, (word, confidence) in enumerate(zip(text.split(), confidences, strict=True))
    )
    end_s = 0.25 * len(words)
    return [(0.5, TurnEnd(turn=0, text=text, start_s=0.0, end_s=end_s, language="de", reason="silence", words=words))]


async def record(page: Page, until: str) -> None:
    """Start, wait for a text in the transcript, and stop."""
    await page.get_by_role("button", name="Start").click()
    await expect(page.locator("#log")).to_contain_text(until)
    await page.get_by_role("button", name="Stop").click()
    await expect(page.locator("#status")).to_have_text("Ready")


async def downloaded(page: Page, name: str) -> tuple[str, str]:
    """Name and content of a download."""
    async with page.expect_download() as download:
        await page.get_by_role("button", name=name, exact=True).click()
    file = await download.value
    return file.suggested_filename, (await file.path()).read_text(encoding="utf-8")


async def test_the_transcript_survives_stop_and_reload(context: BrowserContext, daemon: Daemon) -> None:
    """Also the sentence that is not finished; a new recording continues the times."""
    page = await open_page(context, daemon.url("/"))
    await page.get_by_role("button", name="Start").click()
    await expect(page.locator("#log .turn")).to_have_count(1)
    await expect(page.locator("#stage")).to_contain_text("The second thing is that")
    page.on("dialog", lambda dialog: dialog.accept())  # a reload while captions run is asked about
    await page.reload()
    await expect(page.locator("#log .said").first).to_have_text(TURNS[0])
    await expect(page.locator("#log .said").last).to_contain_text("The second thing")

    await record(page, TURNS[1])
    times = await page.locator("#log time").all_inner_texts()
    await page.reload()

    await expect(page.locator("#log time")).to_have_text(times)
    assert [int(time.split(":")[1]) for time in times] == sorted(int(time.split(":")[1]) for time in times)
    _, text = await downloaded(page, "TXT")
    assert TURNS[1] in text


async def test_new_keeps_the_transcript_and_clear_deletes_it(context: BrowserContext, daemon: Daemon) -> None:
    """New puts it on the list of earlier ones, of which the newest twenty are kept; Clear asks first."""
    page = await open_page(context, daemon.url("/"))
    await record(page, TURNS[0])
    await expect(page.locator("#detected")).to_be_visible()
    await page.get_by_role("button", name="New", exact=True).click()
    await expect(page.locator("#log .turn")).to_have_count(0)
    await expect(page.locator("#detected")).to_be_hidden()
    await page.reload()
    await expect(page.locator("#log .turn")).to_have_count(0)

    await page.get_by_label("Earlier transcripts").select_option(index=1)
    await expect(page.locator("#log .said").first).to_have_text(TURNS[0])
    page.once("dialog", lambda dialog: dialog.dismiss())
    await page.get_by_role("button", name="Clear").click()
    await expect(page.locator("#log .said").first).to_have_text(TURNS[0])
    page.once("dialog", lambda dialog: dialog.accept())
    await page.get_by_role("button", name="Clear").click()
    await expect(page.locator("#log .turn")).to_have_count(0)
    await page.reload()
    await expect(page.get_by_label("Earlier transcripts")).to_be_hidden()


async def test_a_browser_keeps_twenty_transcripts(context: BrowserContext, daemon: Daemon) -> None:
    """The oldest is removed with its turns."""
    page = await open_page(context, daemon.url("/"))
    kept: dict[str, Any] = await page.evaluate(
        """async () => {
            const { Shelf } = await import("/pages/shelf.js");
            const shelf = await Shelf.open();
            for (let i = 0; i < 25; i++) {
                await shelf.put(`t${i}`, { n: 0, text: `text ${i}` });
                await shelf.begin({ id: `t${i}`, startedAt: i, model: "m" }, `text ${i}`);
            }
            const ids = (await shelf.list()).map(({ id }) => id);
            return { ids, first: await shelf.turns("t4"), last: await shelf.turns("t5") };
        }"""
    )

    assert kept == {"ids": [f"t{i}" for i in range(24, 4, -1)], "first": [], "last": [{"n": 0, "text": "text 5"}]}


async def test_two_tabs_write_two_transcripts(context: BrowserContext, daemon: Daemon) -> None:
    """Also a tab that was duplicated, with everything that the browser keeps for a tab."""
    page = await open_page(context, daemon.url("/"))
    await record(page, TURNS[0])
    async with context.expect_page() as opened:
        await page.evaluate("window.open('/', '_blank')")  # a window that is opened so inherits the storage of the tab
    other = await opened.value
    await expect(other.locator("#toggle")).to_be_enabled()

    await expect(other.locator("#log .turn")).to_have_count(0)
    await expect(page.locator("#log .said").first).to_have_text(TURNS[0])


async def test_a_reloaded_page_waits_for_the_one_before_it(context: BrowserContext, daemon: Daemon) -> None:
    """Which holds the transcript until the browser has ended it: that may take a while on a busy machine."""
    page = await open_page(context, daemon.url("/"))
    await record(page, TURNS[0])
    name = f"transcript {await page.evaluate('sessionStorage.transcript')}"
    other = await open_page(context, daemon.url("/overlay/options"))
    await other.evaluate(
        """async (name) => {
            const second = () => new Promise((resolve) => setTimeout(resolve, 1000));
            navigator.locks.request(name, second);
            while (!(await navigator.locks.query()).pending.length) await new Promise(requestAnimationFrame);
        }""",
        name,
    )
    await page.reload()
    await expect(page.locator("#log .said").first).to_have_text(TURNS[0])


async def test_downloads_tell_where_they_come_from(context: BrowserContext, daemon: Daemon) -> None:
    """Names in local time, which is that of the first words; JSON with date, language and model."""
    page = await open_page(context, daemon.url("/"))
    # nobody speaks for an hour
    await page.evaluate("() => { const now = Date.now; Date.now = () => now() + 3_600_000; }")
    await record(page, TURNS[1])

    name, text = await downloaded(page, "JSON")

    content = json.loads(text)
    date = datetime.fromisoformat(content["date"])
    assert date.utcoffset() is not None
    assert str(date.utcoffset()) != "0:00:00"
    assert abs(datetime.now(date.tzinfo) + timedelta(hours=1) - date) < timedelta(minutes=2)
    assert name == date.strftime("captions-%Y-%m-%d-%H%M.json")
    assert (content["model"], content["language"], content["turns"][0]["language"]) == ("fake", "en", "en")


async def test_a_wrong_word_can_be_corrected(context: BrowserContext) -> None:
    """In the files too; words that stay keep their times, after a reload as well, and Escape changes nothing."""
    script = said_surely("Wir reden von Resurf heute.", [0.9, 0.9, 0.9, 0.3, 0.9])
    async with serving(CONFIG, FakeScheduler(script)) as daemon:
        page = await open_page(context, daemon.url("/"))
        await record(page, "Resurf")
        await page.locator(".turn").hover()
        await page.get_by_role("button", name="Correct the sentence at 0:00").click()
        await page.get_by_label("Sentence at 0:00").fill("nonsense")
        await page.keyboard.press("Escape")
        await expect(page.locator("#log .said")).to_have_text("Wir reden von Resurf heute.")
        await page.keyboard.press("Enter")  # the focus is on the button again
        await page.get_by_label("Sentence at 0:00").fill("Wir reden von Ray Serve heute.")
        await page.keyboard.press("Enter")
        await expect(page.locator("#log .said")).to_have_text("Wir reden von Ray Serve heute.")
        await page.reload()
        await expect(page.locator("#log .said")).to_have_text("Wir reden von Ray Serve heute.")
        _, text = await downloaded(page, "JSON")

    (turn,) = json.loads(text)["turns"]
    assert turn["text"] == "Wir reden von Ray Serve heute."
    times = [(word["text"], word["start_s"], word["end_s"]) for word in turn["words"]]
    assert times[:3] == [("Wir", 0.0, 0.25), ("reden", 0.25, 0.5), ("von", 0.5, 0.75)]
    assert times[3:] == [("Ray", 0.75, 0.875), ("Serve", 0.875, 1.0), ("heute.", 1.0, 1.25)]


async def test_a_revision_outlives_an_editor_that_changed_nothing(context: BrowserContext) -> None:
    """It may come while a sentence is looked at in its editor."""
    revised = TurnRevised(turn=0, text="Wir reden von Ray Serve.", language="de", reason="text", model="base")
    script = [*said_surely("Wir reden von Resurf.", [0.9, 0.9, 0.9, 0.3]), (2.5, revised)]
    async with serving(CONFIG, FakeScheduler(script)) as daemon:
        page = await open_page(context, daemon.url("/"))
        await page.get_by_role("button", name="Start").click()
        await expect(page.locator("#log .said")).to_have_text("Wir reden von Resurf.")
        await page.locator(".turn").hover()
        await page.get_by_role("button", name="Correct the sentence at 0:00").click()
        await expect(page.locator("#stage")).to_have_text(revised.text)
        await page.keyboard.press("Enter")
        await expect(page.locator("#log .said")).to_have_text(revised.text)


async def test_words_tell_time_and_confidence_if_wanted(context: BrowserContext) -> None:
    """A click shows the time of a word, and unsure words are shaded; both can be chosen."""
    async with serving(CONFIG, FakeScheduler(said_surely("sure hardly guessed", [0.95, 0.6, 0.2]))) as daemon:
        page = await open_page(context, daemon.url("/"))
        await record(page, "guessed")
        word = page.locator(".word", has_text="guessed")
        plain = await word.evaluate("(word) => getComputedStyle(word).backgroundColor")
        await word.click()
        await expect(page.locator("#word-time")).to_have_text(re.compile(r"^guessed: 0:00\.5 . 0:00\.7 · 20 % sure$"))
        await expect(page.locator("#word-time")).to_be_in_viewport()
        await page.locator("#display summary").click()
        await page.get_by_label("Shade unsure words").check()
        await page.get_by_label("Times of words, by click or arrow keys").uncheck()
        await page.keyboard.press("Escape")
        shades = await page.locator(".word").evaluate_all(
            "(words) => words.map((word) => getComputedStyle(word).backgroundColor)"
        )
        await word.click()
        await expect(page.locator("#word-time")).to_be_hidden()

    assert shades[0] == plain
    assert len(set(shades)) == 3


async def test_corrections_of_any_kind_keep_the_times_in_order(context: BrowserContext, daemon: Daemon) -> None:
    """For random texts and edits: the words are those of the new text, in order, within the turn."""
    page = await open_page(context, daemon.url("/"))
    problems: list[str] = await page.evaluate(
        """async () => {
            const { realigned } = await import("/pages/corrections.js");
            let state = 7;
            const random = (n) => (state = (state * 48271) % 2147483647) % n;
            const said = (n) => Array.from({ length: n }, () => ["a", "bc", "def", "漢字", "é.", "x"][random(6)]);
            const problems = [];
            for (let round = 0; round < 500; round++) {
                const old = said(1 + random(12));
                const words = old.map((text, i) => (
                    { text, start_s: i, end_s: i + 0.8, confidence: 0.5, stable: true }));
                const edited = old.flatMap((text) => [[], [text], [text, "new"], said(1)][random(4)]);
                const turn = { text: old.join(" "), words, startS: 0, endS: old.length };
                const made = realigned(turn, edited.join("  "));
                const times = made.flatMap(({ start_s, end_s }) => [start_s, end_s]);
                const isOrdered = times.every((at, i) => at >= (times[i - 1] ?? 0) && at <= old.length);
                const isSaid = made.map(({ text }) => text).join() === edited.join();
                if (!isOrdered || !isSaid) problems.push(JSON.stringify([old, edited, made]));
                const same = realigned(turn, turn.text);
                if (JSON.stringify(same) !== JSON.stringify(words)) problems.push(JSON.stringify([old, same]));
            }
            return problems;
        }"""
    )

    assert problems == []


async def test_the_names_of_downloads_are_readable(context: BrowserContext, daemon: Daemon) -> None:
    """Every format has the same name but for its ending, without characters that some systems forbid."""
    page = await open_page(context, daemon.url("/"))
    await record(page, TURNS[0])
    names = [(await downloaded(page, name))[0] for name in ("TXT", "SRT", "VTT", "JSON")]

    assert all(re.fullmatch(r"captions-\d{4}-\d\d-\d\d-\d{4}\.(txt|srt|vtt|json)", name) for name in names)
    assert len({name.split(".")[0] for name in names}) == 1


async def tabbed(page: Page, n: int, *, back: bool = False) -> list[str]:
    """What has the focus after each of so many presses of Tab: the text of it, or its name."""
    seen = []
    for _ in range(n):
        await page.keyboard.press("Shift+Tab" if back else "Tab")
        seen.append(
            await page.evaluate("(document.activeElement.ariaLabel ?? document.activeElement.textContent).trim()")
        )
    return seen


async def test_the_transcript_is_one_stop_of_the_tab_key(context: BrowserContext, daemon: Daemon) -> None:
    """The newest sentence with its button; arrows go to the others, and the one that was left is found again."""
    page = await open_page(context, daemon.url("/"))
    await record(page, TURNS[2])
    await page.get_by_role("button", name="JSON").focus()

    assert await tabbed(page, 2) == [TURNS[2], "Correct the sentence at 0:04"]
    await page.keyboard.press("Home")
    assert await tabbed(page, 1) == ["Correct the sentence at 0:00"]
    assert (await tabbed(page, 2, back=True))[0] == TURNS[0]
    assert await tabbed(page, 1) == [TURNS[0]]
    for key, said in (("ArrowDown", TURNS[1]), ("ArrowUp", TURNS[0]), ("ArrowUp", TURNS[0]), ("End", TURNS[2])):
        await page.keyboard.press(key)
        await expect(page.locator(":focus")).to_have_text(said)


async def test_the_times_of_words_are_reached_by_arrow_keys(context: BrowserContext, daemon: Daemon) -> None:
    """Within a sentence from word to word; they are told to who does not see them, and Escape takes them away."""
    page = await open_page(context, daemon.url("/"))
    await record(page, TURNS[0])
    times = page.get_by_role("status").filter(has_text="sure")
    await page.get_by_role("button", name="JSON").focus()
    await page.keyboard.press("Tab")
    await page.keyboard.press("Home")
    for key, word in (("ArrowRight", "So"), ("ArrowRight", "the"), ("ArrowLeft", "So"), ("ArrowLeft", "So")):
        await page.keyboard.press(key)
        await expect(times).to_have_text(re.compile(rf"^{word}: \d:\d\d\.\d . .* % sure$"))
        await expect(page.locator(".chosen")).to_have_text(word)
    await page.keyboard.press("Escape")
    await expect(page.locator("#word-time")).to_be_hidden()
    await page.keyboard.press("ArrowLeft")
    await expect(times).to_contain_text("latency.: ")
    await page.keyboard.press("Tab")
    await expect(page.locator("#word-time")).to_be_hidden()


async def test_the_arrow_to_the_left_leads_on_in_arabic(context: BrowserContext) -> None:
    """There the next word is on the left."""
    async with serving(CONFIG, FakeScheduler(said_surely("مرحبا بكم جميعا", [0.9, 0.8, 0.7]))) as daemon:
        page = await open_page(context, daemon.url("/"))
        await record(page, "جميعا")
        await page.locator(".said").focus()
        for key, word in (("ArrowLeft", "مرحبا"), ("ArrowLeft", "بكم"), ("ArrowRight", "مرحبا")):
            await page.keyboard.press(key)
            await expect(page.locator("#word-time")).to_contain_text(word)


async def test_a_turn_that_is_revised_keeps_the_focus(context: BrowserContext) -> None:
    """Whoever is at it stays at it."""
    (ended,) = said_surely("almost right", [0.5, 0.5])
    again = TurnRevised(turn=0, text="quite right", language="de", reason="text", model="m")
    script: list[ScriptLine] = [ended, (4.0, again)]
    async with serving(CONFIG, FakeScheduler(script)) as daemon:
        page = await open_page(context, daemon.url("/"))
        await page.get_by_role("button", name="Start").click()
        await expect(page.locator("#log .said")).to_have_text("almost right")
        await page.get_by_role("button", name="Correct the sentence").focus()
        await expect(page.locator("#log .said")).to_have_text("quite right")
        await expect(page.get_by_role("button", name="Correct the sentence")).to_be_focused()
        await page.locator("#log .said").press("ArrowUp")
        await expect(page.locator("#log .said")).to_be_focused()


async def test_a_reader_at_the_end_stays_there(context: BrowserContext, daemon: Daemon) -> None:
    """Whatever changes the layout: the text, the window, another turn; one who has scrolled back does too."""
    page = await open_page(context, daemon.url("/"))
    await record(page, TURNS[2])
    behind_px = "(log) => log.scrollHeight - log.clientHeight - log.scrollTop"
    paper = "(log) => (log.parentElement.style.cssText = 'flex: none; height: 5rem; min-height: 0')"
    await page.locator("#log").evaluate(paper)
    for width, height in ((380, 700), (340, 600), (1280, 500)):
        await page.set_viewport_size({"width": width, "height": height})
        await page.wait_for_function(f"() => ({behind_px})(document.querySelector('#log')) < 2")
    await page.locator("#display summary").click()
    for _ in range(3):
        await page.get_by_role("button", name="Larger text").click()
    await page.wait_for_function(f"() => ({behind_px})(document.querySelector('#log')) < 2")
    await expect(page.get_by_role("button", name="Jump to latest")).to_be_hidden()

    await page.locator("#log").evaluate("(log) => (log.scrollTop = 0)")
    await page.get_by_role("button", name="Smaller text").click()
    await expect(page.get_by_role("button", name="Jump to latest")).to_be_visible()
    assert await page.locator("#log").evaluate("(log) => log.scrollTop") == 0
