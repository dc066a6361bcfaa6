"""
CORS: lets the pages of `server.allowed_origins` import the client, read responses, and post with headers.

`origins` refuses pages; a browser by itself lets a page of another origin see nothing unless the response allows it
(CORS), and asks before it sends headers such as `Authorization` (a preflight).
"""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streamer.access.origins import AllowedOrigins

PREFLIGHT_S = 600
"""How long a browser need not ask again, seconds."""


class CrossOriginHeaders:
    """
    ASGI middleware that lets allowed pages read the responses to their requests.

    Args:
        app: Its responses get the headers, refusals of limits and keys among them.
        origins: Pages of other sites that may use the daemon.
    """

    def __init__(self, app: ASGIApp, origins: AllowedOrigins) -> None:
        self._app, self._origins = app, origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """
        Pass a request on, and add the headers to its response.

        Args:
            scope: Of the request; other scopes than HTTP are passed on as they are.
            receive: As in ASGI.
            send: As in ASGI.
        """
        origin = Headers(scope=scope).get("origin") if scope["type"] == "http" else None
        if origin is None or not self._origins.allow(origin):
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Access-Control-Allow-Origin"] = origin
                headers["Access-Control-Expose-Headers"] = "*"
                headers["Cross-Origin-Resource-Policy"] = "cross-origin"
                headers.add_vary_header("Origin")
            await send(message)

        await self._app(scope, receive, send_with_headers)


class Preflights:
    """
    ASGI middleware that answers preflights: a browser asks whether a page may send a request.

    It answers yes: foreign pages were refused before. No request can do more for an allowed page than for a program.

    Args:
        app: Gets every other request.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """
        Answer a preflight, or pass a request on.

        Args:
            scope: As in ASGI.
            receive: As in ASGI.
            send: As in ASGI.
        """
        asked = Headers(scope=scope) if scope["type"] == "http" and scope["method"] == "OPTIONS" else Headers()
        if "access-control-request-method" not in asked:
            await self._app(scope, receive, send)
            return
        allowed = {
            "Access-Control-Allow-Methods": "GET, HEAD, POST",
            "Access-Control-Allow-Headers": asked.get("access-control-request-headers", ""),
            "Access-Control-Max-Age": str(PREFLIGHT_S),
        }
        if "access-control-request-private-network" in asked:
            allowed["Access-Control-Allow-Private-Network"] = "true"
        await Response(status_code=204, headers=allowed)(scope, receive, send)
