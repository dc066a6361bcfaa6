"""Where clients come in, open before the model is loaded: a port in use is found at once, and early clients wait."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from streamer.access.exposure import check_exposure
from streamer.access.keys import Keys, find_key_file
from streamer.access.tls import Certificate
from streamer.config import ServerConfig, WyomingConfig
from streamer.errors import ConfigError
from streamer.host.sockets import listen
from streamer.host.systemd import inherited_sockets

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrance:
    """Listening sockets, and the keys and the certificate for those who connect."""

    sockets: Sequence[socket.socket]
    keys: Keys
    certificate: Certificate

    def reload(self) -> bool:
        """Read keys and certificate again; a file that cannot be used changes nothing. Whether it was done."""
        try:
            self.certificate.reload()
            self.keys.reload()
        except ConfigError as error:
            log.error("not_reloaded", error=str(error))  # noqa: TRY400 - a mistake in a file: a traceback says no more
            return False
        log.info("reloaded")
        return True

    def close(self) -> None:
        """Close the sockets; a second call changes nothing."""
        for listener in self.sockets:
            listener.close()


def open_entrance(config: ServerConfig) -> Entrance:
    """
    Listen, and read keys and certificate.

    Raises:
        StreamerError: The port is taken, a file cannot be used, or it would serve a network without keys.
    """
    keys, certificate = Keys(find_key_file(config.keys_file, os.environ)), Certificate(config)
    inherited = inherited_sockets(os.environ)
    check_exposure([_host(listener) for listener in inherited] or [config.host], config, keys)
    sockets = inherited or [listen(config.host, config.port, "--port")]
    return Entrance(sockets=sockets, keys=keys, certificate=certificate)


def open_wyoming(config: WyomingConfig) -> socket.socket | None:
    """
    Listen on the port of the Wyoming protocol, before the model is loaded too; None where none is configured.

    Raises:
        StreamerError: The port is taken, or the address is not one of this machine.
    """
    return listen(config.host, config.port, "wyoming.port =") if config.port else None


def _host(listener: socket.socket) -> str:
    address = listener.getsockname()
    # the address of a Unix socket is a path
    return str(address[0]) if isinstance(address, tuple) else f"/{address}"
