"""Where client secrets are kept: in this process, or for all processes of the daemon."""

from __future__ import annotations

import time
from typing import Protocol

from streamer.dialects.openai.keys import ClientSecret, ClientSecrets


class SecretStore(Protocol):
    """Keeps client secrets until they expire."""

    async def add(self, secret: ClientSecret) -> None:
        """
        Keep a new secret.

        Raises:
            OverloadError: Too many are kept, or nobody can keep it now.
        """

    async def find(self, value: str | None) -> ClientSecret | None:
        """
        Return the secret of this value, None if it is unknown or has expired.

        Raises:
            OverloadError: Nobody can tell now.
        """
        ...


class LocalSecrets:
    """Secrets of a daemon of one process."""

    def __init__(self) -> None:
        self._secrets = ClientSecrets()

    async def add(self, secret: ClientSecret) -> None:
        """As `SecretStore.add`."""
        self._secrets.add(secret, time.time())

    async def find(self, value: str | None) -> ClientSecret | None:
        """As `SecretStore.find`."""
        return self._secrets.find(value, time.time())
