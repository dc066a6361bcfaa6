"""
API keys of OpenAI clients, and the short-lived client secrets that pages use instead of a key.

A secret holds the settings of its session and a token of the caller that asked for it, so it is valid only while that
caller's key is. Time and randomness are arguments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta, Struct

from streamer.dialects.openai.session import SessionUpdate, Settings
from streamer.errors import OverloadError

REALTIME = "realtime"
"""The subprotocol that the server answers with; a page offers its key beside it."""
MAX_SECRETS = 4_000
"""Largest number of secrets that have not expired; each keeps up to 25 kB of settings."""
MAX_SECRETS_PER_CALLER = 1_000
"""Of them, secrets of one caller: three page loads a second at the default lifetime."""

_KEY_SUBPROTOCOLS = ("openai-insecure-api-key.", "realtime-token.")


def shown_key(headers: Mapping[str, str], subprotocols: Sequence[str] = ()) -> str | None:
    """Return the key in `Authorization: Bearer KEY`, in `api-key: KEY`, or in a subprotocol of a page, else None."""
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
    """Lifetime of a secret, in seconds."""

    anchor: Literal["created_at"] = "created_at"
    seconds: Annotated[int, Meta(ge=10, le=7200)] = 600


class SecretRequest(Struct, frozen=True, kw_only=True):
    """Body of `POST /v1/realtime/client_secrets`."""

    expires_after: ExpiresAfter | None = None
    session: SessionUpdate | None = None


@dataclass(frozen=True, slots=True)
class ClientSecret:
    """A secret that a page uses instead of a key until it expires."""

    value: str
    expires_at: int
    """Unix time, seconds."""
    key: str | None
    """Token of the caller that asked for the secret; None if the daemon requires no keys."""
    settings: Settings
    owner: str = ""
    """Name of the caller's key, or its address where no keys are required."""


class ClientSecrets:
    """
    The issued secrets.

    Args:
        most: Largest number of secrets that have not expired.
        most_per_caller: Largest number of them that one caller has asked for.
    """

    def __init__(self, most: int = MAX_SECRETS, most_per_caller: int = MAX_SECRETS_PER_CALLER) -> None:
        self._most, self._most_per_caller = most, most_per_caller
        self._secrets: dict[str, ClientSecret] = {}

    def add(self, secret: ClientSecret, now: float) -> None:
        """
        Store a new secret and drop expired ones; `now` is Unix time in seconds.

        Raises:
            OverloadError: `most` secrets have not expired, or `most_per_caller` of this caller.
        """
        self._secrets = {value: kept for value, kept in self._secrets.items() if kept.expires_at > now}
        n_own = sum(kept.owner == secret.owner for kept in self._secrets.values())
        if len(self._secrets) >= self._most or n_own >= self._most_per_caller:
            raise OverloadError(
                f"{n_own} client secrets of this caller and {len(self._secrets)} in all are valid, and no more are "
                "allowed; try again when one has expired",
                retry_after_s=10.0,
            )
        self._secrets[secret.value] = secret

    def find(self, value: str | None, now: float) -> ClientSecret | None:
        """Return the secret of this value, None if it is unknown or has expired; `now` is Unix time in seconds."""
        secret = self._secrets.get(value) if value is not None else None
        return secret if secret is not None and secret.expires_at > now else None
