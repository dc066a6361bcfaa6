"""Two daemons behind the balancer of docs/scaling.md: one is killed, and a client that resumes goes on at the other."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import httpx

from tests.helpers.daemon_process import DaemonProcess, daemon_process
from tests.helpers.nginx import balancer, needs_nginx
from tests.helpers.resuming import ResumingClient
from tests.helpers.scripted_engine import spoken, story

pytestmark = needs_nginx
SCRIPTED = (sys.executable, "-m", "tests.helpers.scripted_daemon", "serve")
N_CLIENTS = 6


async def n_sessions(daemon: DaemonProcess) -> int:
    """Of one daemon."""
    found = re.search(r"^streamer_sessions (\S+)$", (await daemon.get("/metrics")).text, re.MULTILINE)
    assert found is not None
    return int(float(found[1]))


async def test_no_word_is_lost_with_a_daemon(tmp_path: Path) -> None:
    """Its clients speak on at the other one; the text of all is exact, and those of the other one notice nothing."""
    for name in ("first", "second", "nginx"):
        (tmp_path / name).mkdir()
    said = [story(40, seed=n) for n in range(N_CLIENTS)]
    async with (
        asyncio.timeout(300),
        daemon_process(tmp_path / "first", SCRIPTED, STREAMER_SCHEDULER_MAX_SESSIONS="16") as first,
        daemon_process(tmp_path / "second", SCRIPTED, STREAMER_SCHEDULER_MAX_SESSIONS="16") as second,
        balancer(tmp_path / "nginx", (first.port, second.port)) as port,
    ):
        url = f"ws://127.0.0.1:{port}/v1/captions"
        clients = [ResumingClient(lambda: url, spoken(text, 0.9), pace=3.0) for text in said]
        speaking = [asyncio.create_task(client.run()) for client in clients]
        for client in clients:
            await client.connected.wait()
        while await n_sessions(first) + await n_sessions(second) < N_CLIENTS:  # noqa: ASYNC110 - other processes
            await asyncio.sleep(0.1)
        assert await n_sessions(first) == await n_sessions(second) == N_CLIENTS // 2
        assert not any(task.done() for task in speaking), "the fault came too late"
        first.process.kill()
        await asyncio.gather(*speaking)
        async with httpx.AsyncClient(trust_env=False) as http:
            assert (await http.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200

    assert [client.text for client in clients] == said
    assert sorted(client.n_connections for client in clients) == [1] * (N_CLIENTS // 2) + [2] * (N_CLIENTS // 2)
