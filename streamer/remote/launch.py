"""Starts processes that end with their connection: engine processes, of which it waits until they are ready."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from streamer import errors
from streamer.errors import EngineError, StreamerError
from streamer.remote import wire

START_S = 300.0
"""Time in which an engine process must be ready, seconds: large weights come from a slow disk."""
END_S = 5.0
"""Time in which a killed process must be gone, seconds."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """How an engine process is started."""

    command: Sequence[str]
    """The number of the descriptor of its connection is appended, and that of `listening`."""
    environment: Mapping[str, str]
    """Variables beside those of this process."""
    begin: wire.Begin
    """What it is told first."""
    listening: socket.socket | None = None
    """Where other gateways reach it; it is the same for a process that follows. None: there is one gateway."""


class ChildProcess:
    """
    A process, and the connection to it.

    Args:
        name: In messages, as `engine 0`.
        command: Starts it; the numbers of the descriptors of its connection and of `sockets` are appended.
        environment: Variables beside those of this process.
        sockets: That it gets too.

    Raises:
        EngineError: It cannot be started.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        sockets: Sequence[socket.socket] = (),
    ) -> None:
        with contextlib.ExitStack() as undone:
            try:
                self.connection, theirs = map(undone.enter_context, socket.socketpair())
                descriptors = [each.fileno() for each in (theirs, *sockets)]
                self._process = subprocess.Popen(
                    [*command, *map(str, descriptors)],
                    pass_fds=descriptors,
                    stdin=subprocess.DEVNULL,
                    env={**os.environ, **environment},
                    start_new_session=True,  # Ctrl-C in a terminal is for the gateway, which drains
                )
            except OSError as error:  # of the program, or no descriptors are left
                raise EngineError(f"{name}: {command[0]} cannot be started: {error}") from error
            theirs.close()
            undone.pop_all()
        self.connection.setblocking(False)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def kill(self) -> None:
        """End the connection and the process at once, however it is."""
        self.connection.close()
        self._process.kill()

    async def leave(self, wait_s: float) -> None:
        """End the connection, wait until it has ended by itself, and kill it if it has not."""
        self.connection.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self._process.wait, wait_s)
        await self.end()

    async def end(self) -> str:
        """Kill it and wait until it is gone; its exit code or signal, in words."""
        has_ended = self._process.poll() is not None
        self.kill()
        try:
            # a GPU needs a while to take back the memory of a process
            code = await asyncio.to_thread(self._process.wait, END_S)
        except subprocess.TimeoutExpired:  # it waits for a driver: nothing can be done about it here
            return f"not gone after {END_S:.0f} s"
        if not has_ended:
            return "killed by the gateway"
        return f"signal {-code}" if code < 0 else f"exit code {code}"


class EngineProcess(ChildProcess):
    """
    One process with one engine, and the connection to it.

    Args:
        program: What to start.

    Raises:
        EngineError: It cannot be started.
    """

    def __init__(self, program: Program) -> None:
        self.name, self._begin = program.begin.name, program.begin
        sockets = [program.listening] if program.listening else []
        super().__init__(f"engine {self.name}", program.command, program.environment, sockets)

    async def ready(self) -> wire.Ready:
        """
        Tell it what to load, and wait until it has.

        Raises:
            StreamerError: It cannot start, for the reason that it names.
            EngineError: It ended, said something else, or took longer than `START_S`.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(START_S):
                await loop.sock_sendall(self.connection, wire.pack(self._begin))
                message = wire.from_engine(await self._receive())
        except TimeoutError:
            raise EngineError(f"engine {self.name} was not ready within {START_S:.0f} s") from None
        except (wire.WireError, OSError, EOFError) as error:
            raise EngineError(f"engine {self.name} ended while it started: {error or 'its log says why'}") from error
        if isinstance(message, wire.Failed):
            raise error_of(message.kind, message.message)
        if not isinstance(message, wire.Ready) or message.version != wire.VERSION:
            raise EngineError(f"engine {self.name} is of another version: expected messages of version {wire.VERSION}")
        check_nice(self.name, message)
        return message

    async def _receive(self) -> bytes:
        """One message; raises EOFError where the connection ends first."""
        return await self._exactly(wire.FRAMING.length_of(await self._exactly(wire.LENGTH.size)))

    async def _exactly(self, n: int) -> bytes:
        data = b""
        while len(data) < n:
            part = await asyncio.get_running_loop().sock_recv(self.connection, n - len(data))
            if not part:
                raise EOFError
            data += part
        return data


def check_nice(name: str, ready: wire.Ready) -> None:
    """Log an engine that starts with a higher niceness than its gateway: its captions come late on a busy machine."""
    nice = os.nice(0)
    if ready.nice > nice:
        log.error("engine_niced", engine=name, nice=ready.nice, expected=nice)


def error_of(kind: str, message: str) -> StreamerError:
    """The error that a process met while it started, of the same class."""
    found = getattr(errors, kind, EngineError)
    is_plain = isinstance(found, type) and issubclass(found, StreamerError) and found.__init__ is StreamerError.__init__
    return found(message) if is_plain else EngineError(message)
