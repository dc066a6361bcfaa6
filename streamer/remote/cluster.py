"""
The engines of a gateway on a cluster: found by a keeper, reached over TCP, and used as engine processes are.

Each place stands for the engine of one index. The keeper tells where it is; a place whose engine is lost connects again
as soon as that is possible, where the engine has moved at its new address. The keeper is a process of its own: while it
is lost, or the cluster does not answer it, the gateway goes on with the engines that it knows.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable, Sequence

import msgspec
import structlog

from streamer.errors import EngineError
from streamer.remote import roster, wire
from streamer.remote.changes import Changes
from streamer.remote.handshake import EngineConnection, connect
from streamer.remote.launch import START_S, ChildProcess, check_nice, error_of
from streamer.remote.link import EngineLink, run_link
from streamer.remote.scaling import Scaling
from streamer.server.tasks import run_until_first

COMMAND = (sys.executable, "-m", "streamer.remote.keeper")
"""Starts a keeper."""
RETRY_S = 0.5
"""Between two tries to connect to an engine, seconds."""
GONE_S = 1.0
"""Time in which a process that still listens takes a connection, seconds."""
FOREIGN_S = 30.0
"""The same for an engine with other weights."""
SILENT_S = 60.0
"""Time without a word after which a keeper is started anew, seconds."""
KEEPER_PAUSE_S = 5.0
"""Pause before that, seconds."""
SCALE_S = 1.0
"""Between two looks at the load, seconds."""
LEAVE_S = 10.0
"""Time in which a keeper that was left must be gone, seconds."""
MOST_LINE = 2**20
"""Longest line of a keeper, bytes."""

log = structlog.get_logger()


class ClusterPlace:
    """
    The engine of one index.

    Args:
        index: Of the engine.
        is_permanent: Whether there always is such an engine.
        fingerprint: Of the weights that it must have.
        on_change: Called when it begins or stops to answer.
        on_rebuilt: As that of `EngineLink`.
    """

    def __init__(
        self,
        index: int,
        is_permanent: bool,
        fingerprint: str,
        on_change: Callable[[], None],
        on_rebuilt: Callable[[int], None],
    ) -> None:
        self.name, self.n_restarts = str(index), 0
        self.is_wanted = is_permanent
        """Whether it is missed while it is lost: others once they have answered, until there shall be fewer."""
        self.link: EngineLink | None = None
        self._fingerprint, self._on_change, self._on_rebuilt = fingerprint, on_change, on_rebuilt
        self._address: roster.Address | None = None
        self._moved = asyncio.Event()

    @property
    def is_lost(self) -> bool:
        """Whether it does not answer, or is not there."""
        return self.link is None or not self.link.is_answering

    @property
    def pid(self) -> int:
        """Of its process; 0 while it has none."""
        return self._address.pid if self._address and self.link else 0

    def told(self, address: roster.Address) -> None:
        """The keeper has found it: at another address, another process holds it now."""
        if address != self._address:
            self.n_restarts += self._address is not None
            self._address = address
            self._moved.set()

    async def run(self) -> None:
        """Use it wherever it is, until cancelled."""
        while True:
            await self._moved.wait()
            self._moved.clear()
            await run_until_first(self._serve_at(self._address), self._wait_moved())

    async def _wait_moved(self) -> None:
        await self._moved.wait()

    async def _serve_at(self, address: roster.Address | None) -> None:
        """Connect again and again."""
        assert address
        was_refused = False
        while True:
            pause_s = RETRY_S
            try:
                connection = await connect(address.host, address.port, bytes.fromhex(address.secret))
            except (OSError, wire.WireError) as error:
                if not was_refused:
                    log.warning("engine_not_entered", engine=self.name, error=str(error) or type(error).__name__)
                was_refused = True
            else:
                was_refused = False
                check_nice(self.name, connection.ready)
                if connection.ready.facts.fingerprint == self._fingerprint:
                    await self._serve(connection)
                else:
                    log.error("engine_foreign", engine=self.name, remedy="restart the daemon to use its weights")
                    connection.writer.transport.abort()
                    pause_s = FOREIGN_S
            await asyncio.sleep(pause_s)

    async def _serve(self, connection: EngineConnection) -> None:
        """Use it until it is lost or hangs."""
        self.is_wanted = True
        self.link = link = EngineLink(self.name, connection.writer.write, ahead_s=connection.ahead_s)
        link.on_change, link.on_rebuilt = self._on_change, self._on_rebuilt
        self._on_change()
        try:
            await run_link(link, connection.reader, self._is_gone)
            log.error("engine_ended", engine=self.name, pid=self.pid)
        except wire.WireError as error:
            log.error("engine_message_unreadable", engine=self.name, error=str(error))  # noqa: TRY400 - it says all
        finally:
            self.link = None
            connection.writer.transport.abort()
            self._on_change()

    async def _is_gone(self) -> bool:
        """Whether nobody listens at its address any more: a connection alone is lost by the network too."""
        assert self._address
        try:
            async with asyncio.timeout(GONE_S):
                _, writer = await asyncio.open_connection(self._address.host, self._address.port)
        except OSError as error:
            return isinstance(error, ConnectionRefusedError)
        writer.transport.abort()
        return False


class Keeper:
    """
    A keeper process, and what it has told.

    Args:
        keep: Which engines to keep.
        command: Starts it.

    Raises:
        EngineError: It cannot be started.
    """

    def __init__(self, keep: roster.Keep, command: Sequence[str] = COMMAND) -> None:
        self._process = ChildProcess("the keeper of engines", command, {})
        self._keep = keep
        self._said = b""

    async def begin(self) -> roster.Bounds:
        """
        Tell it what to keep, and wait until it has reached the cluster.

        Raises:
            StreamerError: There is no cluster, for the reason that it names.
            EngineError: It has ended.
        """
        await self._send(self._keep)
        message = await self.next()
        if isinstance(message, roster.Bounds):
            return message
        raise EngineError("the keeper of engines ended: its log says why")

    async def next(self) -> roster.FromKeeper:
        """
        The next line.

        Raises:
            StreamerError: It has failed, for the reason that it names.
            EngineError: It has ended.
        """
        loop = asyncio.get_running_loop()
        while b"\n" not in self._said:
            part = await loop.sock_recv(self._process.connection, 2**16)
            if not part or len(self._said) > MOST_LINE:
                raise EngineError("the keeper of engines ended: its log says why")
            self._said += part
        line, _, self._said = self._said.partition(b"\n")
        message = roster.from_keeper(line)
        if isinstance(message, wire.Failed):
            raise error_of(message.kind, message.message)
        return message

    async def set_number(self, n: int) -> None:
        """Start or end engines, so that there are `n`."""
        await self._send(roster.Number(n=n))

    async def _send(self, message: roster.Line) -> None:
        with contextlib.suppress(OSError):  # it has ended, as `next` tells, and its connection may be closed already
            await asyncio.get_running_loop().sock_sendall(self._process.connection, roster.line(message))

    async def end(self) -> None:
        """End it and wait until it is gone; so is a cluster that it started."""
        await self._process.leave(LEAVE_S)


async def first_ready(keeper: Keeper) -> tuple[roster.Bounds, list[wire.Ready]]:
    """
    Wait until an engine is ready, and collect the `Ready` messages of all that are.

    Raises:
        StreamerError: There is no cluster, for the reason that it names.
        EngineError: No engine can start, or none is ready within `START_S`.
    """
    failures: tuple[str, ...] = ()
    try:
        async with asyncio.timeout(START_S):
            bounds = await keeper.begin()
            while True:
                message = await keeper.next()
                assert isinstance(message, roster.Roster)
                if message.failures and len(message.failures) == message.n:
                    raise EngineError(message.failures[0])
                failures = message.failures
                if ready := [each for address in message.ready if (each := await _ready_at(address))]:
                    return bounds, ready
    except TimeoutError:
        reason = failures[0] if failures else "has the cluster room for one? (ray status)"
        raise EngineError(f"no engine was ready within {START_S:.0f} s: {reason}") from None


async def _ready_at(address: roster.Address) -> wire.Ready | None:
    try:
        connection = await connect(address.host, address.port, bytes.fromhex(address.secret))
    except (OSError, wire.WireError) as error:
        log.warning("engine_not_entered", engine=str(address.index), error=str(error))
        return None
    connection.writer.transport.abort()
    return connection.ready


class ClusterPool:
    """
    All engines of a gateway on a cluster.

    Args:
        keep: Which engines; for keepers that are started later.
        keeper: The first keeper, which has begun.
        bounds: As it told.
        fingerprint: Of the weights that all must have.
        on_rebuilt: Called with a number of engines that were built again inside their process.
        command: Starts a keeper.
    """

    has_given_up = False
    """Never: an engine may come to the cluster at any time."""

    def __init__(
        self,
        keep: roster.Keep,
        keeper: Keeper,
        bounds: roster.Bounds,
        fingerprint: str,
        on_rebuilt: Callable[[int], None],
        command: Sequence[str] = COMMAND,
    ) -> None:
        # a later keeper may find a larger cluster: there is a worker for each engine of the first one, and no more
        self._keep = msgspec.structs.replace(keep, count=bounds.count, most=bounds.most)
        self._keeper, self._command = keeper, command
        self._changes = Changes()
        self._n = bounds.count
        self._scaling = Scaling(bounds.count, bounds.most)
        self.places = [
            ClusterPlace(i, i < bounds.count, fingerprint, self._changes.tell, on_rebuilt) for i in range(bounds.most)
        ]

    async def changed(self) -> None:
        """Wait until an engine begins or stops to answer."""
        await self._changes.wait()

    async def run(self) -> None:
        """Use the engines of the cluster until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for work in (self._listen(), self._scale(), *(place.run() for place in self.places)):
                    group.create_task(work)
        finally:
            await self._keeper.end()

    async def _listen(self) -> None:
        """Take what keepers tell; one that has ended, or says nothing any more, is started anew."""
        while True:
            try:
                while True:
                    await self._hear()
            except (EngineError, wire.WireError, OSError) as error:
                log.error("keeper_lost", error=str(error))  # noqa: TRY400 - it says all
            await self._keeper.end()
            await asyncio.sleep(KEEPER_PAUSE_S)
            with contextlib.suppress(EngineError, wire.WireError, OSError):  # the next line that does not come tells
                self._keeper = Keeper(self._keep, self._command)
                async with asyncio.timeout(START_S):
                    await self._keeper.begin()

    async def _hear(self) -> None:
        """Take one line; raises EngineError where none comes."""
        try:
            async with asyncio.timeout(SILENT_S):
                self._take(await self._keeper.next())
        except TimeoutError:
            # a cluster of this machine ends with its keeper: not while it serves, whatever its head may do
            if self._keep.address or any(place.is_lost for place in self.places[: self._n]):
                raise EngineError(f"the keeper of engines said nothing for {SILENT_S:.0f} s") from None

    def _take(self, message: roster.FromKeeper) -> None:
        if isinstance(message, roster.Roster):
            self._set_number(message.n)
            for address in message.ready:
                self.places[address.index].told(address)

    def _set_number(self, n: int) -> None:
        """Note the wanted number of engines: others are not missed while they are lost."""
        self._n = n
        for place in self.places[max(n, self._keep.count) :]:
            place.is_wanted = False

    async def _scale(self) -> None:
        """Ask for as many engines as the load needs."""
        while True:
            await asyncio.sleep(SCALE_S)
            links = [place.link for place in self.places if place.link and place.link.is_answering]
            n = self._scaling.wanted(self._n, [link.share for link in links], time.monotonic())
            if n != self._n:
                log.info("engines_scaled", engines=n, before=self._n)
                self._set_number(n)
                await self._keeper.set_number(n)
