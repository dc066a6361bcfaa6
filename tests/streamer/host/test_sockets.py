"""Tests of streamer/host/sockets.py."""

from __future__ import annotations

import socket

import pytest

from streamer.errors import StreamerError
from streamer.host.sockets import listen


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_free_port_takes_connections(host: str) -> None:
    """By name or address."""
    with listen(host, 0) as listener, socket.create_connection(listener.getsockname()[:2]) as client:
        accepted, address = listener.accept()
        accepted.close()

        assert address[1] == client.getsockname()[1]


def test_a_port_in_use_is_named() -> None:
    """With the address."""
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StreamerError, match=f"port {port} on 127.0.0.1 is in use: address already in use"):
            listen("127.0.0.1", port)


def test_an_address_of_another_machine_is_not_available() -> None:
    """192.0.2.1 is set aside for documentation: no machine has it."""
    with pytest.raises(StreamerError, match=r"port 0 on 192\.0\.2\.1 is not available"):
        listen("192.0.2.1", 0)
