"""
Whether the first bytes of a connection show a valid key, so that users come before strangers where many wait.

That decides about nothing but the order: whoever asks for something is identified by its whole request.
"""

from __future__ import annotations

import re

from streamer.access.keys import Keys
from streamer.access.owners import caller_of

HEAD_BYTES = 4096
"""First bytes of a connection that are looked at."""
_SHOWN = re.compile(rb"^(authorization|api-key|sec-websocket-protocol):[ \t]*([^\r\n]*)", re.IGNORECASE | re.MULTILINE)


def shows_key(head: bytes, keys: Keys) -> bool:
    """
    Return whether a request shows a valid key or token, in any of the ways of `owners`.

    Args:
        head: First bytes of the request, perhaps not all of its head.
        keys: Valid keys; where none are required, nobody shows one.
    """
    headers = [(name.lower(), value) for name, value in _SHOWN.findall(head[:HEAD_BYTES])]
    offered = b",".join(value for name, value in headers if name == b"sec-websocket-protocol").decode("latin-1")
    subprotocols = [name.strip() for name in offered.split(",")]
    return caller_of({"headers": headers, "subprotocols": subprotocols}, keys) is not None
