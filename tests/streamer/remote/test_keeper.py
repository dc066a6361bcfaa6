"""Tests of streamer/remote/keeper.py, without Ray: what a keeper tells, what it is told, and how it ends."""

from __future__ import annotations

import socket
import sys
import threading

import pytest

from streamer.errors import EngineError
from streamer.remote import keeper, roster, wire
from tests.helpers.tcp_engines import KEEP


class MemoryCluster:
    """A cluster whose engines are there at once; `fails` times it does not answer, or `refuses` a number of engines."""

    def __init__(self, fails: int = 0, refuses: int = 0) -> None:
        self.count, self.most, self.n, self.fails, self.has_ended = 2, 4, 2, fails, False
        self.refuses = refuses

    def look(self) -> roster.Roster:
        """As `RayCluster.look`."""
        if self.fails:
            self.fails -= 1
            raise EngineError("Ray does not answer")
        ready = [roster.Address(index=i, host="h", port=1, secret="00", pid=i) for i in range(self.n)]
        return roster.Roster(n=self.n, ready=tuple(ready))

    def set_number(self, n: int) -> None:
        """As `RayCluster.set_number`."""
        if self.refuses:
            self.refuses -= 1
            raise EngineError("Ray does not answer")
        self.n = n

    def leave(self) -> None:
        """As `RayCluster.leave`."""
        self.has_ended = True


class Gateway:
    """The other side of a keeper that runs on a thread."""

    def __init__(self, cluster: MemoryCluster, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(keeper, "LOOK_S", 0.001)
        monkeypatch.setattr(keeper, "_cluster", lambda keep: cluster)
        self._ours, theirs = socket.socketpair()
        self._lines = self._ours.makefile("rwb")
        self.thread = threading.Thread(target=keeper.main, args=(theirs.detach(),), daemon=True)
        self.thread.start()
        self.say(KEEP)
        self.bounds = roster.from_keeper(self._lines.readline())

    def say(self, message: roster.Line) -> None:
        """Say a line."""
        self._lines.write(roster.line(message))
        self._lines.flush()

    def engines(self) -> int:
        """Of the next roster."""
        message = roster.from_keeper(self._lines.readline())
        assert isinstance(message, roster.Roster)
        return len(message.ready)

    def leave(self) -> None:
        """As a gateway does when it ends, however it ends."""
        self._lines.close()
        self._ours.close()
        self.thread.join(60)
        assert not self.thread.is_alive()


@pytest.fixture(autouse=True)
def no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A keeper here is no process: it neither ends one, nor has a log of its own."""
    monkeypatch.setattr(keeper, "_end_later", lambda: None)
    monkeypatch.setattr(keeper.logs, "configure", lambda *_: None)


def test_a_keeper_tells_where_engines_are_until_its_gateway_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Again and again; then it leaves the cluster."""
    cluster = MemoryCluster()
    gateway = Gateway(cluster, monkeypatch)
    assert gateway.bounds == roster.Bounds(count=2, most=4)
    assert [gateway.engines() for _ in range(3)] == [2, 2, 2]

    gateway.leave()

    assert cluster.has_ended


def test_a_keeper_begins_and_ends_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the gateway says."""
    gateway = Gateway(MemoryCluster(), monkeypatch)
    for n in (3, 1):
        gateway.say(roster.Number(n=n))
        while gateway.engines() != n:
            pass
    gateway.leave()


def test_a_cluster_that_does_not_answer_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway is told nothing meanwhile: it goes on with what it knows."""
    gateway = Gateway(MemoryCluster(fails=5), monkeypatch)
    assert gateway.engines() == 2
    gateway.leave()


def test_a_cluster_that_takes_no_number_now_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway asks again for as long as the load wants it."""
    gateway = Gateway(MemoryCluster(refuses=1), monkeypatch)
    gateway.say(roster.Number(n=3))
    gateway.say(roster.Number(n=4))
    while gateway.engines() != 4:
        pass
    gateway.leave()


def test_ray_that_is_not_installed_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon ends with it."""
    monkeypatch.delitem(sys.modules, "streamer.remote.ray", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    ours, theirs = socket.socketpair()
    ours.sendall(roster.line(KEEP))
    assert keeper.main(theirs.detach()) == 1
    with ours, ours.makefile("rb") as lines:
        message = roster.from_keeper(lines.readline())

    assert isinstance(message, wire.Failed)
    assert "pip install" in message.message
    assert "ray" in message.message


@pytest.mark.parametrize("line", [b"", b"x\n", b'{"type":"Keep"}\n', b'{"type":"Number","n":"many"}\n'])
def test_lines_that_are_none(line: bytes) -> None:
    """Are an error on both sides, with what was expected."""
    with pytest.raises(wire.WireError, match="no line of a gateway"):
        roster.from_gateway(line)
    with pytest.raises(wire.WireError, match="no line of a keeper"):
        roster.from_keeper(line)
