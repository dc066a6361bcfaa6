"""Routes of the daemon's own pages."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles


def page_routes() -> list[BaseRoute]:
    """
    Build the routes of the pages, and of the scripts and styles under `/pages`.

    The pages name their scripts and styles relative to their own address: a proxy may serve the daemon under a path
    that the daemon does not know.
    """
    pages = Path(str(resources.files("streamer.server") / "pages"))

    def page(path: str, file: str) -> Route:
        text = (pages / file).read_text(encoding="utf-8").replace('="/pages/', f'="{_root_from(path)}pages/')

        async def show(_: Request) -> Response:
            return HTMLResponse(text)

        return Route(path, show)

    return [
        page("/", "live.html"),
        page("/overlay", "overlay.html"),
        page("/overlay/options", "overlay-options.html"),
        page("/watch", "watch.html"),
        page("/watch/{room}", "watch.html"),
        Mount("/pages", StaticFiles(directory=pages)),
    ]


def _root_from(path: str) -> str:
    """The relative reference from a page to the root of the daemon: `../` for each folder above the page."""
    return "../" * (path.count("/") - 1)
