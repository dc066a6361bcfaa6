"""
Builds the service of a daemon whose engines are other processes: sockets and sessions here, weights there.

The gateway loads no weights. It learns from its engines what it must know of the model: vocabulary, mel bands, the lag
of its word times, and what a step costs.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec
import structlog
import torch
from prometheus_client import CollectorRegistry, Info, ProcessCollector

from streamer import __version__
from streamer.audio.frontend import FrontEnd
from streamer.audio.mel import MelSpectrogram
from streamer.audio.vad import VoiceDetector, read_weights
from streamer.build.costs import cost_memory
from streamer.build.options import choose_device, load_limits, recording_options, scheduler_options, window_options
from streamer.build.service import Service, build, check_session
from streamer.config import Config
from streamer.errors import EngineError
from streamer.host.cpu import physical_cores
from streamer.remote import roster, wire
from streamer.remote.cluster import COMMAND as KEEPER
from streamer.remote.cluster import ClusterPool, Keeper, first_ready
from streamer.remote.decoder import EnginePool, RemoteDecoder
from streamer.remote.joined import Address, JoinedPool
from streamer.remote.launch import EngineProcess, Program
from streamer.remote.revisions import RemoteRevisions
from streamer.remote.supervision import SupervisedPool, ready_all
from streamer.scheduling.calibration import Clocks, CostProbe
from streamer.scheduling.idle_calibration import IdleCalibration
from streamer.scheduling.load import LoadMeter, StepCosts, least
from streamer.scheduling.places import Places
from streamer.scheduling.recording import Recordings
from streamer.scheduling.reviser import Reviser
from streamer.scheduling.scheduler import Scheduler
from streamer.scheduling.worker import Worker, WorkerOptions
from streamer.session.spec import ModelFacts
from streamer.telemetry.metrics import EngineMetrics, ServiceMetrics
from streamer.telemetry.tracing import NoSpans, OpenTelemetrySpans
from streamer.text.tokenizer import Tokenizer

COMMAND = (sys.executable, "-m", "streamer.engine_process")
"""Starts an engine process."""
BUILD = "streamer.engine_process:build"
"""Builds the host of an engine on a cluster."""
N_PLACES = {"cpu": 1, "cuda": 2}
"""
Calls of a worker under way at most, by the device of its engine.

On a GPU the next call waits at the engine when a step ends, so the device does not idle while the gateway handles the
answers. On a CPU a step takes so long that what is asked for later, with newer audio and more rows, is worth more.
"""

log = structlog.get_logger()


def build_service(config: Config, *, random_weights: bool = False) -> Service:
    """
    Build the service with its engines where `config.engines` says.

    Args:
        config: The configuration.
        random_weights: See `build.service.build`.

    Raises:
        ModelNotFoundError, CheckpointError: The weights cannot be loaded.
        ConfigError: The model does not know the configured language.
        EngineError: The configured device does not work, no engine can start, or there is no cluster.
    """
    if config.engines.where == "here":
        return build(config, random_weights=random_weights)
    if config.engines.where == "ray":
        return build_on_cluster(config, keep(config, random_weights=random_weights))
    return build_gateway(config, programs(config, random_weights=random_weights))


def programs(config: Config, *, random_weights: bool = False, command: Sequence[str] = COMMAND) -> list[Program]:
    """
    The engine processes that a configuration asks for: one for each GPU or, on a CPU, for each thread.

    Args:
        config: The configuration.
        random_weights: See `build.service.build`.
        command: Starts one.

    Raises:
        EngineError: A GPU is configured and torch sees none.
    """
    device = choose_device(config.model)
    if device.type == "cuda":
        count = config.engines.count or torch.cuda.device_count()
        environments = [_one_gpu(i, torch.cuda.device_count()) for i in range(count)]
    else:
        environments = [{}] * (config.engines.count or config.model.threads or physical_cores())
    begin = functools.partial(wire.Begin, version=wire.VERSION, config=config, random_weights=random_weights)
    return [
        Program(command=command, environment=seen, begin=begin(name=str(i), sharing=environments.count(seen)))
        for i, seen in enumerate(environments)
    ]


def _one_gpu(index: int, n_gpus: int) -> Mapping[str, str]:
    """Variables that show one GPU to a process, of those that this process sees; engines share them in turn."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    gpus = seen.split(",") if seen else [str(gpu) for gpu in range(n_gpus)]
    return {"CUDA_VISIBLE_DEVICES": gpus[index % n_gpus].strip()}


def build_gateway(config: Config, programs: Sequence[Program]) -> Service:
    """
    Start the engine processes, and build a scheduler with a worker for each; blocks until all are ready.

    Args:
        config: The configuration.
        programs: At least one.

    Raises:
        ConfigError: The model does not know the configured language, or the model for second passes is not loaded.
        StreamerError: An engine process cannot start, for the reason that it names.
    """
    processes: list[EngineProcess] = []
    try:
        processes += map(EngineProcess, programs)
        ready = asyncio.run(ready_all(processes))
        return _service(config, ready, lambda *rest: SupervisedPool(programs, processes, *rest))
    except BaseException:
        for process in processes:
            asyncio.run(process.end())
        raise


def keep(config: Config, *, random_weights: bool = False, build: str = BUILD) -> roster.Keep:
    """
    The engines on a cluster that a configuration asks for; gateways whose engines are alike share them.

    Args:
        config: The configuration.
        random_weights: See `build.service.build`.
        build: Builds the host of an engine, as `package.module:function`.
    """
    loaded = Config(model=config.model, scheduler=config.scheduler, revise=config.revise, log=config.log)
    alike = (build, config.model, config.scheduler, config.revise, random_weights, wire.VERSION, __version__)
    family = hashlib.sha256(msgspec.json.encode(alike)).hexdigest()[:12]
    return roster.Keep(
        address=config.engines.address,
        family=f"streamer-{family}",
        begin=wire.Begin(version=wire.VERSION, config=loaded, name="", random_weights=random_weights),
        build=build,
        count=config.engines.count,
        most=config.engines.most,
    )


def build_on_cluster(config: Config, keep: roster.Keep, command: Sequence[str] = KEEPER) -> Service:
    """
    Begin engines on a cluster, or find them there, and build a scheduler; blocks until one engine is ready.

    Args:
        config: The configuration.
        keep: The engines.
        command: Starts a keeper.

    Raises:
        ConfigError: The model does not know the configured language, or the model for second passes is not loaded.
        StreamerError: There is no cluster, or no engine can start, for the reason that it names.
    """
    keeper = Keeper(keep, command)
    try:
        bounds, ready = asyncio.run(first_ready(keeper))
        return _service(
            config,
            ready,
            lambda fingerprint, on_rebuilt: ClusterPool(keep, keeper, bounds, fingerprint, on_rebuilt, command),
        )
    except BaseException:
        asyncio.run(keeper.end())
        raise


def build_member(config: Config, ready: Sequence[wire.Ready], engines: Sequence[Address], *, places: Places) -> Service:
    """
    Build the service of one of several gateways, whose engines its parent has started.

    Args:
        config: The configuration.
        ready: What each engine has told.
        engines: Where it is reached.
        places: Those of all gateways.

    Raises:
        ConfigError: The model does not know the configured language, or the model for second passes is not loaded.
    """
    return _service(config, ready, lambda fingerprint, _: JoinedPool(engines, fingerprint), places)


def same_facts(ready: Sequence[wire.Ready]) -> wire.Facts:
    """
    The facts of the model that all engines have loaded.

    Raises:
        EngineError: They have loaded different weights.
    """
    if len({each.facts.fingerprint for each in ready}) > 1:
        raise EngineError("the engines have loaded different weights: were they replaced just now?")
    return ready[0].facts


class Pool(EnginePool, Protocol):
    """Engines, and what keeps this gateway connected to them."""

    async def run(self) -> None:
        """
        Stay connected until cancelled.

        Raises:
            DeviceLostError: No engine will come back.
        """


def _service(
    config: Config,
    ready: Sequence[wire.Ready],
    pool_of: Callable[[str, Callable[[int], None]], Pool],
    places: Places | None = None,
) -> Service:
    facts = same_facts(ready)
    tokenizer = Tokenizer(facts.base_tokens, facts.n_languages)
    revisers = [_reviser(each, facts.n_mels) for each in ready[0].revisers]
    check_session(config.session, tuple(tokenizer.languages), [reviser.name for reviser in revisers])
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    metrics, engine_metrics = ServiceMetrics(registry), EngineMetrics(registry)
    pool = pool_of(facts.fingerprint, metrics.restarts.inc)
    engine_metrics.cache_sizes(lambda: _cache_bytes(pool))
    probe = CostProbe(facts.n_mels, facts.max_batch)
    meter = LoadMeter(load_limits(config), facts.max_batch, _costs(ready, probe.n_rows))
    workers = _workers(config, facts, pool, meter, metrics, engine_metrics)
    memory = cost_memory(ready[0].costs_key, probe.n_rows)
    memory.recall()  # what engines have remembered: no dearer measurement replaces it
    model = ModelFacts(name=facts.name, tokenizer=tokenizer, n_mels=facts.n_mels, alignment_lag_s=facts.alignment_lag_s)
    measured = config.scheduler.max_sessions == 0
    scheduler = Scheduler(
        model,
        workers,
        scheduler_options(config),
        window_options(config, model),
        metrics,
        Recordings(recording_options(config), lambda reason: metrics.recordings_stopped.labels(reason).inc()),
        Reviser(RemoteRevisions(pool, revisers, facts.fingerprint), metrics),
        places,
        background=[pool.run, *([IdleCalibration(workers, meter, probe, Clocks(), memory).run] if measured else [])],
    )
    capacity = config.scheduler.max_sessions or len(ready) * meter.capacity
    _announce(facts, len(workers), capacity, scheduler, registry)
    return Service(scheduler=scheduler, engine_metrics=engine_metrics, tokenizer=tokenizer, registry=registry)


def _cache_bytes(pool: EnginePool) -> list[tuple[int, int]]:
    """Bytes of keys and values of text and of audio, of each engine that answers."""
    links = [place.link for place in pool.places if place.link]
    return [(link.vitals.text_bytes, link.vitals.audio_bytes) for link in links]


def _reviser(reviser: wire.Reviser, n_mels: int) -> ModelFacts:
    tokenizer = Tokenizer(reviser.base_tokens, reviser.n_languages)
    return ModelFacts(name=reviser.name, tokenizer=tokenizer, n_mels=n_mels, alignment_lag_s=reviser.alignment_lag_s)


def _costs(ready: Sequence[wire.Ready], n_rows: int) -> StepCosts:
    """The least of what the engines have measured: they are alike, and were loaded at the same time."""
    measured = [StepCosts(each.fixed_s, each.row_s) for each in ready]
    return functools.reduce(functools.partial(least, n_rows=n_rows), measured)


def _workers(
    config: Config,
    facts: wire.Facts,
    pool: Pool,
    meter: LoadMeter,
    metrics: ServiceMetrics,
    engine_metrics: EngineMetrics,
) -> list[Worker]:
    """A worker for each engine; audio features are computed on the CPU of the gateway."""
    torch.set_num_threads(1)
    cpu = torch.device("cpu")
    front_end = FrontEnd(MelSpectrogram(facts.n_mels, cpu), VoiceDetector(read_weights(), cpu))
    tracer = OpenTelemetrySpans() if config.log.spans else NoSpans()
    decoders = [
        RemoteDecoder(
            pool,
            home,
            fingerprint=facts.fingerprint,
            meter=meter,
            n_places=N_PLACES[facts.device.partition(":")[0]],
            metrics=metrics,
            engine_metrics=engine_metrics,
        )
        for home in range(len(pool.places))
    ]
    return [Worker(decoder, front_end, WorkerOptions(), metrics, tracer) for decoder in decoders]


def _announce(
    facts: wire.Facts, n_engines: int, capacity: int, scheduler: Scheduler, registry: CollectorRegistry
) -> None:
    """Log and publish what is running; `capacity`: once all engines that were ready are connected."""
    running = {"model": facts.name, "device": facts.device, "dtype": facts.dtype}
    Info("streamer_build", "What is running.", registry=registry).info({"version": __version__, **running})
    log.info(
        "engines_ready",
        **running,
        engines=n_engines,
        row_cost_ms=round(scheduler.statistics().row_cost_s * 1e3, 1),
        capacity=capacity,
    )
