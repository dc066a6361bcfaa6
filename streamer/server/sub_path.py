"""
Serves the daemon under a path of its own, `server.root_path`, beside the paths without it.

A reverse proxy that removes the path from requests needs no setting: pages, scripts and redirects name each other by
relative references. This is for proxies that pass requests on as they are.
"""

from __future__ import annotations

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class SubPath:
    """
    ASGI middleware that removes the root path from the path of a request.

    Args:
        app: Knows its own paths alone.
        root_path: As in the configuration: `/captions`, `captions` and `/captions/` are the same; empty: none.
    """

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app = app
        self._root = f"/{root_path.strip('/')}" if root_path.strip("/") else ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """
        Pass a request on, without the root path.

        Args:
            scope: Of an HTTP request or a WebSocket; others are passed on as they are.
            receive: As in ASGI.
            send: As in ASGI.
        """
        path: str = scope.get("path", "")
        if not self._root or not f"{path}/".startswith(f"{self._root}/"):
            await self._app(scope, receive, send)
        elif path == self._root and scope["type"] == "http":
            # without the slash a page's relative references would miss the root path
            query = scope["query_string"].decode("ascii", "replace")
            there = f"{self._root.rpartition('/')[2]}/{query and '?'}{query}"
            await RedirectResponse(there)(scope, receive, send)
        else:
            await self._app({**scope, "path": path.removeprefix(self._root) or "/"}, receive, send)
