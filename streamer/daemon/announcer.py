"""Tells how far the daemon is: to the service manager, to a person at the terminal, and in the log."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable

import structlog

from streamer.daemon.entrance import Entrance
from streamer.host.systemd import Notifier, watchdog_interval_s
from streamer.host.terminal import TerminalNotes, has_person

LOADING_S = 300.0
"""How long loading the model may take before the service manager gives up."""

log = structlog.get_logger()


class Announcer:
    """
    The voice of one daemon, from its start to its stop.

    Raises:
        ConfigError: The variables of the service manager's watchdog are not as it sets them.
    """

    def __init__(self) -> None:
        self._manager = Notifier(os.environ.get("NOTIFY_SOCKET", ""))
        self._watchdog_s = watchdog_interval_s(os.environ)
        self._person = TerminalNotes(sys.stderr)

    def loading(self, model: str) -> None:
        """The model is loaded from now on."""
        self._manager.status("loading the model")
        self._manager.extend_timeout(LOADING_S)
        self._person.say(f"Loading {model} and measuring what this machine can carry …")

    def serving(self, model: str, url: str, n_gateways: int = 1) -> None:
        """
        Clients are served from now on.

        Args:
            model: Name of the model.
            url: Address for a browser.
            n_gateways: Processes that serve them.
        """
        several = {"gateways": n_gateways} if n_gateways > 1 else {}
        self._manager.ready()
        self._manager.status(f"serving {model} at {url}" + (f" with {n_gateways} gateways" if several else ""))
        log.info("serving", url=url, model=model, **several)
        self._person.say(f"Captions at {for_browsers(url, socket.gethostname())} · Ctrl-C stops")

    def stopping(self) -> None:
        """The daemon drains and stops."""
        self._person.say("Stopping: open sessions get their last words · Ctrl-C again ends at once")
        self._manager.stopping()

    def on_hangup(self, stop: asyncio.Event, entrance: Entrance, reloaded: Callable[[], None] = lambda: None) -> None:
        """
        On SIGHUP end a daemon that a person typed, whose window was closed; any other one reads its files again.

        Args:
            stop: Set to end it.
            entrance: Its keys and certificate are read.
            reloaded: Called when both were read.
        """

        def reload() -> None:
            self._manager.reloading()
            if entrance.reload():
                reloaded()
            self._manager.ready()

        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, stop.set if has_person() else reload)

    async def feed_watchdog(self, is_alive: Callable[[], bool]) -> None:
        """Feed the watchdog of the service manager, if it has one, from this event loop for as long as all is well."""
        if self._watchdog_s is None:
            return
        while True:
            if is_alive():
                self._manager.alive()
            await asyncio.sleep(self._watchdog_s)


def for_browsers(url: str, hostname: str) -> str:
    """An address that a browser can open: every network of the machine is `0.0.0.0` or `[::]`, which none can."""
    for everywhere in ("//0.0.0.0:", "//[::]:"):
        if everywhere in url:
            return f"{url.replace(everywhere, '//127.0.0.1:')} and {url.replace(everywhere, f'//{hostname}:')}"
    return url
