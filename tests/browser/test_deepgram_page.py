"""A page that is written for Deepgram: its WebSocket with the key as a subprotocol, and what MediaRecorder makes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import soxr
from playwright.async_api import expect

from tests.browser.conftest import SPOKEN_RATE, OpenChromium, save_wav
from tests.helpers.daemon_process import daemon_process, with_silence, word_errors
from tests.helpers.recordings import Recording

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

KEY = "browser-0123456789abcdef"
EVERY_MS = 250
"""Between two pieces of a recording, milliseconds."""
PAGE = """async ([address, key, every]) => {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    const recorder = new MediaRecorder(stream, { mimeType: "audio/webm" });
    const socket = new WebSocket(address, ["token", key]);
    window.finals = [];
    window.errors = [];
    recorder.ondataavailable = ({ data }) => data.size && socket.readyState === 1 && socket.send(data);
    socket.onmessage = ({ data }) => {
        const { channel, is_final } = JSON.parse(data);
        const { transcript } = channel.alternatives[0];
        if (transcript && is_final) document.title = window.finals.push(transcript) && window.finals.join(" ");
    };
    socket.onerror = () => window.errors.push("the socket failed");
    window.onerror = (message) => window.errors.push(message);
    await new Promise((resolve) => (socket.onopen = resolve));
    recorder.start(every);
    window.stop = () => (recorder.stop(), socket.close());
}"""
"""
The calls that Deepgram's starters and tutorials for browsers make, in their order: no parameters in the address, the
recorder starts once the socket is open, each message is taken to have alternatives, and nothing is said at the end.
"""


async def test_a_page_for_deepgram_shows_what_was_said(
    chromium: OpenChromium, recordings: dict[str, Recording], tmp_path: Path
) -> None:
    """With the address alone changed."""
    spoken = recordings["dev-sns-0870"]
    # the page records once its socket is open, which may take a moment
    speech = np.concatenate([np.zeros(16_000, np.float32), with_silence(spoken.samples, 4.0)])
    sound = soxr.resample(speech, 16_000, SPOKEN_RATE)
    browser = await chromium(save_wav(tmp_path / "spoken.wav", np.asarray(sound, dtype=np.float32)))
    (tmp_path / "keys").write_text(f"page {KEY} speak\n")
    async with daemon_process(tmp_path, STREAMER_SERVER_KEYS_FILE=str(tmp_path / "keys")) as daemon:
        context = await browser.new_context(permissions=["microphone"])
        page = await context.new_page()
        await page.goto(daemon.url("/overlay/options"))
        await page.evaluate(PAGE, [daemon.url("/v1/listen", "ws"), KEY, EVERY_MS])
        await expect(page).to_have_title(re.compile(r"do for them\W*$", re.IGNORECASE))
        said = " ".join(await page.evaluate("finals"))
        assert await page.evaluate("errors") == []
        await page.evaluate("stop()")
    await browser.close()
    assert word_errors(spoken.text, re.sub(r"\s+", " ", said)) <= 0.2, said
