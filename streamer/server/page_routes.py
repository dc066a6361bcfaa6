"""Routes of the daemon's own pages."""

from __future__ import annotations

import hashlib
import mimetypes
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route


def page_routes() -> list[BaseRoute]:
    """
    Build the routes of the pages, and of the scripts and styles under `/pages`.

    The pages name their scripts and styles relative to their own address: a proxy may serve the daemon under a path
    that the daemon does not know. All are held in memory, 150 kB: a file that is read in a thread costs four times as
    much as anything else that anybody may ask for without a key.
    """
    pages = Path(str(resources.files("streamer.server") / "pages"))

    def page(path: str, file: str) -> Route:
        text = (pages / file).read_text(encoding="utf-8").replace('="/pages/', f'="{_root_from(path)}pages/')

        async def show(_: Request) -> Response:
            return HTMLResponse(text)

        return Route(path, show)

    files = {path.name: _read(path) for path in pages.iterdir() if path.is_file()}

    async def file(request: Request) -> Response:
        found = files.get(request.path_params["name"])
        if found is None:
            raise HTTPException(404)
        return found.answer(request.headers.get("if-none-match", ""))

    return [
        page("/", "live.html"),
        page("/overlay", "overlay.html"),
        page("/overlay/options", "overlay-options.html"),
        page("/watch", "watch.html"),
        page("/watch/{room}", "watch.html"),
        Route("/pages/{name}", file),
    ]


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    media_type: str
    tag: str
    """Names the content: a browser that has it is not sent it again."""

    def answer(self, known_tags: str) -> Response:
        headers = {"ETag": self.tag}
        if self.tag in known_tags:
            return Response(status_code=304, headers=headers)
        return Response(self.content, headers=headers, media_type=self.media_type)


def _read(path: Path) -> _File:
    content = path.read_bytes()
    media_type, _ = mimetypes.guess_type(path.name)
    return _File(content, media_type or "text/plain", f'"{hashlib.sha256(content).hexdigest()[:32]}"')


def _root_from(path: str) -> str:
    """The relative reference from a page to the root of the daemon: `../` for each folder above the page."""
    return "../" * (path.count("/") - 1)
