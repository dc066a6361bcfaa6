"""
Engines on a Ray cluster: actors that hold them, and how they are started, found and ended. All that knows Ray.

Ray places engines and starts them again; steps do not pass through it. Each engine is a detached actor with a name, so
gateways of any machine find it, and it outlives them. It listens (`handshake`), and tells where to whoever may ask Ray.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import msgspec
import ray
import structlog
from ray.exceptions import RayError

from streamer.errors import EngineError, StreamerError
from streamer.host.memory import give_back_forever
from streamer.remote import roster, wire
from streamer.remote.handshake import EngineServer, new_secret
from streamer.remote.host import EngineHost
from streamer.telemetry import logs

NAMESPACE = "streamer"
"""Of the actors' names."""
SILENT_S = 30.0
"""Time after which an engine that has answered before, and does not any more, is started again, seconds."""
UNUSED_S = 600.0
"""Time without any gateway and keeper after which an engine ends, seconds: those of an old model, or an old version."""
FAILED_S = 60.0
"""Time for which an engine that cannot start says why, seconds; then it gives its place back."""
LOCAL = {
    "RAY_worker_niceness": "0",  # Ray's own choice is 15: captions come late as soon as the machine has other work
    "RAY_gcs_rpc_server_reconnect_timeout_s": "86400",  # engines go on where the head is lost
    "RAY_raylet_start_wait_time_s": "120",  # its processes start slowly on a busy machine
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""Settings of a cluster that is started on this machine."""
STARTS = 3
"""Times that such a cluster is started, until it stands: its parts wait 15 seconds for each other."""
OBJECT_STORE_BYTES = 80 * 2**20
"""Shared memory of such a cluster, the least that Ray takes: nothing is put there."""

log = structlog.get_logger()


class Hosted(Protocol):
    """What a function that builds an engine returns."""

    @property
    def host(self) -> EngineHost:
        """Ready to run."""

    @property
    def ready(self) -> wire.Ready:
        """What gateways are told first."""


Build = Callable[[wire.Begin], Hosted]


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What an actor tells of its engine."""

    host: str = ""
    port: int = 0
    """0: it is not ready."""
    secret: str = ""
    pid: int = 0
    failure: str = ""
    """Why it cannot start."""


# --- an engine


class EngineActor:
    """
    Holds one engine, in a process of Ray. Its methods answer at once; the engine has a thread with an event loop.

    Args:
        begin: What to load: a packed `Begin`.
        build: Function that builds the host, as `package.module:function`.
        address: Where it listens; empty: at the address that Ray has of this machine.
    """

    def __init__(self, begin: bytes, build: str, address: str) -> None:
        message = wire.from_gateway(begin[wire.LENGTH.size :])
        assert isinstance(message, wire.Begin)
        host = address or ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        self._service = _Service(message, build, host, ray.get_runtime_context().current_actor)
        threading.Thread(target=self._service.run, daemon=True).start()

    def look(self) -> bytes:
        """Where the engine is: a `Seen` in JSON."""
        return msgspec.json.encode(self._service.look())


class _Service:
    """The engine of an actor; what is asynchronous is here, since Ray runs actors that have it in another way."""

    def __init__(self, begin: wire.Begin, build: str, address: str, actor: Any) -> None:
        self._begin, self._build, self._address, self._actor = begin, build, address, actor
        self._secret, self._looked_s = new_secret(), time.monotonic()
        self._seen = Seen(pid=os.getpid())

    def look(self) -> Seen:
        """What gateways need to know; whoever asks keeps the engine from ending unused."""
        self._looked_s = time.monotonic()
        return self._seen

    def run(self) -> None:
        """Serve for as long as the process lives. What ends it otherwise ends the process, and Ray starts another."""
        logs.configure(self._begin.config.log, sys.stderr, os.environ)
        try:
            asyncio.run(self._serve(_function(self._build)(self._begin)))
        except* StreamerError as errors:
            self._fail(errors.exceptions[0])
        except* BaseException:
            log.exception("engine_fails")
            os._exit(1)

    def _fail(self, error: BaseException) -> None:
        """
        Before it is ready: tell why, since another start would fail alike. Afterwards a new process may help.

        A keeper that still wants it begins it anew later: what it lacks, weights or memory, may be there by then.
        """
        log.error("engine_fails", error=str(error))
        if self._seen.port:
            os._exit(1)
        self._seen = Seen(pid=os.getpid(), failure=str(error))
        time.sleep(FAILED_S)
        try:
            ray.kill(self._actor, no_restart=True)
        except Exception as kept:  # noqa: BLE001 - Ray raises whatever it meets: its head may be away
            log.error("engine_not_ended", error=str(kept))  # noqa: TRY400 - it says all
            os._exit(1)  # another process takes the place when Ray answers again

    async def _serve(self, hosted: Hosted) -> None:
        host = hosted.host
        gateways = EngineServer(host, hosted.ready, self._secret)
        server = await asyncio.start_server(gateways.serve, self._address, 0)
        port = server.sockets[0].getsockname()[1]
        works = (host.run(), host.revisions.run(), give_back_forever(), self._end_unused(gateways), _end_hanging(host))
        async with server, asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work)
            self._seen = Seen(host=self._address, port=port, secret=self._secret.hex(), pid=os.getpid())

    async def _end_unused(self, gateways: EngineServer) -> None:
        """Give the place back when nobody has wanted the engine for long."""
        used_s = time.monotonic()
        while max(used_s, self._looked_s) > time.monotonic() - UNUSED_S:
            await asyncio.sleep(1.0)
            if gateways.n_gateways:
                used_s = time.monotonic()
        log.info("engine_unused", seconds=UNUSED_S)
        ray.kill(self._actor, no_restart=True)


async def _end_hanging(host: EngineHost) -> None:
    """End the process when its device does not answer any more."""
    while host.is_alive:  # noqa: ASYNC110 - nothing tells that a device has stopped to answer
        await asyncio.sleep(1.0)
    log.error("engine_hangs")
    os._exit(1)


def _function(path: str) -> Build:
    module, _, name = path.partition(":")
    found: Build = getattr(importlib.import_module(module), name)
    return found


# --- all engines of a family


@contextlib.contextmanager
def _answering() -> Iterator[None]:
    """
    Use the cluster for the length of a block, or of a function.

    Raises:
        EngineError: It does not answer.
    """
    try:
        yield
    except RayError as error:
        raise EngineError(f"Ray does not answer: {error}") from error


class _Engine:
    """An actor as the keeper sees it, and the look at it that is under way."""

    def __init__(self, actor: Any) -> None:
        self.actor, self.seen, self.look = actor, Seen(), actor.look.remote()
        self.has_answered, self.answered_s = False, time.monotonic()


class RayCluster:
    """
    The engines of one family on a cluster.

    Args:
        keep: Which engines.

    Raises:
        EngineError: The cluster cannot be reached or started.
    """

    def __init__(self, keep: roster.Keep) -> None:
        _connect(keep)
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        device = keep.begin.config.model.device
        self._is_cuda = device == "cuda" or (device == "auto" and resources.get("GPU", 0) >= 1)
        self.count = keep.count or max(1, int(resources.get("GPU" if self._is_cuda else "CPU", 1)))
        self.most = max(self.count, keep.most)
        self._family, self._build = keep.family, keep.build
        self._address = "" if keep.address else "127.0.0.1"
        model = msgspec.structs.replace(keep.begin.config.model, device="cuda" if self._is_cuda else "cpu")
        config = msgspec.structs.replace(keep.begin.config, model=model)
        self._begin = msgspec.structs.replace(keep.begin, config=config)
        self._engines: dict[int, _Engine] = {}

    @_answering()
    def look(self) -> roster.Roster:
        """
        Start the engines that are missing, and tell where all are.

        Raises:
            EngineError: The cluster does not answer.
        """
        there = self._there()
        for index in set(range(self.count)) - there:
            self._engines[index] = _Engine(self._begun(index))
        for index in there - self._engines.keys():
            with contextlib.suppress(ValueError):  # it has just ended
                self._engines[index] = _Engine(ray.get_actor(self._name(index), NAMESPACE))
        for index in self._engines.keys() - there - set(range(self.count)):
            del self._engines[index]
        for index, engine in list(self._engines.items()):
            self._ask(index, engine)
        seen = {index: engine.seen for index, engine in sorted(self._engines.items())}
        return roster.Roster(
            n=len(seen),
            ready=tuple(_address(index, each) for index, each in seen.items() if each.port),
            failures=tuple(f"engine {index}: {each.failure}" for index, each in seen.items() if each.failure),
        )

    @_answering()
    def set_number(self, n: int) -> None:
        """
        Start or end engines, once, so that there are `n`.

        Raises:
            EngineError: The cluster does not answer.
        """
        there = self._there()
        for index in set(range(min(n, self.most))) - there:
            self._engines[index] = _Engine(self._begun(index))
        for index in (index for index in there if index >= max(n, self.count)):
            with contextlib.suppress(ValueError):
                ray.kill(ray.get_actor(self._name(index), NAMESPACE), no_restart=True)
            self._engines.pop(index, None)

    def leave(self) -> None:
        """Leave the cluster; one that was started here ends."""
        ray.shutdown()

    def _name(self, index: int) -> str:
        return f"{self._family}-{index}"

    def _there(self) -> set[int]:
        """Indices of the actors of this family."""
        names = set(ray.util.list_named_actors())
        return {index for index in range(self.most) if self._name(index) in names}

    def _begun(self, index: int) -> Any:
        begin = msgspec.structs.replace(self._begin, name=str(index))
        options = {"num_gpus": 1} if self._is_cuda else {"num_cpus": 1}
        return (
            ray.remote(EngineActor)
            .options(
                name=self._name(index),
                namespace=NAMESPACE,
                get_if_exists=True,
                lifetime="detached",
                max_restarts=-1,
                **options,
            )
            .remote(wire.pack(begin), self._build, self._address)
        )

    def _ask(self, index: int, engine: _Engine) -> None:
        """Take the answer of an actor, and ask it anew; one that has fallen silent is started again."""
        done, _ = ray.wait([engine.look], timeout=0)
        now_s = time.monotonic()
        if not done:
            if engine.has_answered and now_s - engine.answered_s > SILENT_S:
                log.error("engine_hangs", engine=index, seconds=SILENT_S)
                ray.kill(engine.actor, no_restart=False)
                engine.has_answered = False
            return
        try:
            engine.seen = msgspec.json.decode(ray.get(engine.look), type=Seen)
            engine.has_answered, engine.answered_s = True, now_s
        except RayError as error:
            if engine.has_answered:
                log.warning("engine_away", engine=index, error=str(error).partition("\n")[0])
            engine.seen, engine.has_answered = Seen(), False
        engine.look = engine.actor.look.remote()


def _address(index: int, seen: Seen) -> roster.Address:
    return roster.Address(index=index, host=seen.host, port=seen.port, secret=seen.secret, pid=seen.pid)


def _connect(keep: roster.Keep) -> None:
    options: dict[str, Any] = {"namespace": NAMESPACE, "log_to_driver": False, "logging_level": logging.ERROR}
    if not keep.address:
        os.environ.update({name: value for name, value in LOCAL.items() if name not in os.environ})
        options |= {
            "num_cpus": max(os.cpu_count() or 1, keep.count, keep.most),
            "object_store_memory": OBJECT_STORE_BYTES,
            "include_dashboard": False,
        }
    for n_left in reversed(range(1 if keep.address else STARTS)):
        try:
            ray.init(keep.address or "local", **options)
        except Exception as error:  # Ray raises whatever it meets, plain ones too
            ray.shutdown()
            place = f"the Ray cluster at {keep.address}" if keep.address else "a Ray cluster on this machine"
            if not n_left:
                raise EngineError(f"{place} cannot be had (engines.address): {error}") from error
            log.warning("cluster_not_started", error=str(error))
        else:
            return
