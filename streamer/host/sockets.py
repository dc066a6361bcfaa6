"""Listening sockets of this machine: TCP ports, and Unix sockets with a file of their own."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import sys

from streamer.errors import StreamerError, reason_of

BACKLOG = 4096
"""
Connections that wait to be accepted; the system may allow fewer (net.core.somaxconn). Clients that find the queue full
try again after one, two and four seconds, and most give up after ten.
"""
UNIX = "unix:"
"""Begins a host that is the path of a Unix socket."""
SOCKET_MODE = 0o660
"""Mode of the file of a Unix socket: its owner and its group may connect."""


def listen(host: str, port: int, option: str = "") -> socket.socket:
    """
    Listen on a TCP port at the first address of a host, or on a Unix socket.

    Args:
        host: A name or an address of this machine, `::` for IPv6 and IPv4 on every network; or `unix:` and a path.
        port: 0 for any free port; ignored for a path.
        option: Chooses another port, as `--port`; for the remedy where this one is in use.

    Raises:
        StreamerError: The port or the path is in use or cannot be had, or the address is not of this machine.
    """
    path = socket_path(host)
    try:
        return _listen_at(path) if path else _listen_on(host, port)
    except (OSError, UnicodeError) as error:
        place = f"socket {path}" if path else f"port {port} on {host}"
        other = f", as {option} {port + 1 if 1024 <= port < 65535 else 8000}" if option and not path else ""
        raise refusal(place, error, f"another {'path' if path else 'port'}{other}") from None


def refusal(place: str, error: OSError | UnicodeError, other: str) -> StreamerError:
    """
    What is said of a place that cannot be listened on, with the remedy.

    Args:
        place: In words.
        error: Of the system, or of a name that cannot be one.
        other: What may be chosen instead, in words, where the place is in use.
    """
    if not isinstance(error, OSError) or isinstance(error, socket.gaierror):
        return StreamerError(f"{place} is not available: the name is not known; expected an address of this machine")
    state = "in use" if error.errno == errno.EADDRINUSE else "not available"
    remedy = {
        errno.EADDRINUSE: f"; stop the program that has it, or choose {other}",
        errno.EADDRNOTAVAIL: "; expected an address of this machine",
        errno.EACCES: "; expected a port above 1023, a folder that this account may write to, or a socket of systemd",
        errno.ENOENT: "; expected a path in a folder that is there",
    }.get(error.errno or 0, "")
    return StreamerError(f"{place} is {state}: {reason_of(error)}{remedy}")


def socket_path(host: str) -> str:
    """The path in a host such as `unix:/run/streamer.sock`; empty: it is a name or an address."""
    return host.removeprefix(UNIX) if host.startswith(UNIX) else ""


def notice_loss(connection: socket.socket, within_s: int) -> None:
    """
    Let the kernel end a TCP connection whose peer has vanished: a machine without power says no farewell.

    A peer that stands still is there: its kernel answers for it.

    Args:
        connection: Of TCP.
        within_s: Time without any answer of the peer's kernel, seconds, from 3; if it is not Linux, the system's own.
    """
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, within_s // 3)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, within_s // 3)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * within_s)


class UnixListener(socket.socket):
    """A listening Unix socket that removes its file when it is closed, unless another socket has taken the path."""

    def __init__(self, path: str) -> None:
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM)
        self._path, self._inode = path, 0
        try:
            self._take_path()
        except OSError:
            self.close()
            raise

    def _take_path(self) -> None:
        os.fchmod(self.fileno(), stat.S_IRUSR | stat.S_IWUSR)  # nobody else connects before the mode is set
        self.bind(self._path)
        self._inode = os.stat(self._path).st_ino
        os.chmod(self._path, SOCKET_MODE)
        self.listen(BACKLOG)

    def close(self) -> None:
        """Close the socket and remove its file; a second call changes nothing."""
        if self._inode:
            with contextlib.suppress(OSError):
                if os.stat(self._path).st_ino == self._inode:
                    os.unlink(self._path)
            self._inode = 0
        super().close()


def _listen_on(host: str, port: int) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    is_everywhere = family == socket.AF_INET6 and address[0] == "::" and socket.has_dualstack_ipv6()
    return socket.create_server(address[:2], family=family, backlog=BACKLOG, dualstack_ipv6=is_everywhere)


def _listen_at(path: str) -> socket.socket:
    _remove_stale(path)
    return UnixListener(path)


def _remove_stale(path: str) -> None:
    """Remove the file of a socket on which nobody listens any more: its program was killed."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, "there is a file that is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a program that listens and accepts nothing must not hold this one up
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            pass
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
