"""
The service manager systemd: notifications (sd_notify), watchdog, and inherited sockets (LISTEN_FDS).

Without systemd every function does nothing, so callers need not ask.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
from collections.abc import Mapping

import structlog

from streamer.errors import ConfigError, reason_of

FIRST_SOCKET = 3
"""File descriptor of the first inherited socket."""
REMEDY = "start the unit with systemctl, or unset the variable"
"""For variables of the service manager that somebody else has set."""

log = structlog.get_logger()


class Notifier:
    """
    Reports the state of the daemon to the service manager. `address` is `$NOTIFY_SOCKET`; empty: report nothing.

    What cannot be sent is told in the log and ends nothing: sessions have their last words without the manager too.
    """

    def __init__(self, address: str) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address

    def ready(self) -> None:
        """The daemon serves: it listens and has decoded once."""
        self._tell("READY=1")

    def status(self, text: str) -> None:
        """Set the status line of `systemctl status`."""
        self._tell(f"STATUS={text}")

    def alive(self) -> None:
        """Feed the watchdog, every `watchdog_interval_s` while the daemon is healthy. Never blocks."""
        # if the manager does not read, or no descriptor is left, skip this one: the event loop goes on
        with contextlib.suppress(OSError):
            self._send("WATCHDOG=1", socket.MSG_DONTWAIT)

    def reloading(self) -> None:
        """The daemon reads its configuration again; `ready` ends this state."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """The daemon drains and stops."""
        self._tell("STOPPING=1")

    def extend_timeout(self, seconds: float) -> None:
        """Start or stop takes up to `seconds` from now: the manager shall not give up before."""
        self._tell(f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")

    def _tell(self, message: str) -> None:
        try:
            self._send(message)
        except OSError as error:
            log.warning("manager_not_told", message=message, reason=reason_of(error))

    def _send(self, message: str, flags: int = 0) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.sendto(message.encode(), flags, self._address)


def watchdog_interval_s(environment: Mapping[str, str]) -> float | None:
    """
    Seconds between two calls of `Notifier.alive`: half of what the unit allows; None without a watchdog.

    Raises:
        ConfigError: The variables are not as systemd sets them.
    """
    if "WATCHDOG_USEC" not in environment or not _is_for_us(environment, "WATCHDOG_PID"):
        return None
    return _number(environment, "WATCHDOG_USEC", "microseconds from 1 on", least=1) / 2e6


def inherited_sockets(environment: Mapping[str, str]) -> list[socket.socket]:
    """
    The listening sockets of socket activation, in the order of the unit; empty without it.

    Raises:
        ConfigError: The variables are not as systemd sets them, or such a descriptor is no socket that listens.
    """
    if "LISTEN_FDS" not in environment or not _is_for_us(environment, "LISTEN_PID"):
        return []
    count = _number(environment, "LISTEN_FDS", "a number of sockets")
    return [_listening(descriptor, count) for descriptor in range(FIRST_SOCKET, FIRST_SOCKET + count)]


def _listening(descriptor: int, count: int) -> socket.socket:
    """An inherited socket, which child processes do not inherit."""
    try:
        listener = socket.socket(fileno=descriptor)
        is_listening = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise _unusable(descriptor, count, reason_of(error)) from None
    if not is_listening:
        listener.detach()  # whoever passed it may use it on
        raise _unusable(descriptor, count, "it does not listen")
    listener.set_inheritable(False)
    return listener


def _unusable(descriptor: int, count: int, reason: str) -> ConfigError:
    return ConfigError(
        f"LISTEN_FDS={count}: descriptor {descriptor} cannot be used: {reason}; expected listening stream sockets from "
        f"descriptor {FIRST_SOCKET} on: {REMEDY}"
    )


def _is_for_us(environment: Mapping[str, str], variable: str) -> bool:
    """Whether a variable was set for this process and not for its parent."""
    return variable not in environment or _number(environment, variable, "the number of a process") == os.getpid()


def _number(environment: Mapping[str, str], variable: str, expected: str, least: int = 0) -> int:
    """The number in a variable of the service manager, at most one of 64 bits."""
    text = environment[variable]
    if not re.fullmatch("[0-9]{1,20}", text) or not least <= int(text) < 2**64:
        raise ConfigError(f"{variable}={text[:40]!r}: expected {expected}: {REMEDY}")
    return int(text)
