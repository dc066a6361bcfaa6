"""`streamer health`: asks the daemon of a configuration, on this machine, whether it takes sessions."""

from __future__ import annotations

import http.client
import socket
import ssl

from streamer.config import ServerConfig
from streamer.errors import ConfigError, StreamerError, reason_of
from streamer.host.sockets import socket_path

ANSWER_S = 4.0
"""Time for each part of the conversation, seconds: whoever watches a daemon gives up after five."""
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""What a daemon on every network of the machine is asked at."""


def ask(config: ServerConfig, within_s: float = ANSWER_S) -> str:
    """
    What the daemon says that takes sessions.

    Args:
        config: Its address, and whether it speaks TLS.
        within_s: See `ANSWER_S`.

    Raises:
        ConfigError: The configuration does not say where it is.
        StreamerError: Nothing answers there, or it takes no session now.
    """
    if not config.port and not socket_path(config.host):
        raise ConfigError("server.port = 0 is any free port: expected that of the daemon, as --port 8000")
    place = socket_path(config.host) or f"port {config.port} on {config.host}"
    try:
        status, text = _answer(config, within_s)
    except (OSError, http.client.HTTPException) as error:
        reason = reason_of(error) if isinstance(error, OSError) else repr(error)
        raise StreamerError(
            f"no daemon answers at {place}: {reason}; start it, or name its configuration (--config, --host, --port)"
        ) from None
    if status != http.client.OK:
        raise StreamerError(f"the daemon at {place} takes no sessions: {text}")
    return text


def _answer(config: ServerConfig, within_s: float) -> tuple[int, str]:
    """Status and text of its answer to the question that balancers ask."""
    connection = http.client.HTTPConnection("localhost")
    with _connected(config, within_s) as connection.sock:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        return answer.status, answer.read(200).decode(errors="replace").strip()


def _connected(config: ServerConfig, within_s: float) -> socket.socket:
    path = socket_path(config.host)
    address = (EVERYWHERE.get(config.host, config.host), config.port)
    plain = _connected_at(path, within_s) if path else socket.create_connection(address, within_s)
    if not config.tls_certificate:
        return plain
    # its certificate is for the name by which others know it, and it is told no secret
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(plain)


def _connected_at(path: str, within_s: float) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(within_s)
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection
