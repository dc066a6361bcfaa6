"""The texts that a key allows beside their length: addresses, paths, origins. Others are allowed any."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence

from streamer.config.sections import UNIX_PEERS
from streamer.config.toml import shown

_NAME = re.compile(r"[^\s:/\[\]]+")
_SOCKET = re.compile(r"unix:.+")
_PATH = re.compile(r"(?!.*://)[^\s?#]*")
_HEAD = re.compile(r"|auto|[^\s/]+:\d+")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^\s*]*", re.IGNORECASE)


def problem_of(dotted: str, value: object) -> str | None:
    """
    What is wrong with the texts of a value, in words; None: nothing, or it has none.

    Args:
        dotted: Section and key.
        value: In the type of the key.
    """
    texts: Sequence[object] = value if isinstance(value, tuple) else (value,)
    if not all(map(_is_utf8, texts)):
        return "expected text in UTF-8"
    if not dotted.startswith("session.") and any("\0" in str(text) for text in texts):  # the system takes none
        return "expected text without NUL characters"
    is_allowed, allowed = _ALLOWED.get(dotted, (None, ""))
    if is_allowed is None:
        return None
    wrong = [text for text in map(str, texts) if not is_allowed(text)]
    if not wrong:
        return None
    return f"expected {allowed}, found {shown(wrong[0])}" if texts is value else f"expected {allowed}"


def _is_utf8(value: object) -> bool:
    """Whether a text can be shown and sent, as some bytes of a variable cannot; other values always can."""
    try:
        str(value).encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_host(text: str) -> bool:
    """Whether a text may be a name or an address to listen on: it has no port, scheme or brackets."""
    return _NAME.fullmatch(text) is not None or _is_valid(ipaddress.ip_address, text)


def _is_place(text: str) -> bool:
    """Whether the server may listen there: a host, or the path of a Unix socket."""
    return _SOCKET.fullmatch(text) is not None or _is_host(text)


def _is_proxy(text: str) -> bool:
    return text == UNIX_PEERS or _is_valid(lambda each: ipaddress.ip_network(each, strict=False), text)


def _is_origin(text: str) -> bool:
    """Whether pages have such an origin, which a browser tells with its scheme; or all of them."""
    return text == "*" or _ORIGIN.fullmatch(text) is not None


def _is_valid(read: Callable[[str], object], text: str) -> bool:
    try:
        read(text)
    except ValueError:
        return False
    return True


_AN_ADDRESS = 'a name or an address of this machine without a port, such as "localhost", "0.0.0.0" or "::"'
_ALLOWED: dict[str, tuple[Callable[[str], bool], str]] = {
    "server.host": (_is_place, f"{_AN_ADDRESS}, or unix:/path"),
    "wyoming.host": (_is_host, _AN_ADDRESS),
    "server.root_path": (lambda text: _PATH.fullmatch(text) is not None, 'a path such as "/captions"'),
    "server.trusted_proxies": (_is_proxy, f'addresses, networks such as "10.0.0.0/8", or "{UNIX_PEERS}"'),
    "server.allowed_origins": (_is_origin, 'origins such as "https://example.org", or "*" for every page'),
    "engines.address": (lambda text: _HEAD.fullmatch(text) is not None, '"auto", HOST:PORT of a head of Ray, or ""'),
}
"""Keys of texts and of lists of them: whether one is allowed, and what is."""
