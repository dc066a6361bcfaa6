"""Tests of streamer/host/sockets.py."""

from __future__ import annotations

import os
import re
import socket
import stat
from pathlib import Path

import pytest

from streamer.errors import StreamerError
from streamer.host.sockets import listen, notice_loss

TCP_REPAIR = 19
"""An option of Linux for sockets that move to another machine: closing one tells nobody."""


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
        with pytest.raises(StreamerError, match=f"port {port} on 127.0.0.1 is in use: address already in use.*; stop "):
            listen("127.0.0.1", port)
        with pytest.raises(StreamerError, match=f"or choose another port, as --port {port + 1}$"):
            listen("127.0.0.1", port, "--port")


@pytest.mark.parametrize("host", ["192.0.2.1", "fe80::1%none", "127.0.0..1"])
def test_an_address_of_another_machine_is_not_available(host: str) -> None:
    """192.0.2.1 is set aside for documentation: no machine has it. Another port would not help."""
    with pytest.raises(
        StreamerError, match=f"port 0 on {re.escape(host)} is not available: .*; expected an address of"
    ):
        listen(host, 0, "--port")


def test_every_network_is_of_both_families() -> None:
    """`::` takes connections over IPv4 too."""
    with listen("::", 0) as listener:
        for address in ("127.0.0.1", "::1"):
            with socket.create_connection((address, listener.getsockname()[1])):
                listener.accept()[0].close()


def test_a_peer_that_vanished_is_noticed() -> None:
    """Its machine lost its power and says no farewell: a socket that is repaired says none either."""
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()) as client:
        accepted, _ = listener.accept()
        with accepted:
            notice_loss(accepted, 3)
            try:
                client.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
            except OSError:
                pytest.skip("only root may repair a socket, on Linux")
            client.close()
            accepted.settimeout(10)
            with pytest.raises(ConnectionResetError):
                accepted.recv(1)


class TestUnixSockets:
    """Hosts such as `unix:/run/streamer.sock`."""

    def test_owner_and_group_may_connect(self, tmp_path: Path) -> None:
        """Whatever the umask is; the file goes when the socket is closed."""
        path = tmp_path / "socket"
        before = os.umask(0o077)
        try:
            listener = listen(f"unix:{path}", 0)
        finally:
            os.umask(before)
        with listener, socket.socket(socket.AF_UNIX) as client:
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            client.connect(str(path))
        assert not path.exists()

    def test_the_file_of_a_program_that_was_killed_is_replaced(self, tmp_path: Path) -> None:
        """Nobody listens on it."""
        path = tmp_path / "socket"
        with socket.socket(socket.AF_UNIX) as killed:
            killed.bind(str(path))
        with listen(f"unix:{path}", 0), socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))

    def test_a_socket_in_use_is_left_alone(self, tmp_path: Path) -> None:
        """Also if its program accepts nothing and its queue is full."""
        path = tmp_path / "socket"
        with socket.socket(socket.AF_UNIX) as other, socket.socket(socket.AF_UNIX) as client:
            other.bind(str(path))
            other.listen(0)
            client.connect(str(path))
            for _ in range(2):
                with pytest.raises(StreamerError, match=f"socket {path} is in use"):
                    listen(f"unix:{path}", 0)
        assert path.is_socket()

    def test_no_other_file_is_replaced(self, tmp_path: Path) -> None:
        """A file of data in its place is an error."""
        path = tmp_path / "data"
        path.write_text("kept")
        with pytest.raises(StreamerError, match=r"is not available: there is a file that is no socket$"):
            listen(f"unix:{path}", 0)
        assert path.read_text() == "kept"

    def test_a_closed_socket_takes_no_file_of_another(self, tmp_path: Path) -> None:
        """The file is that of a newer daemon."""
        path = tmp_path / "socket"
        old = listen(f"unix:{path}", 0)
        path.rename(tmp_path / "moved")
        with listen(f"unix:{path}", 0):
            old.close()
            assert path.is_socket()

    def test_a_folder_that_is_not_there_is_told(self, tmp_path: Path) -> None:
        """With the path."""
        with pytest.raises(
            StreamerError, match=r"/none/socket is not available: no such .*; expected a path in a folder"
        ):
            listen(f"unix:{tmp_path}/none/socket", 0)
