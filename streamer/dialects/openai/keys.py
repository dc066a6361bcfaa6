"""
What a client of OpenAI's API shows to be let in, and the short-lived secrets that pages show instead of a key.

A secret carries the settings of the session it is for, and a token of who asked for it: it is worth no more than
their key at the time it is shown. Pure: time and randomness are arguments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta, Struct

from streamer.dialects.openai.session import SessionUpdate, Settings
from streamer.errors import OverloadError

REALTIME = "realtime"
"""The subprotocol that is answered; a page's key is offered beside it and never answered."""
MAX_SECRETS = 10_000
"""Secrets that have not expired; with more, none is issued until one expires."""

_KEY_SUBPROTOCOLS = ("openai-insecure-api-key.", "realtime-token.")


def shown_key(headers: Mapping[str, str], subprotocols: Sequence[str] = ()) -> str | None:
    """The key in `Authorization: Bearer KEY`, in `api-key: KEY`, or in a page's subprotocol; None if there is none."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        return key.strip()
    if headers.get("api-key"):
        return headers["api-key"]
    offered = (
        name.removeprefix(prefix) for name in subprotocols for prefix in _KEY_SUBPROTOCOLS if name.startswith(prefix)
    )
    return next(offered, None)


class ExpiresAfter(Struct, frozen=True, kw_only=True):
    """How long a secret is good."""

    anchor: Literal["created_at"] = "created_at"
    seconds: Annotated[int, Meta(ge=10, le=7200)] = 600


class SecretRequest(Struct, frozen=True, kw_only=True):
    """Body of `POST /v1/realtime/client_secrets`."""

    expires_after: ExpiresAfter | None = None
    session: SessionUpdate | None = None


@dataclass(frozen=True, slots=True)
class ClientSecret:
    """What a page may show for a while."""

    value: str
    expires_at: int
    """Unix time, seconds."""
    key: str | None
    """What stands for who asked for it; None where no keys are asked for."""
    settings: Settings


class ClientSecrets:
    """
    The secrets that are out.

    Args:
        most: How many may be out at once.
    """

    def __init__(self, most: int = MAX_SECRETS) -> None:
        self._most = most
        self._secrets: dict[str, ClientSecret] = {}

    def add(self, secret: ClientSecret, now: float) -> None:
        """
        Take note of a new secret.

        Raises:
            OverloadError: Too many are out.
        """
        self._secrets = {value: kept for value, kept in self._secrets.items() if kept.expires_at > now}
        if len(self._secrets) >= self._most:
            raise OverloadError(f"{self._most} client secrets are out; one expires soon", retry_after_s=10.0)
        self._secrets[secret.value] = secret

    def find(self, value: str | None, now: float) -> ClientSecret | None:
        """The secret of this value; None if it is none, or has expired."""
        secret = self._secrets.get(value) if value is not None else None
        return secret if secret is not None and secret.expires_at > now else None
