"""
The program of an engine process: loads a model, and runs the steps that its gateway asks for.

    python -m streamer.engine_process DESCRIPTOR [LISTENING]

The gateway starts it with one end of a socket pair. It ends when the other end is closed, so it never outlives its
gateway. Signals that stop a service are for the gateway, which still needs its engines while sessions end. Where there
are several gateways, their parent holds the other end, and they connect to a listening Unix socket.
"""

from __future__ import annotations

import signal
import sys

if __name__ == "__main__":  # before the imports below, which take seconds
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TextIO

import msgspec
import structlog
from prometheus_client import CollectorRegistry

from streamer import weights
from streamer.build.costs import cost_memory, costs_key, idle_costs, step_clocks
from streamer.build.engines import Engines, build_engines
from streamer.build.options import load_limits
from streamer.config import Config
from streamer.engine.recovery import RecoveringEngine
from streamer.errors import StreamerError
from streamer.host.memory import give_back_forever
from streamer.remote import wire
from streamer.remote.host import EngineHost, StepTimesQueue
from streamer.remote.revision_host import RevisionHost
from streamer.scheduling.calibration import CostProbe, probes
from streamer.scheduling.decoder import LocalDecoder
from streamer.scheduling.device_thread import DeviceThread
from streamer.scheduling.load import LoadMeter, StepCosts
from streamer.scheduling.revision_decoder import RevisionDecoder, RevisionThread
from streamer.session.spec import ModelFacts
from streamer.telemetry import logs
from streamer.telemetry.metrics import ServiceMetrics

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Hosted:
    """A host that is ready, and what it tells its gateway."""

    host: EngineHost
    ready: wire.Ready


Build = Callable[[wire.Begin], Hosted]


def build(begin: wire.Begin) -> Hosted:
    """
    Load the model, run a real step, and measure what a step costs if that is asked for.

    Raises:
        ModelNotFoundError, CheckpointError: The weights cannot be loaded.
        EngineError: The device does not work.
    """
    config = msgspec.structs.replace(begin.config, model=msgspec.structs.replace(begin.config.model, threads=1))
    times, registry = StepTimesQueue(), CollectorRegistry()
    engines = build_engines(
        config, registry, random_weights=begin.random_weights, observer=times, sharing=begin.sharing
    )
    costs = _costs(engines, measures=begin.measures)
    facts = _facts(config, engines, random_weights=begin.random_weights)
    [probe], metrics = probes("health", facts.n_mels, 1), ServiceMetrics(registry)
    engine = RecoveringEngine(engines.engines[0], engines.new_engine, probe, metrics)
    revisions = RevisionDecoder(engines.revisers)
    # its cost of a row is not used: the gateway has a meter for all of its engines
    meter = LoadMeter(load_limits(config), facts.max_batch, costs)
    host = EngineHost(
        LocalDecoder(begin.name, engine, meter, DeviceThread()),
        engine,
        fingerprint=facts.fingerprint,
        n_mels=facts.n_mels,
        max_batch=facts.max_batch,
        times=times,
        n_rebuilt=lambda: int(registry.get_sample_value("streamer_engine_restarts_total") or 0),
        clocks=step_clocks(engines.model.device),
        revisions=RevisionHost(RevisionThread(revisions), facts.n_mels),
    )
    return Hosted(host, ready(facts, costs, costs_key(engines), revisions.facts))


def ready(facts: wire.Facts, costs: StepCosts, key: dict[str, str], revisers: Sequence[ModelFacts]) -> wire.Ready:
    """
    The message of an engine process that serves.

    Args:
        facts: Of its model.
        costs: As measured.
        key: What they depend on.
        revisers: Models for second passes.
    """
    return wire.Ready(
        version=wire.VERSION,
        facts=facts,
        pid=os.getpid(),
        nice=os.nice(0),
        fixed_s=costs.fixed_s,
        row_s=costs.row_s,
        costs_key=key,
        revisers=tuple(map(_reviser, revisers)),
    )


def _reviser(model: ModelFacts) -> wire.Reviser:
    tokenizer = model.tokenizer
    return wire.Reviser(
        name=model.name,
        base_tokens=tokenizer.base_tokens,
        n_languages=tokenizer.n_languages,
        alignment_lag_s=model.alignment_lag_s,
    )


def _costs(engines: Engines, *, measures: bool) -> StepCosts:
    """The remembered or measured costs; where they are not asked for, run one step to prove that decoding works."""
    probe, clocks = CostProbe(engines.facts.n_mels, engines.options.max_batch), step_clocks(engines.model.device)
    if measures:
        return idle_costs(engines.engines[0], probe, clocks, cost_memory(costs_key(engines), probe.n_rows))
    probe.prove(engines.engines[0])
    return StepCosts(0.0, 1.0)


def _facts(config: Config, engines: Engines, *, random_weights: bool) -> wire.Facts:
    model, facts = engines.model, engines.facts
    names = [] if random_weights else [config.model.name, *filter(None, [config.revise.model])]
    files = [file for name in names for file in weights.resolve(name).weights]
    belonging = (facts.name, repr(model.dims), str(model.dtype), b"\n".join(facts.tokenizer.base_tokens))
    return wire.Facts(
        name=facts.name,
        fingerprint=weights.fingerprint(files, belonging),
        base_tokens=facts.tokenizer.base_tokens,
        n_languages=facts.tokenizer.n_languages,
        n_mels=facts.n_mels,
        alignment_lag_s=facts.alignment_lag_s,
        max_batch=engines.options.max_batch,
        device=str(model.device),
        dtype=str(model.dtype).removeprefix("torch."),
    )


def run(
    connection: socket.socket,
    build: Build = build,
    *,
    listening: socket.socket | None = None,
    logs_to: TextIO | None = None,
) -> int:
    """
    Serve one gateway until it leaves, and others meanwhile.

    Args:
        connection: To the gateway.
        build: Builds the host of what the gateway asks for.
        listening: Where other gateways connect; None: there are none.
        logs_to: Where the log goes; None: the log of this process stays as it is.

    Returns:
        Exit code: 0 after the gateway has left, 1 if the engine cannot start or its device is lost.
    """
    with connection:
        return _run(connection, build, listening, logs_to)


def _run(connection: socket.socket, build: Build, listening: socket.socket | None, logs_to: TextIO | None) -> int:
    try:
        begin = _begin(connection)
    except (EOFError, wire.WireError):
        return 1
    if logs_to:
        logs.configure(begin.config.log, logs_to, os.environ)
        structlog.contextvars.bind_contextvars(engine=begin.name)
    try:
        hosted = build(begin)
    except StreamerError as error:
        connection.sendall(wire.pack(wire.Failed(kind=type(error).__name__, message=str(error))))
        return 1
    code = 0
    try:
        asyncio.run(_serve(connection, listening, hosted))
    except* (StreamerError, wire.WireError) as errors:
        log.error("engine_fails", error=str(errors.exceptions[0]))  # noqa: TRY400 - it says all
        code = 1
    return code


def _begin(connection: socket.socket) -> wire.Begin:
    message = wire.from_gateway(_exactly(connection, wire.FRAMING.length_of(_exactly(connection, wire.LENGTH.size))))
    if not isinstance(message, wire.Begin) or message.version != wire.VERSION:
        raise wire.WireError(f"expected begin of version {wire.VERSION}")
    return message


def _exactly(connection: socket.socket, n: int) -> bytes:
    data = b""
    while len(data) < n:
        part = connection.recv(n - len(data))
        if not part:
            raise EOFError
        data += part
    return data


async def _serve(connection: socket.socket, listening: socket.socket | None, hosted: Hosted) -> None:
    reader, writer = await asyncio.open_connection(sock=connection)
    async with asyncio.TaskGroup() as group:
        works = [
            group.create_task(work) for work in (hosted.host.run(), hosted.host.revisions.run(), give_back_forever())
        ]
        if listening:
            works.append(group.create_task(_serve_others(listening, hosted)))
        await _serve_one(hosted, reader, writer)
        for work in works:
            work.cancel()


async def _serve_one(hosted: Hosted, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.closing(writer):
        writer.write(wire.pack(hosted.ready))
        await hosted.host.serve(reader, writer)


async def _serve_others(listening: socket.socket, hosted: Hosted) -> None:
    listening.setblocking(False)
    async with asyncio.TaskGroup() as group:
        while True:
            connection, _ = await asyncio.get_running_loop().sock_accept(listening)
            group.create_task(_serve_other(connection, hosted))


async def _serve_other(connection: socket.socket, hosted: Hosted) -> None:
    try:
        await _serve_one(hosted, *await asyncio.open_connection(sock=connection))
    except wire.WireError as error:  # that gateway connects again, the others go on
        log.error("gateway_message_unreadable", error=str(error))  # noqa: TRY400 - it says all


def main(arguments: Sequence[str], build: Build = build, *, logs_to: TextIO | None = None) -> int:
    """
    Run an engine process.

    Args:
        arguments: Descriptors: of the connection, and of the listening socket where there is one.
        build: As `run`.
        logs_to: As `run`.

    Returns:
        As `run`.
    """
    connection, *others = (socket.socket(fileno=int(number)) for number in arguments)
    return run(connection, build, listening=others[0] if others else None, logs_to=logs_to)


if __name__ == "__main__":
    code = main(sys.argv[1:], logs_to=sys.stderr)
    os._exit(code)  # a device that hangs would keep its thread, and the interpreter waits for threads
