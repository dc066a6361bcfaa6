"""
A connection from the moment it is accepted until its turn comes: it costs a descriptor and a timer, and nothing else.

Thousands that say nothing, or wait behind each other, would each have a transport and a parser otherwise.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from streamer.access.early_keys import HEAD_BYTES
from streamer.access.open_sockets import OpenSocket


class Newcomer:
    """
    Waits for the first bytes of a peer, which stay in the kernel.

    Args:
        connection: Accepted, and not blocking.
        slot: Of the connection; it drops it.
        heard: Called once with the first bytes.
        timeout_s: A peer that says nothing for so long is cut.
    """

    def __init__(
        self,
        connection: socket.socket,
        slot: OpenSocket,
        heard: Callable[[Newcomer, bytes], None],
        timeout_s: float,
    ) -> None:
        self.slot = slot
        self._socket, self._heard = connection, heard
        self._loop = asyncio.get_running_loop()
        self._is_read = True
        self._patience = self._loop.call_later(timeout_s, self.drop)
        slot.drop = self.drop
        self._loop.add_reader(connection.fileno(), self._look)  # a socket would be written out, for a message

    def take(self) -> socket.socket | None:
        """Hand the connection over; None: it was cut meanwhile."""
        self._patience.cancel()
        return self._socket if self._socket.fileno() >= 0 else None

    def drop(self) -> None:
        """Cut the connection; a second call does nothing."""
        self._patience.cancel()
        if self._socket.fileno() >= 0:
            self._stop_reading()
            self._socket.close()
            self.slot.close()

    def _look(self) -> None:
        try:
            head = self._socket.recv(HEAD_BYTES, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            head = b""
        if head:
            self._stop_reading()
            self._heard(self, head)
        else:
            self.drop()

    def _stop_reading(self) -> None:
        if self._is_read:
            self._is_read = False
            self._loop.remove_reader(self._socket.fileno())
