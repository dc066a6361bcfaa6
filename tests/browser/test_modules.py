"""The modules of the pages by themselves in a real browser: subtitles against the vectors, the documented client."""

from __future__ import annotations

import base64
import functools
import json
import random
import re
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zxingcpp
from playwright.async_api import Browser, expect
from playwright.async_api import Error as PlaywrightError

from streamer.config import Config, ServerConfig
from streamer.protocol.events import Caption, Event, TurnEnd, Word
from streamer.protocol.options import Update
from tests.browser.conftest import open_page
from tests.helpers.fake_scheduler import FakeScheduler, script_of
from tests.helpers.http_daemon import serving, within
from tests.helpers.live_recordings import RATE, SECONDS, recorded

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

ROOT = Path(__file__).parent.parent.parent
CONFIG = Config(server=ServerConfig(port=0))


async def test_subtitles_are_those_of_the_daemon(browser: Browser) -> None:
    """For every vector the page makes the same text, SubRip and WebVTT as `streamer.subtitles.cues`."""
    vectors = json.loads((ROOT / "tests" / "data" / "subtitles.json").read_text(encoding="utf-8"))
    async with serving(CONFIG) as daemon:
        page = await open_page(await browser.new_context(), daemon.url("/overlay"))
        made: list[dict[str, Any]] = await page.evaluate(
            """async (vectors) => {
                const { toFile } = await import("/pages/subtitles.js");
                return vectors.map(({ turns }) => {
                    const all = turns.map((turn) => (
                        { text: turn.text, startS: turn.start_s, endS: turn.end_s, words: turn.words ?? [] }));
                    return { txt: toFile("txt", all), srt: toFile("srt", all), vtt: toFile("vtt", all) };
                });
            }""",
            vectors,
        )

    assert made == [{key: vector[key] for key in ("txt", "srt", "vtt")} for vector in vectors]


async def test_text_has_its_language(browser: Browser) -> None:
    """An ended turn has its own, an open one that of the session or of the turn before; a translation is English."""
    async with serving(CONFIG) as daemon:
        page = await open_page(await browser.new_context(), daemon.url("/overlay"))
        found = await page.evaluate(
            """async () => {
                const { Turns } = await import("/pages/turns.js");
                const turns = new Turns();
                const span = { start_s: 0, end_s: 1 };
                const said = (turn, language) => [
                    turns.apply({ type: "caption", turn, stable: "a", partial: "", ...span }).lang,
                    turns.apply({ type: "turn_end", turn, text: "a", language, ...span }).lang,
                ];
                turns.apply({ type: "started", language: "auto", task: "transcribe" });
                const detected = [said(0, "de"), said(1, "jw")];
                turns.expect({ language: "fr" });
                const chosen = said(2, "fr");
                turns.restart();
                turns.apply({ type: "started", language: "auto", task: "translate" });
                return [...detected, chosen, said(0, "de"), [turns.all.at(-1).language]];
            }"""
        )

    assert found == [["", "de"], ["de", "jv"], ["fr", "fr"], ["en", "en"], ["de"]]


async def test_a_microphone_that_gives_zeros_alone_is_silent(browser: Browser) -> None:
    """After five seconds of them; the noise of a quiet room is none."""
    async with serving(CONFIG) as daemon:
        page = await open_page(await browser.new_context(), daemon.url("/overlay"))
        found = await page.evaluate(
            """async () => {
                const { Silence } = await import("/pages/silence.js");
                const [silence, second] = [new Silence(100), new Int16Array(100)];
                const noise = second.slice().fill(1, 40, 41);
                return [...Array(6).fill(second), noise, ...Array(4).fill(second)].map((block) => silence.hears(block));
            }"""
        )

    assert found == [False] * 4 + [True] * 2 + [False] * 5


async def test_qr_codes_are_read_by_another_program(browser: Browser) -> None:
    """Texts of every length that a code can hold, beyond ASCII too, in all ten versions; a longer one is refused."""
    chance = random.Random(18)
    texts = ["".join(chance.choices("abcXYZ0189/:.-_#=äß漢", k=n)) for n in range(1, 140, 7)]
    texts += ["x" * n for n in (14, 15, 26, 27, 84, 85, 106, 107, 122, 123, 152, 153, 180, 181, 213)]
    async with serving(CONFIG) as daemon:
        page = await open_page(await browser.new_context(), daemon.url("/overlay"))
        made: list[list[list[bool]]] = await page.evaluate(
            'async (texts) => texts.map((await import("/pages/qr.js")).qrMatrix)', texts
        )
        with pytest.raises(PlaywrightError, match="holds 213 bytes, the text has 214"):
            await page.evaluate('async () => (await import("/pages/qr.js")).qrMatrix("x".repeat(214))')
    images = [np.pad(~np.array(matrix), 4, constant_values=True).repeat(4, 0).repeat(4, 1) for matrix in made]
    read = [zxingcpp.read_barcodes(image.astype(np.uint8) * 255) for image in images]

    assert [[code.text for code in codes] for codes in read] == [[text] for text in texts]
    assert {len(matrix) for matrix in made} == {17 + 4 * version for version in range(1, 11)}


async def test_example_of_the_client(browser: Browser) -> None:
    """The example at the head of client.js, as it stands there."""
    source = (ROOT / "streamer" / "server" / "pages" / "client.js").read_text(encoding="utf-8")
    lines = [line[7:] for line in source.splitlines() if re.match(r"^//     ?\S", line)]
    opening, _, closing = "\n".join(lines).partition("// later\n")
    module = opening.replace('import { Captions, Microphone } from "/pages/client.js";', "")
    assert "Captions" in module
    assert "captions.end()" in closing
    async with serving(CONFIG, FakeScheduler(script_of(["one two three"]))) as daemon:
        context = await browser.new_context(permissions=["microphone"])
        page = await open_page(context, daemon.url("/overlay"))
        await page.evaluate(
            f"""async () => {{
                const {{ Captions, Microphone }} = await import("/pages/client.js");
                const show = (stable, partial) => (document.title = `${{stable}}|${{partial}}`);
                const keep = (text) => (document.title = text);
                {module}
                window.finish = async () => {{ {closing} return "ended"; }};
            }}"""
        )
        await expect(page).to_have_title("one two three")
        assert await page.evaluate("finish()") == "ended"


@pytest.mark.parametrize("encoding", ["container", "webm_opus"])
async def test_a_recording_is_sent_again_from_its_start(browser: Browser, config: Config, encoding: str) -> None:
    """It can be read only as a whole, under both names of a container: after a lost connection all of it comes."""
    scheduler = FakeScheduler()
    async with serving(config, scheduler) as daemon:
        page = await open_page(await browser.new_context(), daemon.url("/overlay"))
        await page.evaluate(
            """async ([encoding, data]) => {
                const { Captions } = await import("/pages/client.js");
                const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
                const captions = new Captions({ audio: { encoding, rate: 48000, channels: 1 } });
                captions.send(bytes.subarray(0, bytes.length / 2), 1);
                await new Promise((resolve) => captions.on("started", resolve));
                window.finish = async () => {
                    captions.send(bytes.subarray(bytes.length / 2), 2);
                    return (await captions.end()).error;
                };
            }""",
            [encoding, base64.b64encode(recorded("webm opus")).decode()],
        )
        await within(scheduler.streams[0].fed.wait())
    async with serving(config, scheduler):
        assert await page.evaluate("finish()") is None

    [stream] = scheduler.streams
    assert sum(map(len, stream.samples)) == pytest.approx(SECONDS * RATE, abs=0.1 * RATE)


AUDIO = '{ encoding: "pcm_s16le", rate: 16000, channels: 1 }'


async def test_a_key_that_no_page_can_send_is_refused(browser: Browser) -> None:
    """As one that the server does not know: the browser itself refuses its letters."""
    async with serving(CONFIG) as daemon:
        page = await open_page(await browser.new_context(), daemon.url("/overlay"))
        codes = await page.evaluate(
            f"""async () => {{
                const {{ Captions, Watch }} = await import("/pages/client.js");
                const ended = (place) => new Promise((resolve) => place.on("end", resolve));
                const speaker = ended(new Captions({{ audio: {AUDIO}, token: "k3y/with=" }}));
                const viewer = ended(new Watch({{ token: "my key" }}));
                return [(await speaker).error.code, (await viewer).error.code];
            }}"""
        )

    assert codes == ["unauthorized", "unauthorized"]


async def test_a_token_is_asked_for_again(browser: Browser) -> None:
    """Whoever gives tokens may be away when the network is."""
    async with serving(CONFIG) as daemon:
        page = await open_page(await browser.new_context(), daemon.url("/overlay"))
        n_asked = await page.evaluate(
            f"""async () => {{
                const {{ Captions }} = await import("/pages/client.js");
                let nAsked = 0;
                const token = async () => {{
                    nAsked += 1;
                    if (nAsked === 1) throw new Error("no network");
                    return "t";
                }};
                const captions = new Captions({{ audio: {AUDIO}, token }});
                await new Promise((resolve) => captions.on("started", resolve));
                captions.abandon();
                return nAsked;
            }}"""
        )

    assert n_asked == 2


SPEAK = f"""async () => {{
    const {{ Captions }} = await import("/pages/client.js");
    window.captions = new Captions({{ audio: {AUDIO} }});
    window.draining = new Promise((resolve) => captions.on("draining", resolve));
    window.said = new Promise((resolve) => captions.on("caption", resolve).on("turn_end", resolve));
    window.over = new Promise((resolve) => captions.on("end", resolve));
    captions.send(new Int16Array(16000).fill(1000));
    await new Promise((resolve) => captions.on("started", resolve));
}}"""
"""Opens a session and sends it a second of sound."""


async def test_a_change_during_an_outage_reaches_the_session(browser: Browser, config: Config) -> None:
    """A session that is known again goes on with its own options: what was changed meanwhile is told again."""
    scheduler = FakeScheduler()
    async with serving(config, scheduler) as daemon:
        page = await open_page(await browser.new_context(), daemon.url("/overlay"))
        await page.evaluate(SPEAK)
        await within(scheduler.streams[0].fed.wait())
    await page.evaluate("captions.update({ language: 'de' })")
    async with serving(config, scheduler):
        assert await page.evaluate("captions.end()") == {"error": None}

    assert [stream.updates for stream in scheduler.streams] == [[Update(language="de")]]


async def test_a_start_that_was_not_answered_is_resumed(browser: Browser) -> None:
    """The session that it has opened all the same has a place, and perhaps a room, that another one would not get."""
    scheduler = FakeScheduler()
    async with serving(CONFIG, scheduler) as daemon:
        page = await open_page(await browser.new_context(), daemon.url("/overlay"))
        error = await page.evaluate(
            f"""async () => {{
                const {{ Captions }} = await import("/pages/client.js");
                let isLost = false;
                window.WebSocket = class extends WebSocket {{
                    constructor(...values) {{
                        super(...values);
                        this.addEventListener("message", (event) => {{
                            if (isLost || JSON.parse(event.data).type !== "started") return;
                            isLost = true;
                            event.stopImmediatePropagation();
                            this.close(4000);
                        }});
                    }}
                }};
                const captions = new Captions({{ audio: {AUDIO} }});
                await new Promise((resolve) => captions.on("started", resolve));
                return (await captions.end()).error;
            }}"""
        )

    assert error is None
    assert len(scheduler.streams) == 1


async def test_an_end_during_a_drain_loses_no_sound(browser: Browser, config: Config) -> None:
    """The `bye` of a server that stops does not answer an end that it ignored: the next server gets the rest."""
    before, after = FakeScheduler(), FakeScheduler()
    async with serving(config, before) as daemon:
        page = await open_page(await browser.new_context(), daemon.url("/overlay"))
        await page.evaluate(SPEAK)
        await within(before.streams[0].fed.wait())
        await daemon.connections.announce_drain(20.0)
        await page.evaluate("draining")
        await page.evaluate("() => { captions.send(new Int16Array(16000).fill(1000)); window.ended = captions.end(); }")
        before.streams[0].end()
        await within(before.streams[0].detached.wait())
    async with serving(config, after):
        assert await page.evaluate("ended") == {"error": None}

    assert sum(map(len, after.streams[0].samples)) == RATE


async def test_an_idle_session_ends_with_its_last_words(browser: Browser) -> None:
    """What was said before a page fell silent is told behind the error, before the end."""
    end = TurnEnd(turn=0, text="one", start_s=0.1, end_s=0.6, language="en", reason="end")
    async with serving(Config(server=ServerConfig(port=0, idle_s=3.0)), FakeScheduler([(60.0, end)])) as daemon:
        page = await open_page(await browser.new_context(), daemon.url("/overlay"))
        await page.evaluate(SPEAK)
        said, ended = await page.evaluate("Promise.all([said, over])")

    assert (said["text"], ended["error"]["code"]) == ("one", "idle")


WORD = Word(text="one", start_s=0.1, end_s=0.6, confidence=1.0, stable=True)


@pytest.mark.parametrize(
    "event",
    [
        Caption(turn=0, rev=1, stable="one", partial=" two", start_s=0.1, end_s=0.9, words=(WORD,)),
        TurnEnd(turn=0, text="one", start_s=0.1, end_s=0.6, language="en", reason="silence", words=(WORD,)),
    ],
    ids=["caption", "turn_end"],
)
async def test_a_new_server_does_not_repeat_stable_words(browser: Browser, config: Config, event: Event) -> None:
    """The session goes on behind the last of them, though the old server had not told yet that it needs no more."""
    before, after = FakeScheduler([(1.0, event)]), FakeScheduler()
    async with serving(config, before) as daemon:
        page = await open_page(await browser.new_context(), daemon.url("/overlay"))
        await page.evaluate(SPEAK)
        await page.evaluate("said")
    async with serving(config, after):
        assert await page.evaluate("captions.end()") == {"error": None}

    [stream] = after.streams
    assert sum(map(len, stream.samples)) == RATE - WORD.end_s * RATE


async def test_a_viewer_may_leave_at_once(browser: Browser) -> None:
    """Before it has connected, as a component does that is mounted twice: it opens no connection then."""
    async with serving(CONFIG) as daemon:
        page = await open_page(await browser.new_context(), daemon.url("/overlay"))
        states = await page.evaluate(
            """async () => {
                const { Watch } = await import("/pages/client.js");
                const states = [];
                new Watch({}).on("state", (state) => states.push(state)).close();
                await new Promise((resolve) => setTimeout(resolve));
                return states;
            }"""
        )

    assert states == []


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """Origin of a server of somebody else, with an empty page; it is on this machine, as browsers ask it to be."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("<!doctype html><title></title><link rel=icon href=data:,>")
    pages = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "site"))
    with ThreadingHTTPServer(("127.0.0.1", 0), pages) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


async def test_a_page_of_another_site_imports_the_client(browser: Browser, site: str) -> None:
    """It hears the microphone there, and its session is that of the daemon that the module came from."""
    config = Config(server=ServerConfig(port=0, allowed_origins=(site,)))
    async with serving(config, FakeScheduler(script_of(["one two three"]))) as daemon:
        context = await browser.new_context(permissions=["microphone"])
        page = await open_page(context, f"{site}/")
        await page.evaluate(
            """async (module) => {
                const { Captions, Microphone } = await import(module);
                const microphone = await Microphone.open();
                const captions = new Captions({ audio: microphone.audio });
                captions.on("turn_end", ({ text }) => (document.title = text));
                microphone.onChunk = (chunk, endS) => captions.send(chunk, endS);
            }""",
            daemon.url("/pages/client.js"),
        )
        await expect(page).to_have_title("one two three")
