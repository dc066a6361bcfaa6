"""
API keys: who a caller is, by the key it shows.

A key file holds one key a line, `NAME KEY`; empty lines and lines that begin with `#` are skipped:

    # made by: openssl rand -hex 32
    kitchen-box  3f0c5f…

Pages must not hold a key that lives for months, so a program that has one can ask for a token of a few minutes.
Tokens are signed with their caller's key instead of being kept: they survive a restart, any daemon with the same
file takes them, and they end with the key they came from.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from streamer.errors import ConfigError, KeyRefusedError

MIN_KEY_CHARS = 16
"""Shorter keys can be guessed."""
CREDENTIAL = "api-keys"
"""Name of the systemd credential that is a key file."""
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_KEY = re.compile(r"[\x21-\x7e]+")
_TOKEN = re.compile(r"t\.([A-Za-z0-9_-]{1,64})\.([0-9]{1,12})\.([A-Za-z0-9_-]{43})")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is at the other end; the name is that of the key, empty where no keys are asked for."""

    name: str = ""
    by_token: bool = False
    """Whether a short-lived token was shown instead of the key itself."""


@dataclass(frozen=True, slots=True)
class BrowserToken:
    """What a page shows instead of a key. Its characters are all legal in a subprotocol and in a URL."""

    text: str
    expires_at: int
    """Unix time, seconds."""


class Keys:
    """
    Args:
        path: The key file; None: no keys, everybody is let in.
        clock: Unix time, seconds; tokens expire by it.

    Raises:
        ConfigError: The file cannot be read or holds something else than keys.
    """

    def __init__(self, path: Path | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self._path, self._clock = path, clock
        self._digests: dict[str, bytes] = {}
        self.reload()

    @property
    def are_required(self) -> bool:
        """Whether callers must show a key."""
        return self._path is not None

    def identify(self, presented: str | None) -> Caller:
        """
        Who shows this key or token; None: nothing was shown.

        Raises:
            KeyRefusedError: Nothing was shown, or something unknown or expired.
        """
        if not self.are_required:
            return Caller()
        if not presented:
            raise KeyRefusedError("an API key is needed: send it as Authorization: Bearer KEY")
        if token := _TOKEN.fullmatch(presented):
            return self._by_token(*token.groups())
        name = self._name_of(presented)
        if name is None:
            raise KeyRefusedError("this API key is not known here")
        return Caller(name)

    def issue_token(self, caller: Caller, seconds: float) -> BrowserToken:
        """
        A token that stands for a caller who has shown a key, for a while.

        Raises:
            KeyRefusedError: It showed a token: those cannot be prolonged for ever. Or no keys are asked for.
        """
        if caller.by_token or caller.name not in self._digests:
            raise KeyRefusedError("a token is issued to who shows an API key")
        expires_at = int(self._clock() + seconds)
        return BrowserToken(f"t.{caller.name}.{expires_at}.{self._signature(caller.name, expires_at)}", expires_at)

    def reload(self) -> None:
        """Read the file again; after a ConfigError the keys from before stay in force."""
        if self._path is not None:
            self._digests = {name: _digest(key) for name, key in _read(self._path).items()}

    def _name_of(self, key: str) -> str | None:
        """Every key is compared, each in constant time: how long it takes says nothing about them."""
        digest, found = _digest(key), None
        for name, known in self._digests.items():
            if hmac.compare_digest(digest, known):
                found = name
        return found

    def _by_token(self, name: str, expires_at: str, signature: str) -> Caller:
        if name not in self._digests or not hmac.compare_digest(signature, self._signature(name, int(expires_at))):
            raise KeyRefusedError("this token is not from here, or its key is gone")
        if int(expires_at) <= self._clock():
            raise KeyRefusedError("this token has expired: ask for a new one with POST /v1/tokens")
        return Caller(name, by_token=True)

    def _signature(self, name: str, expires_at: int) -> str:
        signed = hmac.digest(self._digests[name], f"{name}.{expires_at}".encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(signed).decode().rstrip("=")


def find_key_file(configured: str, environment: Mapping[str, str]) -> Path | None:
    """The key file of the configuration, else the credential that systemd hands over, else none."""
    if configured:
        return Path(configured)
    credential = Path(environment.get("CREDENTIALS_DIRECTORY", "/nonexistent"), CREDENTIAL)
    return credential if credential.exists() else None


def _digest(key: str) -> bytes:
    # of equal length whatever was shown, which a comparison in constant time needs
    return hashlib.sha256(key.encode()).digest()


def _read(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"cannot read the key file {path}: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"the key file {path} is not text: expected lines of NAME KEY") from None
    keys: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.lstrip().startswith("#"):
            name, key = _parsed(line, f"{path}, line {number}")
            if name in keys or key in keys.values():
                raise ConfigError(f"{path}, line {number}: the name or the key is there twice")
            keys[name] = key
    if not keys:
        raise ConfigError(f"the key file {path} holds no key: expected lines of NAME KEY")
    return keys


def _parsed(line: str, place: str) -> tuple[str, str]:
    """Name and key; the messages never show what may be a key."""
    fields = line.split()
    if len(fields) != 2:
        raise ConfigError(f"{place}: found {len(fields)} words, expected NAME KEY")
    name, key = fields
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{place}: a name is up to 64 letters, digits, - and _")
    if len(key) < MIN_KEY_CHARS or not _KEY.fullmatch(key):
        raise ConfigError(f"{place}: a key has at least {MIN_KEY_CHARS} visible ASCII characters; openssl rand -hex 32")
    return name, key
