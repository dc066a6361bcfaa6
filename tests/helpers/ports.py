"""Ports that nobody else is given before a program listens on them, and between two that do."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator


@contextlib.contextmanager
def reserved_port() -> Iterator[int]:
    """
    A TCP port of 127.0.0.1 for the length of a block.

    A socket that is bound to it, and does not listen, keeps it from whoever takes any free port; a server that asks for
    it by its number gets it, as often as it likes.
    """
    with socket.socket() as kept:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.bind(("127.0.0.1", 0))
        yield int(kept.getsockname()[1])
