"""
The service manager: what systemd is told (sd_notify), and the sockets it hands over (LISTEN_FDS).

Without systemd nothing here does anything, so callers need not ask.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping

FIRST_SOCKET = 3
"""File descriptor of the first socket handed over."""


class Notifier:
    """Tells the service manager how the daemon is. `address` is `$NOTIFY_SOCKET`, empty without one."""

    def __init__(self, address: str) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address

    def ready(self) -> None:
        """A real decode has worked and the sockets listen."""
        self._send("READY=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send(f"STATUS={text}")

    def alive(self) -> None:
        """Feed the watchdog: to be called from where health is proven, at every `watchdog_interval_s`."""
        # a manager that does not read is told later: the loop that serves must not wait for it
        with contextlib.suppress(BlockingIOError):
            self._send("WATCHDOG=1", socket.MSG_DONTWAIT)

    def reloading(self) -> None:
        """The configuration is read again; `ready` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """The drain begins."""
        self._send("STOPPING=1")

    def extend_timeout(self, seconds: float) -> None:
        """Starting or stopping takes this much longer from now."""
        self._send(f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")

    def _send(self, message: str, flags: int = 0) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.sendto(message.encode(), flags, self._address)


def watchdog_interval_s(environment: Mapping[str, str]) -> float | None:
    """Seconds between two signs of life: half of what the unit allows; None without a watchdog."""
    if "WATCHDOG_USEC" not in environment or not _is_for_us(environment, "WATCHDOG_PID"):
        return None
    return int(environment["WATCHDOG_USEC"]) / 2e6


def inherited_sockets(environment: Mapping[str, str]) -> list[socket.socket]:
    """The listening sockets handed over by socket activation, in the order of the unit; often none."""
    if "LISTEN_FDS" not in environment or not _is_for_us(environment, "LISTEN_PID"):
        return []
    descriptors = range(FIRST_SOCKET, FIRST_SOCKET + int(environment["LISTEN_FDS"]))
    for descriptor in descriptors:
        # not for child processes
        os.set_inheritable(descriptor, False)
    return [socket.socket(fileno=descriptor) for descriptor in descriptors]


def _is_for_us(environment: Mapping[str, str], variable: str) -> bool:
    """Whether a variable was meant for this process, not for the one that started it."""
    return environment.get(variable, str(os.getpid())) == str(os.getpid())
