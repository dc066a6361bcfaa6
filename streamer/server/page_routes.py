"""Routes of the daemon's own pages."""

from __future__ import annotations

from importlib import resources

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles


def page_routes() -> list[BaseRoute]:
    """Build the routes of the pages, and of the scripts and styles under `/pages`."""
    pages = str(resources.files("streamer.server") / "pages")

    def page(path: str, file: str) -> Route:
        async def show(_: Request) -> Response:
            return FileResponse(f"{pages}/{file}")

        return Route(path, show)

    return [
        page("/", "live.html"),
        page("/overlay", "overlay.html"),
        page("/overlay/options", "overlay-options.html"),
        page("/watch", "watch.html"),
        page("/watch/{room}", "watch.html"),
        Mount("/pages", StaticFiles(directory=pages)),
    ]
