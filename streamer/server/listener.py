"""
Accepts connections of one listening socket, within bounds that no single address can use up.

asyncio's own servers retry an accept that fails for want of descriptors a hundred times a second, with as many
tracebacks, give a TLS handshake a minute, and know no bound. Here a failing accept is counted, told once, and tried
again after RETRY_S; a handshake has `request_timeout_s`; and connections that wait for their peer are bounded.

The queue of the kernel is emptied fast: who stands in it cannot be told from others, and who finds it full tries again
after one, two and four seconds. So a connection that is accepted costs little until it has said something; then it gets
its turn, and whoever shows a key comes first.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
import weakref
from collections.abc import Callable

import structlog

from streamer.access.open_sockets import OpenSocket, OpenSockets
from streamer.host.sockets import BACKLOG
from streamer.server.newcomer import Newcomer
from streamer.server.pieces import ParseQueue, rank_of
from streamer.telemetry.metrics import SocketMetrics

ACCEPT_S = 0.003
"""Time that accepting takes before the event loop runs anything else, seconds."""
RETRY_S = 0.5
"""Pause after an accept that failed."""
TELL_S = 10.0
"""Shortest time between two log lines about that."""

log = structlog.get_logger()


class Listener:
    """
    One listening socket.

    Args:
        listening: Of TCP or Unix; closed by `close`.
        build: Makes the protocol of a connection, which closes the slot once it is lost.
        sockets: Bounds of the connections.
        parse_queue: Of the server.
        knows: Whether the first bytes of a connection show a valid key.
        tls: Certificate and key; None: plain.
        patience_s: Longest wait for the first bytes, and longest TLS handshake.
        metrics: Counters.
    """

    def __init__(
        self,
        listening: socket.socket,
        build: Callable[[OpenSocket], asyncio.Protocol],
        sockets: OpenSockets,
        parse_queue: ParseQueue,
        knows: Callable[[bytes], bool],
        tls: ssl.SSLContext | None,
        patience_s: float,
        metrics: SocketMetrics,
    ) -> None:
        self._socket, self._build, self._sockets, self._tls = listening, build, sockets, tls
        self._parse_queue, self._knows, self._patience_s = parse_queue, knows, patience_s
        self._metrics, self._told_s = metrics, float("-inf")
        self._loop = asyncio.get_running_loop()
        self._retry: asyncio.TimerHandle | None = None
        self._is_due = False
        self._newcomers: weakref.WeakSet[Newcomer] = weakref.WeakSet()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Accept connections from now on."""
        self._socket.setblocking(False)
        self._socket.listen(BACKLOG)
        self._loop.add_reader(self._socket, self._accept)

    def close(self) -> None:
        """Accept no more, and close the socket; open connections stay. A second call does nothing."""
        if self._socket.fileno() < 0:
            return
        if self._retry is not None:
            self._retry.cancel()
        self._loop.remove_reader(self._socket)
        self._socket.close()

    async def wait_closed(self) -> None:
        """Cut the connections that have said nothing, and cancel the handshakes that are not over."""
        for newcomer in list(self._newcomers):
            newcomer.drop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self) -> None:
        if self._socket.fileno() < 0 or self._is_due:
            return
        end_s = self._loop.time() + ACCEPT_S
        while True:
            try:
                connection, address = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause(error)
                return
            self._admit(connection, str(address[0]) if isinstance(address, tuple) else "")
            if self._loop.time() >= end_s:
                break
        self._is_due = True  # in the next turn, not once all other sockets have had theirs; and once in each turn
        self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._is_due = False
        self._accept()

    def _admit(self, connection: socket.socket, host: str) -> None:
        slot = self._sockets.admit(host, self._loop.time())
        if slot is None:
            connection.close()
            return
        connection.setblocking(False)
        self._newcomers.add(Newcomer(connection, slot, self._queue, self._patience_s))

    def _queue(self, newcomer: Newcomer, head: bytes) -> None:
        if self._knows(head):
            newcomer.slot.show_key()
        self._parse_queue.add(functools.partial(self._begin, newcomer), rank_of(newcomer.slot))

    def _begin(self, newcomer: Newcomer) -> None:
        connection, slot = newcomer.take(), newcomer.slot
        if connection is None:
            return
        task = self._loop.create_task(self._open(connection, slot))
        slot.drop = task.cancel
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _open(self, connection: socket.socket, slot: OpenSocket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                lambda: self._build(slot),
                connection,
                ssl=self._tls,
                ssl_handshake_timeout=None if self._tls is None else self._patience_s,
            )
        except (OSError, asyncio.CancelledError) as error:  # errors of TLS and timeouts are kinds of OSError
            slot.close()
            log.debug("handshake_failed", error=str(error))

    def _pause(self, error: OSError) -> None:
        """Accept nothing for a while: the kernel keeps the clients, and descriptors may come back."""
        self._metrics.accept_errors.inc()
        self._loop.remove_reader(self._socket)
        self._retry = self._loop.call_later(RETRY_S, self._loop.add_reader, self._socket, self._accept)
        now_s = self._loop.time()
        if now_s - self._told_s >= TELL_S:
            self._told_s = now_s
            log.warning("accept_failed", error=error.strerror, open=self._sockets.n_open)
