"""Serves the viewers of a room, read-only: over WebSocket, and as server-sent events for tools without WebSockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from streamer.access.refusals import refusal
from streamer.errors import OverloadError, ProtocolError
from streamer.server.duplex import Transport, drop_frames, telling_errors
from streamer.server.rooms.base_room import Message, Viewer
from streamer.server.rooms.interfaces import RoomService, WatchedRoom
from streamer.server.tasks import run_until_first
from streamer.server.turnstile import Turnstile
from streamer.server.websocket import tell_error

STILL_HERE_S = 15.0
"""Seconds between comments in a silent stream of server-sent events, which proxies would close otherwise."""
PAST_AT_ONCE = 32
"""Past messages that a viewer is sent in one turn: 2,000 of them for 200 viewers are six seconds of work."""


async def watch(
    transport: Transport, rooms: RoomService, name: str, place: AbstractContextManager[None], past: Turnstile
) -> None:
    """
    Serve one viewer until it leaves, takes no message in time, or is too far behind (1013).

    Args:
        transport: Accepted. Frames of a viewer are dropped.
        rooms: Rooms of the daemon.
        name: Room to watch; a viewer of a room that does not exist is told so (1008).
        place: Held while the viewer is there; OverloadError: its caller has too many.
        past: For past messages, of all viewers of the daemon.
    """
    async with telling_errors(lambda error: tell_error(transport, error)):
        with place, await rooms.view(name) as (_, viewer):
            await run_until_first(_send_all(transport, viewer, past), drop_frames(transport), viewer.wait_cut())
        await transport.close(1013)


async def _send_all(transport: Transport, viewer: Viewer, past: Turnstile) -> None:
    async for message in _in_turns(viewer, past):
        await transport.send(message.text)


async def _in_turns(viewer: Viewer, past: Turnstile) -> AsyncIterator[Message]:
    """The messages of a viewer; the loop has time for everybody else while a full room gets the past."""
    n = 0
    async for message in viewer:
        if viewer.n_past and n % PAST_AT_ONCE == 0:
            await past.pass_through()
        n = n + 1 if viewer.n_past else 0
        yield message


async def watch_events(
    request: Request, rooms: RoomService, name: str, place: AbstractContextManager[None], past: Turnstile
) -> Response:
    """
    Answer with the messages of a room as `text/event-stream`; `Last-Event-ID` continues after the last seen message.

    Args:
        request: Of the viewer.
        rooms: Rooms of the daemon.
        name: Room to watch. A viewer that cannot join gets 404 or 503 with the reason.
        place: As for `watch`.
        past: As for `watch`.
    """
    last_id = request.headers.get("last-event-id", "")
    try:
        with contextlib.ExitStack() as joining:
            joining.enter_context(place)
            room, viewer = joining.enter_context(await rooms.view(name, last_id))
            joined = joining.pop_all()
    except (ProtocolError, OverloadError) as error:
        return refusal(error)
    # proxies such as nginx buffer a response unless this header forbids it
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return _EventStream(joined, _server_sent(room, viewer, past), headers)


class _EventStream(StreamingResponse):
    """Leaves the room when the response is over, also if it never began."""

    def __init__(self, joined: contextlib.ExitStack, events: AsyncIterator[str], headers: dict[str, str]) -> None:
        super().__init__(events, headers=headers, media_type="text/event-stream")
        self._joined = joined

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """
        Send the events until the viewer leaves or is cut.

        Args:
            scope: As in ASGI.
            receive: As in ASGI.
            send: As in ASGI.
        """
        with self._joined:
            await super().__call__(scope, receive, send)


async def _server_sent(room: WatchedRoom, viewer: Viewer, past: Turnstile) -> AsyncIterator[str]:
    messages = aiter(_in_turns(viewer, past))
    while True:
        following = asyncio.ensure_future(anext(messages, None))
        try:
            while not (await asyncio.wait([following], timeout=STILL_HERE_S))[0]:
                yield ": still here\n\n"
            message = following.result()
        finally:
            following.cancel()
        if message is None:
            return
        yield f"id: {room.run}-{message.number}\ndata: {message.text}\n\n"
