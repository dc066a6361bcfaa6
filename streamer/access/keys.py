"""
API keys and page tokens: identify a caller by the key or token it presents.

A key file holds one key per line, `NAME KEY` and perhaps the rights of the key; empty lines and lines that begin with
`#` are skipped:

    # made by: openssl rand -hex 32
    kitchen-box  3f0c5f…
    hall-screen  91b2aa…  watch
    prometheus   7de402…  state

Pages must not hold a long-lived key, so a program that has a key can ask for a token that is valid for minutes.
Tokens are signed with the caller's key and not stored: they survive a restart, are accepted by every daemon with the
same key file, and end when the key is removed.
"""

from __future__ import annotations

import base64
import enum
import hashlib
import hmac
import re
import stat
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from streamer.errors import ConfigError, ForbiddenError, KeyRefusedError, UnreadableFileError, reason_of

MIN_KEY_CHARS = 16
"""Shorter keys can be guessed."""
CREDENTIAL = "api-keys"
"""Name of the systemd credential that is a key file."""
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_KEY = re.compile(r"[\x21-\x7e]+")
_TOKEN = re.compile(r"t\.([A-Za-z0-9_-]{1,64})\.([0-9]{1,12})\.([A-Za-z0-9_-]{43})")
MAX_FILE_BYTES = 1_048_576
"""Largest key file: ten thousand keys."""


class Right(enum.StrEnum):
    """What a caller may do."""

    SPEAK = "speak"
    """Open sessions and send recordings."""
    WATCH = "watch"
    """Read the captions of a room."""
    STATE = "state"
    """Read metrics, statistics and the names of callers."""
    ISSUE = "issue"
    """Ask for tokens and client secrets. Every key may that speaks or watches; its tokens never may."""


GRANTED = frozenset((Right.SPEAK, Right.WATCH, Right.STATE))
"""Rights that a key file names; a key without any has all of them."""
OF_TOKENS = frozenset((Right.SPEAK, Right.WATCH))
"""Rights that a token takes over from its key."""
ALL = frozenset(Right)


@dataclass(frozen=True, slots=True)
class Caller:
    """The owner of a presented key. `name` is the name of the key; empty where no keys are required."""

    name: str = ""
    rights: frozenset[Right] = ALL
    by_token: bool = False
    """Whether a token was presented instead of the key."""


@dataclass(frozen=True, slots=True)
class BrowserToken:
    """A token for a page. All its characters are legal in a WebSocket subprotocol and in a URL."""

    text: str
    expires_at: int
    """Unix time, seconds."""


class Keys:
    """
    The valid API keys.

    Args:
        path: The key file; None: no keys are required.
        clock: Unix time, seconds, by which tokens expire.

    Raises:
        UnreadableFileError: The file cannot be read.
        ConfigError: A line is not `NAME KEY`.
    """

    def __init__(self, path: Path | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self._path, self._clock = path, clock
        self._keys: dict[str, _Key] = {}
        self._names: dict[bytes, str] = {}
        """By the digest of the key."""
        self.reload()

    @property
    def are_required(self) -> bool:
        """Whether callers must present a key."""
        return self._path is not None

    def identify(self, presented: str | None) -> Caller:
        """
        Find the caller of a presented key or token; None: the request carries neither.

        Raises:
            KeyRefusedError: A key is required, and none was presented, or it is unknown or expired.
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
        return Caller(name, self._keys[name].rights)

    def authorize(self, presented: str | None, right: Right) -> Caller:
        """
        Find the caller of a presented key or token, and check that it has a right: the one way into every path.

        Args:
            presented: Key or token; None: the request carries neither.
            right: Of what is asked.

        Raises:
            KeyRefusedError: A key is required, and none was presented, or it is unknown or expired.
            ForbiddenError: The key or token does not carry the right.
        """
        caller = self.identify(presented)
        if right not in caller.rights:
            holder = "a token" if caller.by_token else f'key "{caller.name}"'
            raise ForbiddenError(f'{holder} has no right "{right}" here; it has: {", ".join(sorted(caller.rights))}')
        return caller

    def issue_token(self, caller: Caller, seconds: float) -> BrowserToken:
        """
        Issue a token for a caller that presented a key, valid for so many seconds.

        Raises:
            KeyRefusedError: The caller presented a token, which cannot be prolonged, or no keys are required.
        """
        if caller.by_token or caller.name not in self._keys:
            raise KeyRefusedError("a token is issued only for an API key: send the key, not a token")
        expires_at = int(self._clock() + seconds)
        return BrowserToken(f"t.{caller.name}.{expires_at}.{self._signature(caller.name, expires_at)}", expires_at)

    def reload(self) -> None:
        """Read the key file again. Raises ConfigError as the constructor does; then the old keys stay valid."""
        if self._path is not None:
            self._keys = _read(self._path)
            self._names = {key.digest: name for name, key in self._keys.items()}

    def _name_of(self, key: str) -> str | None:
        """
        Name of a key, or None, in the same time however many keys there are.

        The time tells at most something of the digest, which nobody can choose a key for.
        """
        return self._names.get(_digest(key))

    def _by_token(self, name: str, expires_at: str, signature: str) -> Caller:
        if name not in self._keys or not hmac.compare_digest(signature, self._signature(name, int(expires_at))):
            raise KeyRefusedError(
                "this token was not issued here, or its key was removed: ask for a new one with POST /v1/tokens"
            )
        if int(expires_at) <= self._clock():
            raise KeyRefusedError("this token has expired: ask for a new one with POST /v1/tokens")
        return Caller(name, self._keys[name].rights & OF_TOKENS, by_token=True)

    def _signature(self, name: str, expires_at: int) -> str:
        signed = hmac.digest(self._keys[name].digest, f"{name}.{expires_at}".encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(signed).decode().rstrip("=")


def find_key_file(configured: str, environment: Mapping[str, str]) -> Path | None:
    """Find the key file: the configured path, else the systemd credential `api-keys`, else None."""
    if configured:
        return Path(configured)
    credential = Path(environment.get("CREDENTIALS_DIRECTORY") or "/nonexistent", CREDENTIAL)
    try:
        return credential if credential.exists() else None
    except OSError:  # of a folder that may not be looked into: the reason is told when it is read
        return credential


@dataclass(frozen=True, slots=True)
class _Key:
    digest: bytes
    rights: frozenset[Right]


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode(errors="surrogatepass")).digest()


def _read(path: Path) -> dict[str, _Key]:
    keys: dict[str, _Key] = {}
    digests = set[bytes]()
    for number, line in enumerate(_lines(path), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            name, key = _parsed(line, f"{path}, line {number}")
            if name in keys or key.digest in digests:
                raise ConfigError(f"{path}, line {number}: the name or the key is there twice")
            keys[name] = key
            digests.add(key.digest)
    if not keys:
        raise ConfigError(f"the key file {path} holds no key: expected lines of NAME KEY; openssl rand -hex 32")
    return keys


def _lines(path: Path) -> list[str]:
    try:
        status = path.stat()
        # reading a pipe would hold the event loop at a reload
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_FILE_BYTES:
            raise ConfigError(f"the key file {path} is not a regular file of at most {MAX_FILE_BYTES} bytes")
        return path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UnreadableFileError(f"cannot read the key file {path}: {reason_of(error)}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"the key file {path} is not text: expected lines of NAME KEY") from None


def _parsed(line: str, place: str) -> tuple[str, _Key]:
    """Split a line into name and key; error messages never show text that may be a key."""
    fields = line.split()
    if len(fields) not in (2, 3):
        raise ConfigError(f"{place}: found {len(fields)} words, expected NAME KEY or NAME KEY RIGHTS")
    name, key = fields[:2]
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{place}: a name is up to 64 letters, digits, - and _")
    if len(key) < MIN_KEY_CHARS or not _KEY.fullmatch(key):
        raise ConfigError(f"{place}: a key has at least {MIN_KEY_CHARS} visible ASCII characters; openssl rand -hex 32")
    return name, _Key(_digest(key), _rights(fields[2] if len(fields) == 3 else "", place))


def _rights(text: str, place: str) -> frozenset[Right]:
    names = set(text.split(",")) if text else set(GRANTED)
    if not names <= set(GRANTED):
        raise ConfigError(f"{place}: rights are {', '.join(sorted(GRANTED))}, with commas between and no spaces")
    rights = frozenset(map(Right, names))
    return rights | {Right.ISSUE} if rights & OF_TOKENS else rights
