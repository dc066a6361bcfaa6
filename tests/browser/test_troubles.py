"""What a page tells when a server refuses or fails: each error of the protocol, from a server that answers with it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from playwright.async_api import Browser, BrowserContext, Page, WebSocketRoute, expect

from streamer.protocol.errors import ERROR_CODES
from tests.browser.conftest import open_page
from tests.helpers.fake_scheduler import ScriptLine, script_of
from tests.helpers.http_daemon import Daemon
from tests.helpers.waiting import until

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

PASSING = ("draining", "internal", "overloaded")
"""After these a client comes back by itself."""
KEPT = "This page tries again by itself. What you say is kept for two minutes."


@pytest.fixture
def script() -> list[ScriptLine]:
    """Somebody speaks all the time."""
    return script_of(["So the first thing is latency, and nobody wants to wait for a word."], stays_open=True)


class Refusing:
    """A server that refuses every session and viewer with one error."""

    code = ""

    def __init__(self) -> None:
        self.n_refused = 0

    async def start_at(self, page: Page) -> None:
        """Take the place of the server in a page."""
        await page.route_web_socket("**/v1/captions*", self._greet)
        await page.route_web_socket("**/v1/watch/*", self._refuse)

    def _greet(self, socket: WebSocketRoute) -> None:
        limits = {"max_frame_bytes": 1 << 20, "idle_s": 60.0}
        socket.on_message(self._refused(socket))
        hello = {"type": "hello", "protocol": "captions.v1", "session": "s", "resume": "r", "model": "m"}
        socket.send(json.dumps({**hello, "limits": limits}))

    def _refused(self, socket: WebSocketRoute) -> Callable[[str | bytes], object]:
        return lambda message: self._refuse(socket) if isinstance(message, str) else None

    async def _refuse(self, socket: WebSocketRoute) -> None:
        self.n_refused += 1
        error = {"type": "error", "code": self.code, "message": f"found {self.code}", "fatal": True}
        socket.send(json.dumps({**error, **({"retry_after_s": 0.2} if self.code == "overloaded" else {})}))
        await socket.close(code=ERROR_CODES[self.code][0])


async def test_a_speaker_is_told_what_to_do(context: BrowserContext, daemon: Daemon) -> None:
    """Whatever the server refuses: what was found, and a remedy, or that the page helps itself."""
    server, page = Refusing(), await context.new_page()
    await server.start_at(page)
    await page.goto(daemon.url("/"))
    remedy = re.compile(r"press Start|Choose another|give you one", re.IGNORECASE)
    for server.code in sorted(set(ERROR_CODES) - {*PASSING}):
        await page.get_by_role("button", name="Start").click()
        await expect(page.locator("main > .notice:visible")).to_contain_text(remedy)
        await expect(page.locator("#status")).to_have_text("Ready")
        await expect(page.locator("#key-form")).to_be_visible(visible=server.code in ("forbidden", "unauthorized"))
        await page.reload()


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("overloaded", "The server has no free place."),
        ("internal", "The server failed. Its log says why."),
        ("draining", "The server restarts."),
    ],
)
async def test_what_the_server_said_is_not_replaced_by_a_guess(
    context: BrowserContext, daemon: Daemon, code: str, told: str
) -> None:
    """While the page tries again, it does not speak of a lost connection, nor of a proxy."""
    server, page = Refusing(), await context.new_page()
    server.code = code
    await server.start_at(page)
    await page.goto(daemon.url("/"))
    await page.evaluate(
        """() => {
            window.told = new Set();
            const note = () => window.told.add(document.querySelector("#notice").textContent);
            new MutationObserver(note).observe(document.querySelector("#notice"), { childList: true });
        }"""
    )
    await page.get_by_role("button", name="Start").click()
    await until(lambda: server.n_refused >= 3)
    assert await page.evaluate("[...window.told]") == [f"{told} {KEPT}"]
    await expect(page.locator("#delay")).to_be_hidden()


@pytest.mark.parametrize("path", ["/watch/stage", "/overlay?room=stage"])
async def test_a_viewer_comes_back_where_the_server_may_be_well_again(
    browser: Browser, daemon: Daemon, path: str
) -> None:
    """It says so meanwhile; after any other error it says what to do, and asks no more."""
    server, page = Refusing(), await (await browser.new_context()).new_page()
    await server.start_at(page)
    for server.code in (*PASSING, "bad_value", "room_taken"):
        server.n_refused = 0
        await page.goto(daemon.url(path))
        if server.code in PASSING:
            await expect(page.locator("#notice")).to_contain_text("This page tries again by itself.")
            await until(lambda: server.n_refused >= 2)
        else:
            ended = f"The server ended the captions: found {server.code}. Re"
            await expect(page.locator("#notice")).to_contain_text(ended)
            assert server.n_refused == 1


async def test_a_delay_is_that_of_words_that_come_now(context: BrowserContext, daemon: Daemon) -> None:
    """It is not shown while the server is away."""
    page = await open_page(context, daemon.url("/"))
    await page.get_by_role("button", name="Start").click()
    await expect(page.locator("#delay")).to_be_visible()
    await daemon.http.stop()
    await expect(page.locator("#status")).to_have_text("Reconnecting…")
    await expect(page.locator("#delay")).to_be_hidden()
    await expect(page.locator("#notice")).to_contain_text(f"does not answer. {KEPT}")
