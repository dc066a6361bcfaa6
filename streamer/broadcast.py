"""
One session shown to many viewers: the read-only feed `/v1/watch` behind the caption overlay.

Viewers hear, and are heard by, nobody. Each has its own bounded queue, so a slow one costs no other anything.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from starlette.websockets import WebSocket, WebSocketDisconnect

from streamer import websocket
from streamer.events import Caption, Event, TurnEnd
from streamer.protocol import Error, encode

MAX_PENDING = 256
"""Events a viewer may be behind; with one more it is cut, and shall connect again."""


class Viewer:
    """The queue of one viewer. A caption replaces an older one of its turn; nothing else is lost."""

    def __init__(self) -> None:
        self.is_cut = False
        self._pending: list[Event] = []
        self._news = asyncio.Event()

    def put(self, event: Event) -> None:
        """Queue an event, or cut the viewer if it is too far behind."""
        if isinstance(event, Caption):
            self._pending = [old for old in self._pending if not _is_same_turn(old, event)]
        if len(self._pending) >= MAX_PENDING:
            self.is_cut = True
            self._pending.clear()
        elif not self.is_cut:
            self._pending.append(event)
        self._news.set()

    async def __aiter__(self) -> AsyncIterator[Event]:
        """The events; ends when the viewer was cut."""
        while not self.is_cut:
            await self._news.wait()
            self._news.clear()
            while self._pending:
                yield self._pending.pop(0)


class Broadcast:
    """Where a session's events go in, and its viewers' come out."""

    def __init__(self) -> None:
        self._viewers: set[Viewer] = set()
        self._open_turn: Caption | None = None

    def publish(self, event: Event) -> None:
        """Hand an event to every viewer; never waits."""
        if isinstance(event, Caption):
            self._open_turn = event
        elif isinstance(event, TurnEnd):
            self._open_turn = None
        for viewer in self._viewers:
            viewer.put(event)

    def join(self) -> Viewer:
        """A new viewer, who is shown the open turn at once."""
        viewer = Viewer()
        if self._open_turn is not None:
            viewer.put(self._open_turn)
        self._viewers.add(viewer)
        return viewer

    def leave(self, viewer: Viewer) -> None:
        """Forget a viewer."""
        self._viewers.discard(viewer)


async def watch(socket: WebSocket, broadcast: Broadcast | None) -> None:
    """Serve one viewer until it leaves, is cut (1013), or there is nothing to watch (1000)."""
    await websocket.accept(socket)
    with contextlib.suppress(WebSocketDisconnect):
        if broadcast is None:
            message = "this daemon captions no microphone; start it with --mic"
            await websocket.send(socket, encode(Error(code="no_microphone", message=message)))
            await websocket.close(socket, 1000)
            return
        viewer = broadcast.join()
        try:
            await websocket.run_until_first(_send_all(socket, viewer), _wait_disconnect(socket))
            await websocket.close(socket, 1013)
        finally:
            broadcast.leave(viewer)


async def _send_all(socket: WebSocket, viewer: Viewer) -> None:
    async for event in viewer:
        await websocket.send(socket, encode(event))


async def _wait_disconnect(socket: WebSocket) -> None:
    # a viewer has nothing to say: what comes is dropped
    while True:
        await websocket.receive(socket)


def _is_same_turn(old: Event, new: Caption) -> bool:
    return isinstance(old, Caption) and old.turn == new.turn
