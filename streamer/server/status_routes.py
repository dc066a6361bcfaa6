"""Routes of the daemon's state: health and readiness, metrics, `/statz`, and facts for the pages."""

from __future__ import annotations

from typing import get_args

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from streamer import __version__
from streamer.access.keys import Keys, Right
from streamer.access.presented_keys import presented_key
from streamer.audio import opus
from streamer.config import Config
from streamer.protocol.messages import SAMPLE_BYTES, Encoding
from streamer.server import statz
from streamer.server.connection import Connections
from streamer.server.interfaces import SessionService
from streamer.server.shared_answers import SharedAnswer
from streamer.server.state import DaemonState


class Info(msgspec.Struct, frozen=True, kw_only=True):
    """Response of `/info`, for pages that offer a choice."""

    version: str
    model: str
    languages: tuple[str, ...]
    language: str
    """The default of `start`: one of `languages`, or `auto`."""
    revisers: tuple[str, ...]
    """Names of the models that `revise` may choose for second passes; the first one is the default."""
    rooms: bool
    """Whether `server.rooms` is on: a session may be watched by an audience."""
    encodings: tuple[str, ...]
    """Encodings of audio that a session may announce."""


def status_routes(
    scheduler: SessionService, config: Config, keys: Keys, connections: Connections, state: DaemonState
) -> list[Route]:
    """
    Build the routes of the daemon's state.

    Args:
        scheduler: Tells readiness.
        config: `server` and `session` are read.
        keys: Valid API keys, needed for metrics and statistics; the other routes are public.
        connections: Tell whether the daemon drains.
        state: Shown by `/metrics` and `/statz`.
    """
    encodings = tuple(name for name in get_args(Encoding) if name in SAMPLE_BYTES or opus.can_decode())

    async def ready(_: Request) -> Response:
        if connections.is_draining:
            return PlainTextResponse("draining\n", 503)
        if scheduler.is_ready():
            return PlainTextResponse("ready\n")
        is_without_engine = not any(engine.is_alive for engine in scheduler.statistics().engines)
        return PlainTextResponse("not ready: no engine is alive\n" if is_without_engine else "not ready\n", 503)

    async def render_statistics() -> bytes:
        now = await state.overview()
        return statz.render(__version__, scheduler.model, now.uptime_s, now.n_connections, now.statistics).encode()

    shown_metrics, shown_statistics = SharedAnswer(state.metrics), SharedAnswer(render_statistics)

    async def show_metrics(request: Request) -> Response:
        keys.authorize(presented_key(request.scope), Right.STATE)
        return Response(await shown_metrics.get(), media_type=CONTENT_TYPE_LATEST)

    async def show_statistics(request: Request) -> Response:
        keys.authorize(presented_key(request.scope), Right.STATE)
        return PlainTextResponse(await shown_statistics.get())

    async def info(_: Request) -> Response:
        facts = Info(
            version=__version__,
            model=scheduler.model,
            languages=scheduler.languages,
            language=config.session.language,
            revisers=scheduler.revisers,
            rooms=config.server.rooms,
            encodings=encodings,
        )
        return Response(msgspec.json.encode(facts), media_type="application/json")

    return [
        Route("/healthz", _healthy),
        Route("/readyz", ready),
        Route("/metrics", show_metrics),
        Route("/statz", show_statistics),
        Route("/info", info),
    ]


async def _healthy(_: Request) -> Response:
    return PlainTextResponse("ok\n")
