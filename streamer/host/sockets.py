"""Listening sockets of this machine."""

from __future__ import annotations

import errno
import socket

from streamer.errors import StreamerError

BACKLOG = 128
"""Connections that wait to be accepted."""


def listen(host: str, port: int) -> socket.socket:
    """
    Listen on a TCP port, at the first address of a host.

    Args:
        host: A name or an address of this machine.
        port: 0 for any free port.

    Raises:
        StreamerError: The port is in use or reserved, or the address is not of this machine.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        state = "in use" if error.errno == errno.EADDRINUSE else "not available"
        raise StreamerError(f"port {port} on {host} is {state}: {reason}") from None
