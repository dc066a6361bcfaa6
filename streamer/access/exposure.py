"""Which addresses are open to a network, and whether the daemon may listen on them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from streamer.access.keys import Keys
from streamer.config import ServerConfig
from streamer.errors import ConfigError
from streamer.host.sockets import UNIX


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone; `unix:` or a path is that of a Unix socket."""
    if host == "localhost" or host.startswith((UNIX, "/")):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_exposure(addresses: Iterable[str], config: ServerConfig, keys: Keys) -> None:
    """
    Refuse to open the daemon to a network without API keys, unless the configuration asks for it.

    Args:
        addresses: Hosts that are listened on.
        config: `allow_without_keys` is read.
        keys: Whether any are set.

    Raises:
        ConfigError: An address is open to the network, no keys are set, and `server.allow_without_keys` is off.
    """
    open_hosts = [address for address in addresses if not is_loopback(address)]
    if open_hosts and not keys.are_required and not config.allow_without_keys:
        raise ConfigError(
            f"server.host = {open_hosts[0]} is open to the network and no API keys are set: "
            "set server.keys_file, or server.allow_without_keys = true if that is intended"
        )
