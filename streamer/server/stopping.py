"""Answers requests that are cut because the daemon stops, so that no client meets a broken response."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streamer.access.refusals import refusal
from streamer.errors import OverloadError


class StopAnswers:
    """
    ASGI middleware: a request that is cancelled before its response began gets 503 with `Retry-After`.

    Requests are cancelled only when the server stops and has waited for them long enough.

    Args:
        app: The guarded application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """
        Pass a request on, and end it quietly where it is cancelled.

        Args:
            scope: As in ASGI.
            receive: As in ASGI.
            send: As in ASGI.
        """
        has_begun = False

        async def send_noting(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, send_noting)
        except asyncio.CancelledError:
            if scope["type"] == "http" and not has_begun:
                error = OverloadError("the daemon is stopping; ask again in a moment", retry_after_s=5.0)
                await refusal(error)(scope, receive, send)
