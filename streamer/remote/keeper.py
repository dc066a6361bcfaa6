"""
The program that keeps the engines of a gateway on a Ray cluster, and tells the gateway where they are.

    python -m streamer.remote.keeper DESCRIPTOR

The gateway starts it with one end of a socket pair, and has no connection to Ray of its own: what Ray's library does to
its process when the head of the cluster dies is nothing to the gateway. The keeper ends when the gateway does.
"""

from __future__ import annotations

import importlib
import os
import queue
import signal
import socket
import sys
import threading
from io import BufferedReader
from typing import Protocol

import structlog

from streamer.errors import EngineError, StreamerError
from streamer.extras import pip_install
from streamer.remote import roster, wire
from streamer.telemetry import logs

LOOK_S = 1.0
"""Between two looks at the engines, seconds."""
END_S = 5.0
"""Time in which Ray must let go of the process, seconds."""

log = structlog.get_logger()


class Cluster(Protocol):
    """The engines of one family."""

    count: int
    most: int

    def look(self) -> roster.Roster:
        """Start the engines that are missing, and tell where all are."""

    def set_number(self, n: int) -> None:
        """Start or end engines, once, so that there are `n`."""

    def leave(self) -> None:
        """Leave the cluster; one that was started here ends."""


def main(descriptor: int) -> int:
    """
    Serve one gateway until it leaves.

    Args:
        descriptor: Of the connection to the gateway.

    Returns:
        Exit code: 0 after the gateway has left, 1 if there is no cluster.
    """
    with socket.socket(fileno=descriptor) as connection, connection.makefile("rb") as lines:
        keep = roster.from_gateway(lines.readline())
        assert isinstance(keep, roster.Keep)
        logs.configure(keep.begin.config.log, sys.stderr, os.environ)
        try:
            cluster = _cluster(keep)
        except StreamerError as error:
            _say(connection, wire.Failed(kind=type(error).__name__, message=str(error)))
            return 1
        _say(connection, roster.Bounds(count=cluster.count, most=cluster.most))
        _keep(cluster, connection, lines)
    cluster.leave()
    return 0


def _cluster(keep: roster.Keep) -> Cluster:
    try:
        module = importlib.import_module("streamer.remote.ray")
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise EngineError(f'engines.where = "ray" needs Ray: {pip_install("ray")}') from error
    cluster: Cluster = module.RayCluster(keep)
    return cluster


def _keep(cluster: Cluster, connection: socket.socket, lines: BufferedReader) -> None:
    """Look at the engines again and again, and do what the gateway says, until it leaves."""
    said = _read(lines)
    while True:
        try:
            _say(connection, cluster.look())
        except EngineError as error:
            log.warning("cluster_away", error=str(error))
        except OSError:  # the gateway has left: its end of the connection is closed
            return
        try:
            wanted = said.get(timeout=LOOK_S)
        except queue.Empty:
            continue
        if wanted is None:
            return
        _set_number(cluster, wanted)


def _set_number(cluster: Cluster, n: int) -> None:
    """Start or end engines; if the cluster does not answer, the gateway asks again once it hears how many there are."""
    try:
        cluster.set_number(n)
    except EngineError as error:
        log.warning("cluster_away", error=str(error))


def _read(lines: BufferedReader) -> queue.Queue[int | None]:
    """Numbers of engines that the gateway asks for, then None; a thread of its own reads them."""
    said: queue.Queue[int | None] = queue.Queue(maxsize=16)

    def read() -> None:
        for line in lines:
            message = roster.from_gateway(line)
            if isinstance(message, roster.Number):
                said.put(message.n)
        said.put(None)
        _end_later()

    threading.Thread(target=read, daemon=True).start()
    return said


def _end_later() -> None:
    """End the process if Ray does not let go of it: it waits for a head that is dead."""
    threading.Timer(END_S, os._exit, [0]).start()


def _say(connection: socket.socket, message: roster.Line | wire.Failed) -> None:
    connection.sendall(roster.line(message))


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # the gateway still needs its engines while sessions end
    os._exit(main(int(sys.argv[1])))
