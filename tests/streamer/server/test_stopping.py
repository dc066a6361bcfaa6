"""Tests of streamer/server/stopping.py."""

from __future__ import annotations

import asyncio

from starlette.types import Message, Receive, Scope, Send

from streamer.server.stopping import StopAnswers


async def stopped(scope: Scope, *, begun: bool) -> list[Message]:
    """What is sent to a client whose request is cancelled, before or after the response began."""
    sent: list[Message] = []

    async def stuck(scope: Scope, receive: Receive, send: Send) -> None:
        if begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.Event().wait()

    async def receive() -> Message:
        raise AssertionError("the body is not asked for")

    async def send(message: Message) -> None:
        sent.append(message)

    task = asyncio.create_task(StopAnswers(stuck)(scope, receive, send))
    await asyncio.sleep(0)
    task.cancel()
    await task
    return sent


async def test_a_request_without_an_answer_gets_one() -> None:
    """503, so that a client tries again."""
    start, _ = await stopped({"type": "http"}, begun=False)
    assert start["status"] == 503


async def test_what_has_begun_is_only_cut() -> None:
    """A second response cannot be sent, and a WebSocket has its own close."""
    assert len(await stopped({"type": "http"}, begun=True)) == 1
    assert await stopped({"type": "websocket"}, begun=False) == []
