"""Starts a gateway process, tells it what to serve, and waits until it does. It ends when its connection does."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from streamer.errors import StreamerError
from streamer.gateways import wire
from streamer.gateways.hub import Hub
from streamer.gateways.member import Member
from streamer.remote.launch import error_of

START_S = 120.0
"""Time in which a gateway must serve, seconds: it loads no weights."""
HANGING_S = 30.0
"""Time without a sign of life after which a gateway is replaced, seconds."""
TICK_S = 0.5
"""Between two looks at that, seconds. Looks are counted: there are none in a container that is paused."""
END_S = 5.0
"""Time in which a gateway must be gone once its connection has ended, seconds."""
NOT_FOR_CHILDREN = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")
"""Variables of the service manager: it knows the parent alone."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayProgram:
    """How a gateway process is started."""

    command: Sequence[str]
    """The number of the descriptor of its connection is appended."""
    begin: wire.Begin
    """What it is told first; it inherits the descriptors that this names."""


class GatewayProcess:
    """
    One gateway process and the connection to it.

    Args:
        program: What to start.
        hub: Serves it.

    Raises:
        StreamerError: It cannot be started.
    """

    def __init__(self, program: GatewayProgram, hub: Hub) -> None:
        self._begin, self._hub = program.begin, hub
        self.is_stopped = False
        """Whether it was told to end."""
        self._left_s = math.inf
        """Time until it must be gone, counted in looks, seconds."""
        self._member: Member | None = None
        self._serving: asyncio.Task[None] | None = None
        wyoming = () if self._begin.wyoming is None else (self._begin.wyoming,)
        with contextlib.ExitStack() as undone:
            try:
                self._connection, theirs = map(undone.enter_context, socket.socketpair())
                self._process = subprocess.Popen(
                    [*program.command, str(theirs.fileno())],
                    pass_fds=[theirs.fileno(), *self._begin.sockets, *wyoming],
                    stdin=subprocess.DEVNULL,
                    env={name: value for name, value in os.environ.items() if name not in NOT_FOR_CHILDREN},
                    start_new_session=True,  # Ctrl-C in a terminal is for the parent
                )
            except OSError as error:  # of the program, or no descriptors are left
                raise StreamerError(
                    f"gateway {self._begin.index}: {program.command[0]} cannot be started: {error}"
                ) from error
            theirs.close()
            undone.pop_all()
        self._connection.setblocking(False)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    async def start(self) -> None:
        """
        Wait until it serves.

        Raises:
            StreamerError: It cannot start, for the reason that it names; it ended, or took longer than `START_S`.
        """
        reader, writer = await asyncio.open_connection(sock=self._connection)
        self._member = Member(str(self._begin.index), writer)
        self._serving = asyncio.create_task(self._serve(self._member, reader, writer))
        self._member.send(self._begin)
        try:
            async with asyncio.timeout(START_S):
                begun = await self._member.start
        except TimeoutError:
            raise StreamerError(f"gateway {self._begin.index} did not serve within {START_S:.0f} s") from None
        if begun is None:
            raise StreamerError(f"gateway {self._begin.index} ended while it started: its log says why")
        if isinstance(begun, wire.Failed):
            raise error_of(begun.kind, begun.message)
        if begun.version != wire.VERSION:
            raise StreamerError(f"gateway {self._begin.index} is of another version: expected {wire.VERSION}")

    async def _serve(self, member: Member, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._hub.serve(member, reader)
        except wire.HubWireError as error:
            log.error("gateway_message_unreadable", gateway=member.name, error=str(error))  # noqa: TRY400 - it says all
        finally:
            writer.transport.abort()

    def stop(self, within_s: float, *, is_replaced: bool) -> None:
        """
        Let it drain and end.

        Args:
            within_s: Time after which it is killed, seconds.
            is_replaced: Whether another one takes its place.
        """
        self.is_stopped = True
        self._left_s = within_s
        if self._member:
            self._member.send(wire.Stop(is_replaced=is_replaced))

    async def ended(self) -> str:
        """Wait until it has ended, and kill it where it hangs; how it ended, in words."""
        assert self._serving is not None
        assert self._member is not None
        while not (await asyncio.wait({self._serving}, timeout=TICK_S))[0]:
            self._member.silent_s += TICK_S
            self._left_s -= TICK_S
            if self._is_overdue():
                self._process.kill()
        return await self.end()

    def _is_overdue(self) -> bool:
        assert self._member is not None
        if self._member.silent_s > HANGING_S:
            log.error("gateway_hangs", gateway=self._member.name, seconds=HANGING_S)
            return True
        if self._left_s < 0:
            log.error("gateway_stops_too_slowly", gateway=self._member.name)
            return True
        return False

    async def end(self) -> str:
        """Wait a little until it is gone, then kill it; its exit code or signal, in words."""
        try:
            code = await asyncio.to_thread(self._process.wait, END_S if self._has_left else 0.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = await asyncio.to_thread(self._process.wait)
        if self._serving:
            await self._serving
        self._connection.close()
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    @property
    def _has_left(self) -> bool:
        """Whether it has closed its end of the connection."""
        return self._serving is not None and self._serving.done()
