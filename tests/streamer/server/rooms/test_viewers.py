"""Tests of streamer/server/rooms/viewers.py, over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection

from streamer.access.keys import Keys
from streamer.config import Config, LimitsConfig, ServerConfig
from streamer.server.rooms.base_room import MAX_PENDING
from streamer.server.rooms.room import Past, Room
from streamer.server.rooms.rooms import Rooms
from streamer.server.rooms.viewers import PAST_AT_ONCE, watch
from streamer.server.turnstile import Turnstile
from streamer.server.websocket import WebSocketTransport, accept
from tests.helpers.asgi_client import AsgiClient
from tests.helpers.fake_scheduler import FakeScheduler, script_of
from tests.helpers.http_daemon import SECOND, Daemon, Message, closing, end, receive, receive_until, serving, start
from tests.helpers.waiting import TurnCount, counted_turns, until
from tests.streamer.server.rooms.test_room import caption, turn_end

ROOMS = Config(server=ServerConfig(port=0, rooms=True))


async def test_viewers_see_what_is_published() -> None:
    """The open turn at once, then everything; `/v1/watch` is the microphone's room."""
    microphone = Room()
    async with serving(microphone=microphone) as daemon:
        microphone.publish(caption(0, "so"))
        async with daemon.connect("/v1/watch") as viewer, daemon.connect("/v1/watch/microphone") as other:
            await receive_until(viewer, "caption")
            microphone.publish(caption(0, "so the"))
            messages = [await receive(viewer), *[await receive(other) for _ in range(3)]]

    assert [message.get("stable") for message in messages] == ["so the", None, "so", "so the"]


async def test_a_session_speaks_to_its_room() -> None:
    """Who waits in the room sees its captions, and when it has ended."""
    scheduler = FakeScheduler(script_of(["one two three"], word_s=0.2))
    async with (
        serving(ROOMS, scheduler) as daemon,
        daemon.connect("/v1/watch/stage") as viewer,
        daemon.connect("/v1/captions?room=stage") as speaker,
    ):
        assert not (await receive(viewer))["live"]
        await start(speaker)
        for _ in range(3):
            await speaker.send(SECOND)
        await end(speaker)
        messages = await receive_until(viewer, "turn_end")
        last = await receive(viewer)

    assert messages[0] == {"type": "room", "room": "stage", "speaker": 1, "live": True, "turns": 0}
    assert messages[-1]["text"] == "one two three"
    assert (last["type"], last["live"]) == ("room", False)


async def test_viewers_of_a_translation_are_told_the_language_of_the_text() -> None:
    """Its speaker gets that of the sound."""
    scheduler = FakeScheduler(script_of(["one two three"], word_s=0.2))
    async with (
        serving(ROOMS, scheduler) as daemon,
        daemon.connect("/v1/watch/stage") as viewer,
        daemon.connect("/v1/captions?room=stage") as speaker,
    ):
        await start(speaker, task="translate")
        scheduler.streams[0].say(turn_end(0, language="de"))
        told = [(await receive_until(socket, "turn_end"))[-1]["language"] for socket in (speaker, viewer)]

    assert told == ["de", "en"]


@pytest.mark.parametrize(
    ("config", "path", "code"),
    [
        (ROOMS, "/v1/captions?room=a%20b", "bad_room"),
        (Config(server=ServerConfig(port=0)), "/v1/captions?room=stage", "no_rooms"),
        (ROOMS, "/v1/captions?room=microphone", "room_taken"),
    ],
)
async def test_a_room_that_cannot_be_had_is_explained(config: Config, path: str, code: str) -> None:
    """To the speaker, with the policy close code."""
    async with serving(config) as daemon, daemon.connect(path) as speaker:
        await speaker.send('{"type":"start"}')
        messages, close_code = await closing(speaker)

    assert (messages[-1]["code"], close_code) == (code, 1008)


async def test_a_viewer_cut_is_told_to_come_back() -> None:
    """1013 means later."""
    microphone = Room()
    async with serving(microphone=microphone) as daemon, daemon.connect("/v1/watch") as viewer:
        await receive(viewer)
        for turn in range(MAX_PENDING + 1):
            microphone.publish(turn_end(turn))
        _, code = await closing(viewer)

    assert code == 1013


async def test_a_stalled_viewer_is_cut_off_alone() -> None:
    """Who takes nothing any more loses its place; who reads misses nothing."""
    microphone = Room()
    async with serving(microphone=microphone) as daemon, daemon.connect("/v1/watch") as viewer:
        await receive(viewer)
        reader, writer = await asyncio.open_connection("127.0.0.1", daemon.port, limit=1024)
        request = (
            "GET /v1/watch HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        writer.write(request.encode())
        await reader.readuntil(b"\r\n\r\n")
        turn = 0
        async with asyncio.timeout(120):
            while microphone.n_viewers == 2 or turn < 300:
                microphone.publish(turn_end(turn, "x" * 50_000))
                assert (await receive(viewer))["turn"] == turn
                turn += 1
        writer.close()

        assert microphone.n_viewers == 1


async def test_a_viewer_that_takes_no_message_is_cut_after_the_send_timeout() -> None:
    """Also while it is not far behind; its place is free again."""
    microphone = Room()
    microphone.publish(turn_end(0))
    client = AsgiClient(n_taken=2)
    await accept(client.socket)
    rooms = Rooms(Config(), microphone)
    async with asyncio.timeout(120):
        await watch(WebSocketTransport(client.socket, 0.05), rooms, "microphone", nullcontext(), Turnstile())

    assert client.taken_types == ["websocket.accept", "websocket.send"]
    assert rooms.n_viewers == microphone.n_viewers == 0


class CountingTransport:
    """A viewer that takes everything at once, and counts what it takes in each turn of the event loop."""

    def __init__(self, turns: TurnCount, taken: Counter[int]) -> None:
        self._turns, self._taken, self.n = turns, taken, 0

    async def receive(self) -> str:
        """Wait for ever."""
        return await asyncio.Event().wait() or ""

    async def send(self, _: str) -> None:
        """Take a message."""
        self.n += 1
        self._taken[self._turns.n] += 1

    async def close(self, code: int, reason: str = "") -> None:
        """Do nothing."""


@pytest.mark.parametrize("n_turns", [PAST_AT_ONCE - 1, 3 * PAST_AT_ONCE + 5])
async def test_a_full_room_gets_the_past_in_turns(n_turns: int) -> None:
    """Who waits for the talk, or comes later, gets all of it, and meanwhile the loop has turns for everybody else."""
    microphone, places = Room(), nullcontext()
    rooms, past, taken = Rooms(Config(), microphone), Turnstile(), Counter[int]()
    said = Past([turn_end(n) for n in range(n_turns)])
    async with counted_turns() as turns:
        viewers = [CountingTransport(turns, taken) for _ in range(8)]
        watching = [asyncio.create_task(watch(viewer, rooms, "microphone", places, past)) for viewer in viewers[:4]]
        await until(lambda: all(viewer.n == 1 for viewer in viewers[:4]))
        with microphone.speaking("s_1", said):
            watching += [
                asyncio.create_task(watch(viewer, rooms, "microphone", places, past)) for viewer in viewers[4:]
            ]
            await until(lambda: [viewer.n for viewer in viewers] == [n_turns + 2] * 4 + [n_turns + 1] * 4)
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)

    assert max(taken.values()) <= PAST_AT_ONCE + len(viewers)


async def test_a_viewer_of_a_daemon_without_microphone_is_told_so() -> None:
    """The page can say why it shows nothing."""
    async with serving() as daemon, daemon.connect("/v1/watch") as viewer:
        messages, code = await closing(viewer)

    assert (messages[-1]["code"], code) == ("no_microphone", 1008)


async def test_a_viewer_too_many_is_told_when_to_come_back() -> None:
    """Over WebSocket and over HTTP."""
    config = Config(server=ServerConfig(port=0, rooms=True), limits=LimitsConfig(max_viewers=0))
    async with serving(config) as daemon, daemon.connect("/v1/watch/stage") as viewer:
        messages, code = await closing(viewer)
        response = await daemon.get("/v1/watch/stage")

    assert (messages[-1]["code"], code) == ("overloaded", 1013)
    assert (response.status_code, response.headers["retry-after"]) == (503, "30")


async def test_one_caller_leaves_viewers_to_others(tmp_path: Path) -> None:
    """A token that a page shows to everybody must not take all places, over WebSocket or over HTTP."""
    (tmp_path / "keys").write_text("a aaaaaaaaaaaaaaaa\nb bbbbbbbbbbbbbbbb\n")
    config = Config(server=ServerConfig(port=0, rooms=True), limits=LimitsConfig(max_viewers=3))
    as_a, as_b = ({"Authorization": f"Bearer {key * 16}"} for key in "ab")
    async with serving(config, keys=Keys(tmp_path / "keys")) as daemon:
        watching = daemon.connect("/v1/watch/stage", additional_headers=as_a)
        async with watching as first, daemon.connect("/v1/watch/stage", additional_headers=as_a) as second:
            await receive(first)
            await receive(second)
            assert (await daemon.get("/v1/watch/stage", **as_a)).status_code == 503
            async with daemon.connect("/v1/watch/hall", additional_headers=as_b) as other:
                assert (await receive(other))["room"] == "hall"


async def events_of(daemon: Daemon, path: str, n: int, **headers: str) -> list[tuple[str, dict[str, Any]]]:
    """The first server-sent events of a room, with their ids."""
    async with (
        httpx.AsyncClient(trust_env=False) as client,
        client.stream("GET", daemon.url(path), headers=headers) as response,
    ):
        assert response.headers["content-type"].startswith("text/event-stream")
        return [event async for event in _parsed(response, n)]


async def _parsed(response: httpx.Response, n: int) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    id_ = ""
    async for line in response.aiter_lines():
        if line.startswith("id: "):
            id_ = line[4:]
        elif line.startswith("data: "):
            yield id_, json.loads(line[6:])
            n -= 1
            if not n:
                return


async def test_server_sent_events_go_on_where_they_stopped() -> None:
    """`Last-Event-ID` names what was seen last."""
    microphone = Room()
    for turn in range(3):
        microphone.publish(turn_end(turn))
    async with serving(microphone=microphone) as daemon:
        first = await events_of(daemon, "/v1/watch/microphone", 3)
        again = await events_of(daemon, "/v1/watch/microphone", 2, **{"Last-Event-ID": first[-1][0]})
        foreign = await events_of(daemon, "/v1/watch/microphone", 2, **{"Last-Event-ID": "0-99"})

    assert [event["turn"] for _, event in first[1:]] == [0, 1]
    assert again[1][1]["turn"] == 2
    assert foreign[1][1]["turn"] == 0


async def test_an_unknown_room_is_no_stream() -> None:
    """A plain 404 with the reason."""
    async with serving() as daemon:
        response = await daemon.get("/v1/watch/stage")

    assert (response.status_code, response.json()["code"]) == (404, "no_rooms")


async def ended_turns(viewer: ClientConnection, n_turns: int) -> list[tuple[int, str]]:
    """Numbers and texts of the next turns that a viewer is told to have ended."""
    turns: list[tuple[int, str]] = []
    while len(turns) < n_turns:
        message = (await receive_until(viewer, "turn_end"))[-1]
        turns.append((message["turn"], message["text"]))
    return turns


async def test_a_speaker_brings_the_room_back() -> None:
    """
    Past turns are shown before those of a session that the daemon does not know, and again when it knows the session
    and has forgotten the room: then the open turn goes on.
    """
    scheduler = FakeScheduler(script_of(["one two three"], word_s=0.2))
    speaking, watching = "/v1/captions?room=stage", "/v1/watch/stage"
    past: list[Message] = [{"turn": 0, "text": "so"}, {"turn": 1, "text": "it", "open": True}]
    said = [(0, "so"), (1, "it"), (2, "one two three")]
    async with serving(ROOMS, scheduler) as daemon:
        async with daemon.connect(speaking) as speaker, daemon.connect(watching) as viewer:
            _, started = await start(speaker, resume={"session": "s_other", "token": "r_other", "turns": past})
            await speaker.send(SECOND)
            await speaker.send(SECOND)
            assert await ended_turns(viewer, 3) == said
            await speaker.close(4000)
        await scheduler.streams[0].detached.wait()
        past = [{"turn": turn, "text": text} for turn, text in said] + [{"turn": 3, "text": "goes on", "open": True}]
        resume = {"session": started["session"], "token": started["resume"], "turns": past, "first_turn": 2}
        async with daemon.connect(speaking) as speaker, daemon.connect(watching) as viewer:
            await start(speaker, resume=resume)
            scheduler.streams[0].say(turn_end(1, "goes on and ends"))
            assert await ended_turns(viewer, 4) == [*said, (3, "goes on and ends")]
