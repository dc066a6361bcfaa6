"""Tests of streamer.host.systemd."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog.testing

from streamer.errors import ConfigError
from streamer.host.systemd import Notifier, inherited_sockets, watchdog_interval_s
from tests.helpers.descriptors import no_descriptors


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A service manager's socket and its address as in $NOTIFY_SOCKET."""
    name = f"streamer-test-{os.getpid()}"
    bound, address = {"path": (str(tmp_path / "notify"),) * 2, "abstract": (f"\0{name}", f"@{name}")}[request.param]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(bound)
        receiver.settimeout(5)
        yield receiver, address


@pytest.mark.parametrize(
    ("tell", "message"),
    [
        (Notifier.ready, "READY=1"),
        (Notifier.alive, "WATCHDOG=1"),
        (Notifier.stopping, "STOPPING=1"),
        (lambda notifier: notifier.status("3 sessions, naïve 🎙"), "STATUS=3 sessions, naïve 🎙"),
        (lambda notifier: notifier.extend_timeout(1.5), "EXTEND_TIMEOUT_USEC=1500000"),
    ],
)
def test_each_state_is_one_message(
    manager: tuple[socket.socket, str], tell: Callable[[Notifier], None], message: str
) -> None:
    """Each message arrives as one datagram, in UTF-8."""
    receiver, address = manager
    tell(Notifier(address))
    assert receiver.recv(1000).decode() == message


def test_reloading_carries_the_monotonic_time(manager: tuple[socket.socket, str]) -> None:
    """systemd ignores a reload message without the clock."""
    receiver, address = manager
    Notifier(address).reloading()
    first, second = receiver.recv(1000).decode().split("\n")
    assert first == "RELOADING=1"
    assert int(second.removeprefix("MONOTONIC_USEC=")) > 0


def test_without_a_manager_nothing_is_sent() -> None:
    """An empty address makes every call a no-op."""
    Notifier("").ready()


@pytest.mark.parametrize(
    ("environment", "interval_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
    ],
)
def test_the_watchdog_is_fed_twice_as_often_as_asked(environment: dict[str, str], interval_s: float | None) -> None:
    """Half the time allowed, if the watchdog is for this process."""
    assert watchdog_interval_s(environment) == interval_s


@pytest.mark.parametrize("environment", [{}, {"LISTEN_FDS": "1", "LISTEN_PID": "1"}])
def test_no_sockets_without_activation(environment: dict[str, str]) -> None:
    """Descriptors that were meant for another process are not touched."""
    assert inherited_sockets(environment) == []


@pytest.mark.parametrize("text", ["", "abc", "-1", "1.5", "1e6", " 1", "٣", "0", str(2**64), 5000 * "9"])
def test_a_watchdog_that_systemd_does_not_set_is_refused(text: str) -> None:
    """The message has the variable, what it may be, and the remedy."""
    with pytest.raises(ConfigError, match=r"^WATCHDOG_USEC='.{0,40}': expected microseconds from 1 on: .*systemctl"):
        watchdog_interval_s({"WATCHDOG_USEC": text})


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"LISTEN_FDS": "two"}, "LISTEN_FDS='two': expected a number of sockets"),
        ({"LISTEN_FDS": "-1"}, "LISTEN_FDS='-1': expected a number of sockets"),
        ({"LISTEN_FDS": "1", "LISTEN_PID": "self"}, "LISTEN_PID='self': expected the number of a process"),
        ({"LISTEN_FDS": "1", "LISTEN_PID": ""}, "LISTEN_PID='': expected the number of a process"),
    ],
)
def test_sockets_that_systemd_does_not_pass_are_refused(variables: dict[str, str], expected: str) -> None:
    """Broken variables are told, where no socket could be looked for."""
    with pytest.raises(ConfigError, match=f"^{expected}: .*unset the variable"):
        inherited_sockets(variables)


REFUSE = """
import os, socket
from streamer.errors import ConfigError
from streamer.host.systemd import inherited_sockets
os.closerange(3, 10)
def tell():
    try:
        inherited_sockets({"LISTEN_FDS": "99999999999"})
    except ConfigError as error:
        print(str(error).partition(";")[0])
tell()
with open(os.devnull) as file:
    tell()
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    with socket.socket(socket.AF_UNIX, kind):
        tell()
first = socket.socket()
first.listen()
tell()
first.detach()
"""


def test_descriptors_that_do_not_listen_are_refused() -> None:
    """Nothing, a file, a socket that does not listen, one that cannot, and one fewer than there should be."""
    run = subprocess.run([sys.executable, "-c", REFUSE], stdout=subprocess.PIPE, text=True, timeout=60, check=True)
    found = "LISTEN_FDS=99999999999: descriptor {} cannot be used: {}".format
    assert run.stdout.splitlines() == [
        found(3, "bad file descriptor"),
        found(3, "socket operation on non-socket"),
        found(3, "it does not listen"),
        found(3, "it does not listen"),
        found(4, "bad file descriptor"),
    ]


ACCEPT = """
import os
from streamer.host.systemd import inherited_sockets
(listener,) = inherited_sockets({"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())})
assert not listener.get_inheritable()
connection, _ = listener.accept()
connection.sendall(b"hello")
"""


def test_an_inherited_socket_accepts() -> None:
    """A listener on descriptor 3 of a child process serves a connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hand_over() -> None:
            os.dup2(listener.fileno(), 3)

        # the child's descriptor 3 must survive the exec: dup2 makes it inheritable
        child = subprocess.Popen([sys.executable, "-c", ACCEPT], close_fds=False, preexec_fn=hand_over)
        with socket.create_connection(listener.getsockname(), timeout=120) as client:
            assert client.recv(5) == b"hello"
        assert child.wait(timeout=120) == 0


def test_a_manager_that_does_not_read_holds_nobody_up(tmp_path: Path) -> None:
    """Signs of life that find the manager's queue full are dropped; the caller is the loop that serves."""
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        notifier = Notifier(address)
        for _ in range(10_000):
            notifier.alive()

        assert manager.recv(100) == b"WATCHDOG=1"


def test_what_cannot_be_told_ends_nothing() -> None:
    """A stop without a descriptor must not cost the last words of sessions; the log says what was not told."""
    with no_descriptors(), structlog.testing.capture_logs() as logs:
        notifier = Notifier("@nobody")
        notifier.alive()
        notifier.reloading()
        notifier.stopping()
    assert [entry["message"].partition("\n")[0] for entry in logs] == ["RELOADING=1", "STOPPING=1"]
    assert {entry["reason"] for entry in logs} == {"too many open files"}
