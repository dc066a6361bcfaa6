"""Tests of streamer/server/read_ahead.py: control frames are answered while audio waits, within bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from streamer.access.allowances import Allowance, note
from streamer.server.read_ahead import LONG_TEXT, OVERHEAD_BYTES, ReadAhead
from tests.helpers.http_daemon import SECOND, end, serving, start, within
from tests.helpers.waiting import counted_turns, until_idle

SCOPE: Scope = {"type": "websocket"}
App = Callable[[Receive], Awaitable[None]]


def received(data: bytes) -> Message:
    """A binary message."""
    return {"type": "websocket.receive", "bytes": data}


def disconnected(code: int) -> Message:
    """The end of a connection."""
    return {"type": "websocket.disconnect", "code": code}


class Server:
    """A server that has these messages for the application; `n_read` counts those that were read."""

    def __init__(self, *messages: Message) -> None:
        self._messages = list(messages)
        self.n_read = 0
        self.exhausted = asyncio.Event()

    async def receive(self) -> Message:
        """The next message; after the last one it waits."""
        if self.n_read == len(self._messages):
            self.exhausted.set()
            await asyncio.Event().wait()
        self.n_read += 1
        return self._messages[self.n_read - 1]


async def settle() -> None:
    """Let everything that can go on do so."""
    await until_idle(300)


async def run(app: App, server: Server, **bounds: int) -> ReadAhead:
    """Run an application to its end; the middleware that ran it."""

    async def called(_: Scope, receive: Receive, __: Send) -> None:
        await app(receive)

    async def send(_: Any) -> None:
        raise AssertionError("nothing is sent")

    ahead = ReadAhead(called, **bounds)
    await within(ahead({**SCOPE}, server.receive, send))
    return ahead


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=30), st.integers(1, 4000))
def test_messages_come_in_order_within_the_bounds(blocks: list[bytes], most: int) -> None:
    """Read ahead up to the bound, and one message more at most; all of them are taken in the end, the loss last."""
    sizes = [len(block) + OVERHEAD_BYTES for block in blocks]
    server = Server(*map(received, blocks), disconnected(1006))

    async def take_all(receive: Receive) -> None:
        for i, block in enumerate(blocks):
            await settle()
            waiting = sum(sizes[i : server.n_read])
            assert waiting < most + max(sizes)
            assert server.n_read > len(blocks) or waiting >= most, "it reads as far as it may"
            assert (await receive())["bytes"] == block
        assert (await receive())["code"] == 1006

    ahead = asyncio.run(run(take_all, server, fast_bytes=most, most_bytes=most))
    assert ahead.n_bytes == 0


async def test_a_client_that_has_closed_for_good_is_not_heard_to_the_end() -> None:
    """Its place is free at once, whatever still waits."""

    async def take_late(receive: Receive) -> None:
        await settle()
        assert await receive() == disconnected(1000)

    ahead = await run(take_late, Server(*[received(bytes(100))] * 50, disconnected(1000)))
    assert ahead.n_bytes == 0


async def test_beyond_the_bound_of_all_connections_one_message_waits() -> None:
    """Others cannot take the memory of a connection, nor a connection that of others."""

    async def take_nothing(_: Receive) -> None:
        await settle()

    server = Server(*[received(bytes(100))] * 50)
    await run(take_nothing, server, all_bytes=0)
    assert server.n_read == 1


async def test_no_connection_has_more_than_it_leaves_to_the_others() -> None:
    """However many come, all together keep the bound, and each has a message at least."""
    servers = [Server(*[received(bytes(100))] * 200) for _ in range(8)]
    most = 100 * (100 + OVERHEAD_BYTES)

    async def take_nothing(_: Scope, __: Receive, ___: Send) -> None:
        await asyncio.Event().wait()

    ahead = ReadAhead(take_nothing, all_bytes=most)
    async with asyncio.TaskGroup() as group:
        tasks = []
        for server in servers:
            tasks.append(group.create_task(ahead({**SCOPE}, server.receive, _unsent)))
            await settle()
        n_read = [server.n_read for server in servers]
        for task in tasks:
            task.cancel()
    assert n_read == sorted(n_read, reverse=True)
    assert n_read[0] == 50
    assert min(n_read) >= 1
    assert sum(n_read) <= 100 + len(servers)
    assert ahead.n_bytes == 0


async def test_no_caller_has_more_than_its_part() -> None:
    """Its connections share it, and each has a message; another caller reads on."""
    most, message = 90 * (100 + OVERHEAD_BYTES), received(bytes(100))
    shared: list[Server] = [Server(*[message] * 200) for _ in range(8)]
    other, allowance = Server(*[message] * 200), Allowance()

    async def take_nothing(_: Scope, __: Receive, ___: Send) -> None:
        await asyncio.Event().wait()

    ahead = ReadAhead(take_nothing, caller_bytes=most)
    async with asyncio.TaskGroup() as group:
        tasks = []
        for server in (*shared, other):
            scope = {**SCOPE}
            note(scope, Allowance() if server is other else allowance)
            tasks.append(group.create_task(ahead(scope, server.receive, _unsent)))
            await settle()
        for task in tasks:
            task.cancel()

    assert shared[0].n_read == other.n_read == 80
    assert min(server.n_read for server in shared) >= 1
    assert sum(server.n_read for server in shared) <= 90 + len(shared)
    assert allowance.n_ahead == 0


async def test_a_text_counts_as_its_bytes() -> None:
    """Also where a single emoji makes its letters take four bytes each; the application gets it as it was."""
    text = "😀" + "x" * 1000

    async def take_late(receive: Receive) -> None:
        await settle()
        assert ahead[0].n_bytes == len(text.encode()) + OVERHEAD_BYTES
        assert await receive() == {"type": "websocket.receive", "text": text}

    ahead = list[ReadAhead]()

    async def called(_: Scope, receive: Receive, __: Send) -> None:
        await take_late(receive)

    ahead.append(ReadAhead(called))
    await within(ahead[0]({**SCOPE}, Server({"type": "websocket.receive", "text": text}).receive, _unsent))


async def _unsent(_: Any) -> None:
    raise AssertionError("nothing is sent")


async def test_between_the_bounds_it_reads_on_slowly() -> None:
    """So that a ping behind what the kernels hold is reached in time."""
    server = Server(*[received(bytes(100))] * 50)

    async def wait_for_all(_: Receive) -> None:
        await server.exhausted.wait()

    await run(wait_for_all, server, fast_bytes=1)


async def test_what_waits_is_given_back_when_the_application_ends() -> None:
    """A connection that is over holds nothing of the bound of all."""

    async def take_one(receive: Receive) -> None:
        await receive()
        await settle()

    assert (await run(take_one, Server(*[received(bytes(100))] * 50))).n_bytes == 0


async def test_an_error_of_the_server_is_raised_where_it_is_read() -> None:
    """Behind the messages before it."""

    class Broken(Server):
        async def receive(self) -> Message:
            if self.n_read == 1:
                raise ValueError("broken")
            return await super().receive()

    async def take(receive: Receive) -> None:
        await receive()
        with pytest.raises(ValueError, match="broken"):
            await receive()

    await run(take, Broken(received(b"a")))


async def test_a_ping_behind_seven_minutes_of_audio_is_answered() -> None:
    """While the session takes none of it; then all of it is there."""
    async with serving() as daemon, daemon.connect() as client:
        await start(client)
        stream = daemon.scheduler.streams[0]
        stream.room.clear()
        for _ in range(140):
            await client.send(SECOND * 3)
        await within(await client.ping())
        assert stream.samples == []
        stream.room.set()
        assert (await end(client))[-1]["audio_s"] == 420.0


async def test_long_texts_come_one_at_a_time() -> None:
    """However many clients have sent one; short ones of others do not wait, and a slow client keeps nobody waiting."""
    taken, at_turns = list[str](), list[int]()

    async def called(scope: Scope, receive: Receive, _: Send) -> None:
        await receive()
        taken.append(scope["name"])
        at_turns.append(turns.n)
        await asyncio.Event().wait()

    async def send(_: Any) -> None:
        raise AssertionError("nothing is sent")

    ahead = ReadAhead(called)
    texts = {"a": "x" * LONG_TEXT, "b": "x" * LONG_TEXT, "c": "x" * LONG_TEXT, "short": "x"}
    servers = {name: Server({"type": "websocket.receive", "text": text}) for name, text in texts.items()}
    async with counted_turns() as turns:
        works = [
            asyncio.create_task(ahead({**SCOPE, "name": name}, one.receive, send)) for name, one in servers.items()
        ]
        await settle()
    for work in works:
        work.cancel()
    await asyncio.gather(*works, return_exceptions=True)

    assert taken == ["short", "a", "b", "c"]
    assert len(set(at_turns)) == len(at_turns)
