"""Engines that listen on loopback, with scripted steps and the faults of `hosted_engines`, and a keeper in memory."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from prometheus_client import CollectorRegistry

from streamer.config import Config
from streamer.engine_process import ready
from streamer.errors import EngineError
from streamer.remote import roster, wire
from streamer.remote.cluster import ClusterPool
from streamer.remote.decoder import RemoteDecoder
from streamer.remote.handshake import NONCE_BYTES, PROOF_BYTES, EngineServer, new_secret
from streamer.scheduling.load import StepCosts
from streamer.telemetry.metrics import EngineMetrics, ServiceMetrics
from tests.helpers.hosted_engines import FINGERPRINT, Faults, Mishaps, facts, hosted, meter
from tests.helpers.scripted_engine import ScriptedEngine
from tests.helpers.waiting import until, until_idle

KEEP = roster.Keep(
    address="auto",
    family="toys",
    begin=wire.Begin(version=wire.VERSION, config=Config(), name=""),
    build="",
    count=2,
    most=2,
)


class TcpEngine:
    """
    A scripted engine that listens, and what goes wrong on the way to it.

    Args:
        index: Among the engines of a pool.
        faults: See `Faults`.
        seed: Of what goes wrong.
        fingerprint: Of its weights.
    """

    def __init__(
        self, index: int = 0, faults: Faults | None = None, seed: int = 0, fingerprint: str = FINGERPRINT
    ) -> None:
        self.engine = ScriptedEngine()
        self.secret = new_secret()
        self._host = hosted(self.engine, fingerprint=fingerprint)
        self._index, self._mishaps = index, Mishaps(self.engine, self._host, faults or Faults(), seed)
        self.server = EngineServer(self._host, ready(facts(fingerprint), StepCosts(0.0, 0.001), {}, []), self.secret)
        self._writers: list[asyncio.StreamWriter] = []

    @property
    def n_faults(self) -> int:
        """Things that went wrong."""
        return self._mishaps.n

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[roster.Address]:
        """Let gateways in for the length of a block; yields where they find the way that things go wrong on."""
        running = asyncio.create_task(self._host.run())
        async with await asyncio.start_server(self.server.serve, "127.0.0.1", 0) as server:
            self._port = server.sockets[0].getsockname()[1]
            async with await asyncio.start_server(self._carry, "127.0.0.1", 0) as way:
                yield self.address(way.sockets[0].getsockname()[1])
        self.lose()
        await until(lambda: not self.server.n_connections)
        running.cancel()

    def address(self, port: int = 0) -> roster.Address:
        """Where it is: at a port, else at its own one."""
        return roster.Address(
            index=self._index, host="127.0.0.1", port=port or self._port, secret=self.secret.hex(), pid=1 + self._index
        )

    def lose(self) -> None:
        """End all connections."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry bytes between a gateway and the server: the proofs as they are, then frames that meet faults."""
        there, here = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers += [writer, here]
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            writer.write(await there.readexactly(NONCE_BYTES))
            here.write(await reader.readexactly(NONCE_BYTES + PROOF_BYTES))
            writer.write(await there.readexactly(PROOF_BYTES))
            await asyncio.gather(self._calls(reader, here), self._answers(there, writer))
        writer.transport.abort()
        here.transport.abort()

    async def _calls(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            frame = await _frame(reader)
            message = wire.from_gateway(frame[wire.LENGTH.size :])
            await asyncio.sleep(self._mishaps.late_s())
            if isinstance(message, wire.Call):
                if self._mishaps.ends_connection():
                    raise ConnectionResetError
                if self._mishaps.loses(message):
                    continue
            writer.write(frame)

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            frame = await _frame(reader)
            await asyncio.sleep(self._mishaps.late_s())
            is_reply = isinstance(wire.from_engine(frame[wire.LENGTH.size :]), wire.Reply)
            writer.write(frame * (self._mishaps.times_told() if is_reply else 1))


async def _frame(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(wire.LENGTH.size)
    return head + await reader.readexactly(wire.FRAMING.length_of(head))


class MemoryKeeper:
    """A keeper that tells what a test says: rosters, or an error with which it ends."""

    def __init__(self) -> None:
        self.says: asyncio.Queue[roster.FromKeeper | Exception] = asyncio.Queue()
        self.numbers: list[int] = []
        self.has_ended = False

    def tell(self, *ready: roster.Address, n: int | None = None) -> None:
        """Where engines are."""
        self.says.put_nowait(roster.Roster(n=len(ready) if n is None else n, ready=ready))

    async def begin(self) -> roster.Bounds:
        """As `Keeper.begin`."""
        return roster.Bounds(count=2, most=2)

    async def next(self) -> roster.FromKeeper:
        """As `Keeper.next`."""
        said = await self.says.get()
        if isinstance(said, Exception):
            raise said
        return said

    async def set_number(self, n: int) -> None:
        """As `Keeper.set_number`."""
        self.numbers.append(n)

    def fail(self) -> None:
        """End."""
        self.says.put_nowait(EngineError("the keeper of engines ended"))

    async def end(self) -> None:
        """As `Keeper.end`."""
        self.has_ended = True


class TcpPool(ClusterPool):
    """
    A pool with the metrics of its decoders.

    Args:
        keeper: Tells where engines are.
        n: Engines at least.
        most: Engines at most.
    """

    def __init__(self, keeper: MemoryKeeper, n: int = 2, most: int = 0) -> None:
        super().__init__(KEEP, keeper, roster.Bounds(count=n, most=max(n, most)), FINGERPRINT, lambda _: None)
        self.registry = CollectorRegistry()
        self.metrics = ServiceMetrics(self.registry)

    def decoder(self, home: int = 0, patience_s: float = 0.1) -> RemoteDecoder:
        """The decoder of a worker."""
        return RemoteDecoder(
            self,
            home,
            fingerprint=FINGERPRINT,
            meter=meter(),
            n_places=2,
            metrics=self.metrics,
            engine_metrics=EngineMetrics(CollectorRegistry()),
            patience_s=patience_s,
        )

    def count(self, metric: str) -> float:
        """Value of a metric."""
        return self.registry.get_sample_value(metric) or 0.0

    async def until_alive(self, *indices: int) -> None:
        """Wait until these engines answer."""
        while any(self.places[index].is_lost for index in indices):
            await self.changed()


@contextlib.asynccontextmanager
async def pool_of(engines: Sequence[TcpEngine], **options: int) -> AsyncIterator[tuple[TcpPool, MemoryKeeper]]:
    """A pool that uses these engines, for the length of a block; it is not run yet."""
    keeper = MemoryKeeper()
    async with contextlib.AsyncExitStack() as stack:
        keeper.tell(*[await stack.enter_async_context(engine.open()) for engine in engines])
        yield TcpPool(keeper, len(engines), **options), keeper
    await until_idle()  # connections are closed
