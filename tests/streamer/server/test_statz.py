"""Tests of streamer/server/statz.py."""

from __future__ import annotations

import os

from streamer.server import statz
from tests.helpers.http_daemon import serving as serving_http
from tests.helpers.scripted_engine import serving, spoken


async def test_each_session_has_a_line_after_those_of_the_daemon() -> None:
    """With its caller and its state, and without any secret."""
    async with serving(resume_s=3600) as service:
        service.engine.hold()
        first, second = service.open(session="s_1", caller="kitchen"), service.open(session="s_2")
        await first.feed(spoken("b c d f", pause_s=0.2))
        second.detach()
        await service.held()
        page = statz.render("1.0", "toy", 90061.5, 2, service.scheduler.statistics())

    lines = page.splitlines()
    assert lines[0] == "streamer 1.0, model toy, up 1 d 01:01:01"
    assert lines[2] == "sessions       2 of 8, 1 speaking; 2 connections"
    assert lines[5] == f"engine 0 pid {os.getpid()} rows 0 row_cost_ms 1.0 restarts 0 alive"
    assert lines[7].split()[:2] == ["session", "caller"]
    assert lines[8].split()[:3] == ["s_1", "kitchen", "1"]
    assert lines[8].endswith("speaking")
    assert lines[9].split()[:3] == ["s_2", "-", "0"]
    assert lines[9].endswith("silent, no connection")
    assert first.token not in page


async def test_the_page_is_plain_text() -> None:
    """Also without any session."""
    async with serving_http() as daemon:
        answer = await daemon.get("/statz")

    assert answer.headers["content-type"].startswith("text/plain")
    assert "model fake, up 0 d 00:00:0" in answer.text
