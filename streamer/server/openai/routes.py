"""Routes of OpenAI's API under `/v1`. Any model name is accepted: the daemon serves one model."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from streamer.access.keys import Caller, Keys, Right
from streamer.access.owners import address_of
from streamer.config import Config
from streamer.dialects.openai.http import JSON, model_json
from streamer.dialects.openai.keys import ClientSecret, ExpiresAfter, SecretRequest, shown_key
from streamer.dialects.openai.session import (
    SessionUpdate,
    Settings,
    decode,
    default_settings,
    included,
    to_beta_json,
    to_json,
    updated,
)
from streamer.errors import ForbiddenError, KeyRefusedError, OverloadError, StreamerError
from streamer.server.interfaces import SessionService
from streamer.server.openai.files import FileApi, read_body, refusal
from streamer.server.openai.realtime import refuse_realtime, serve_realtime
from streamer.server.openai.secrets import SecretStore

MAX_SECRET_REQUEST_BYTES = 65_536

Handler: TypeAlias = Callable[[Request, Caller], Awaitable[Response]]


def openai_routes(scheduler: SessionService, config: Config, keys: Keys, secret_store: SecretStore) -> list[BaseRoute]:
    """
    Build the routes of OpenAI's API. Handlers raise StreamerError for a bad request; `_guarded` answers it.

    Args:
        scheduler: Opens sessions.
        config: `server`, `limits` and `session` are read.
        keys: Valid API keys.
        secret_store: Keeps the client secrets of all processes of the daemon.
    """
    files, realtime = FileApi(scheduler, config), _RealtimeApi(scheduler, config, keys, secret_store)

    async def transcriptions(request: Request, caller: Caller) -> Response:
        return await files.transcribe(request, "transcribe", caller)

    async def translations(request: Request, caller: Caller) -> Response:
        return await files.transcribe(request, "translate", caller)

    async def models(_: Request, __: Caller) -> Response:
        return _json({"object": "list", "data": [model_json(scheduler.model)]})

    async def model(request: Request, _: Caller) -> Response:
        # every name is accepted for work, so every name is a model
        return _json(model_json(request.path_params["name"] or scheduler.model))

    def route(path: str, handler: Handler, method: str, right: Right) -> Route:
        return Route(path, _guarded(handler, keys, right), methods=[method])

    return [
        WebSocketRoute("/v1/realtime", realtime.serve),
        route("/v1/realtime/client_secrets", realtime.issue_secret, "POST", Right.ISSUE),
        route("/v1/realtime/transcription_sessions", realtime.issue_beta_secret, "POST", Right.ISSUE),
        route("/v1/audio/transcriptions", transcriptions, "POST", Right.SPEAK),
        route("/v1/audio/translations", translations, "POST", Right.SPEAK),
        route("/v1/models", models, "GET", Right.SPEAK),
        route("/v1/models/{name:path}", model, "GET", Right.SPEAK),
    ]


def _guarded(handler: Handler, keys: Keys, right: Right) -> Callable[[Request], Awaitable[Response]]:
    """Wrap a handler: require a key with a right, and answer errors in OpenAI's format."""

    async def guarded(request: Request) -> Response:
        try:
            return await handler(request, keys.authorize(shown_key(request.headers), right))
        except StreamerError as error:
            return refusal(error)

    return guarded


class _RealtimeApi:
    """Realtime connections, and the client secrets with which pages open them."""

    def __init__(self, scheduler: SessionService, config: Config, keys: Keys, store: SecretStore) -> None:
        self._scheduler, self._config, self._keys, self._secrets = scheduler, config, keys, store

    async def serve(self, socket: WebSocket) -> None:
        shown = shown_key(socket.headers, socket.scope["subprotocols"])
        try:
            secret = await self._secrets.find(shown)
            caller = self._keys.authorize(secret.key if secret is not None else shown, Right.SPEAK)
        except (KeyRefusedError, ForbiddenError, OverloadError) as error:
            await refuse_realtime(socket, error, self._config.limits.send_timeout_s)
            return
        settings = secret.settings if secret is not None else default_settings(self._config.session)
        await serve_realtime(socket, self._scheduler, self._config, settings, caller)

    async def issue_secret(self, request: Request, caller: Caller) -> Response:
        asked = decode(await self._body(request), SecretRequest)
        settings = self._settings(asked.session or SessionUpdate())
        secret = await self._issue(caller, address_of(request.scope), settings, asked.expires_after or ExpiresAfter())
        session = to_json(settings, _session_name(), self._scheduler.model)
        return _json({"value": secret.value, "expires_at": secret.expires_at, "session": session})

    async def issue_beta_secret(self, request: Request, caller: Caller) -> Response:
        settings = self._settings(decode(await self._body(request), SessionUpdate))
        secret = await self._issue(caller, address_of(request.scope), settings, ExpiresAfter())
        session = to_beta_json(settings, _session_name(), self._scheduler.model)
        return _json({**session, "client_secret": {"value": secret.value, "expires_at": secret.expires_at}})

    async def _body(self, request: Request) -> bytes:
        body = read_body(request, MAX_SECRET_REQUEST_BYTES, self._config.server.idle_s)
        return b"".join([part async for part in body]) or b"{}"

    def _settings(self, asked: SessionUpdate) -> Settings:
        defaults = self._config.session
        settings = updated(default_settings(defaults), asked.input(), defaults, self._scheduler.languages, "session")
        return included(settings, asked.include)

    async def _issue(self, caller: Caller, address: str, settings: Settings, lifetime: ExpiresAfter) -> ClientSecret:
        """A client secret that stands for the caller's key until it expires, no longer than a token would."""
        seconds = min(lifetime.seconds, self._config.server.token_s)
        key = self._keys.issue_token(caller, seconds).text if self._keys.are_required else None
        expires_at = int(time.time() + seconds)
        secret = ClientSecret(f"ek_{secrets.token_urlsafe(24)}", expires_at, key, settings, caller.name or address)
        await self._secrets.add(secret)
        return secret


def _session_name() -> str:
    return f"sess_{secrets.token_hex(8)}"


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type=JSON)
