"""The engines of one process: loaded weights, and the models for second passes."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from prometheus_client import CollectorRegistry
from torch.torch_version import TorchVersion

from model import Whisper
from streamer import weights
from streamer.audio.frontend import FrontEnd
from streamer.audio.mel import MelSpectrogram
from streamer.audio.vad import VoiceDetector, read_weights
from streamer.build.options import choose_device, choose_dtype, device_errors, engine_options
from streamer.config import Config
from streamer.engine.engine import WhisperEngine
from streamer.engine.loading import load_model, random_model
from streamer.engine.options import EngineOptions
from streamer.engine.random_engine import RandomEngine
from streamer.errors import ConfigError
from streamer.host.cpu import physical_cores
from streamer.scheduling.revision_decoder import RevisingModel
from streamer.session.spec import ModelFacts
from streamer.telemetry.metrics import EngineMetrics, StepObserver
from streamer.text.tokenizer import Tokenizer

ALLOCATOR, OLD_ALLOCATOR = "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"
"""Variables of torch's memory on a GPU: it heeds the first one from `ALLOCATOR_SINCE` on, before that the other one."""
ALLOCATOR_SINCE = "2.11"
COMPILED_SHAPES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "512", "LRU_CACHE_CAPACITY": "64"}
"""
Bounds of oneDNN's caches of compiled matrix products on a CPU: of the process, and of each thread and kind of product.

A product takes 0.1 to 1 MB. Both defaults are 1,024, which makes an hour of speech add 200 MB of products that are not
used again.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engines:
    """The loaded model with an engine for each worker, not scheduled yet."""

    engines: Sequence[WhisperEngine]
    """One for each worker, on the same weights. A scheduler replaces them when their device fails: to free their
    memory, this object must not outlive its building."""
    new_engine: Callable[[], WhisperEngine]
    """Makes one more engine on the same weights."""
    front_end: FrontEnd
    model: Whisper
    facts: ModelFacts
    options: EngineOptions
    metrics: EngineMetrics
    revisers: Sequence[RevisingModel]
    """Models for second passes, the default one first."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the model."""
        return self.facts.tokenizer

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of the languages that the model knows."""
        return tuple(self.facts.tokenizer.languages)


def build_engines(
    config: Config,
    registry: CollectorRegistry,
    *,
    random_weights: bool = False,
    observer: StepObserver | None = None,
    sharing: int = 1,
) -> Engines:
    """
    Load the weights, choose device and dtype, and make an engine for each worker; nothing runs yet.

    Args:
        config: The configuration.
        registry: Where the engines' metrics are published.
        random_weights: See `build`.
        observer: Told of every step in place of these metrics.
        sharing: See `engine_options`.

    Raises:
        ModelNotFoundError, CheckpointError: The weights cannot be loaded.
        ConfigError: The model for second passes has another number of mel bands.
        EngineError: The configured device does not work, or is too small.
    """
    # read at the first product and the first allocation
    for name, value in (COMPILED_SHAPES | growing_memory(torch.__version__, os.environ)).items():
        os.environ.setdefault(name, value)
    # this thread builds and measures on behalf of a worker, so it computes like a worker
    torch.set_num_threads(1)
    device = choose_device(config.model)
    with device_errors(config.model.name, device):
        return _engines_on(device, config, registry, random_weights=random_weights, observer=observer, sharing=sharing)


def _engines_on(
    device: torch.device,
    config: Config,
    registry: CollectorRegistry,
    *,
    random_weights: bool,
    observer: StepObserver | None,
    sharing: int,
) -> Engines:
    """As `build_engines`, on a device that was chosen."""
    n_workers = 1 if device.type == "cuda" else config.model.threads or physical_cores()
    dtype = choose_dtype(config.model, device)
    load, engine_type = (random_model, RandomEngine) if random_weights else (load_model, WhisperEngine)
    model, tokenizer = load(config.model.name, dtype, device, rounds_encoder=config.model.encoder != "exact")
    # before the options: on a GPU, what it takes is not free for the caches of live sessions
    second = second_model(config, model.dims.n_mels, dtype, device)
    second_dims = [network.dims for _, network in second]
    options, metrics = engine_options(config, model, sharing, second_dims), EngineMetrics(registry)
    new_engine = functools.partial(engine_type, model, tokenizer, options, observer or metrics)
    return Engines(
        engines=[new_engine() for _ in range(n_workers)],
        new_engine=new_engine,
        front_end=FrontEnd(MelSpectrogram(model.dims.n_mels, device), VoiceDetector(read_weights(), device)),
        model=model,
        facts=model_facts(config.model.name, model, tokenizer),
        options=options,
        metrics=metrics,
        revisers=[
            revising_model(facts, network, options, config.revise.beams, engine_type)
            for facts, network in (*second, (model_facts(config.model.name, model, tokenizer), model))
        ],
    )


def growing_memory(version: str, environment: Mapping[str, str]) -> dict[str, str]:
    """
    Variables by which torch takes memory of a GPU in segments that grow.

    Cached windows grow a little with each step: with segments of fixed sizes, every length would leave a hole.

    Args:
        version: Of torch.
        environment: Of this process; where it says how torch takes memory, nothing is added.
    """
    if ALLOCATOR in environment or OLD_ALLOCATOR in environment:
        return {}
    name = ALLOCATOR if TorchVersion(version) >= ALLOCATOR_SINCE else OLD_ALLOCATOR
    return {name: "expandable_segments:True"}


def model_facts(name: str, model: Whisper, tokenizer: Tokenizer) -> ModelFacts:
    """
    What sessions know of a model.

    Args:
        name: As in the configuration.
        model: Loaded.
        tokenizer: Of the same checkpoint.
    """
    lag_s = weights.alignment_lag_s(model.dims, model.decoder.alignment_heads)
    return ModelFacts(name=name, tokenizer=tokenizer, n_mels=model.dims.n_mels, alignment_lag_s=lag_s)


def second_model(
    config: Config, n_mels: int, dtype: torch.dtype, device: torch.device
) -> list[tuple[ModelFacts, Whisper]]:
    """
    The model that is configured for second passes, loaded; none where that is the first model.

    Args:
        config: The configuration.
        n_mels: Mel bands of the first model, whose frames both read.
        dtype: Of its weights.
        device: Where it runs.

    Raises:
        ModelNotFoundError, CheckpointError: The weights cannot be loaded.
        ConfigError: It has another number of mel bands.
    """
    name = config.revise.model
    if name in ("", config.model.name) or _are_same(name, config.model.name):
        return []
    model, tokenizer = load_model(name, dtype, device)
    if model.dims.n_mels != n_mels:
        raise ConfigError(
            f'revise.model = "{name}" has {model.dims.n_mels} mel bands: expected {n_mels}, as {config.model.name}; '
            "large-v3 and large-v3-turbo have 128, all other sizes 80"
        )
    return [(model_facts(name, model, tokenizer), model)]


def _are_same(one: str, other: str) -> bool:
    """Whether two names mean the same weights on this machine, as an alias and its name do."""
    first, second = weights.locate(one), weights.locate(other)
    return first is not None and second is not None and first.weights == second.weights


def revising_model(
    facts: ModelFacts,
    model: Whisper,
    options: EngineOptions,
    beams: int,
    engine_type: type[WhisperEngine] = WhisperEngine,
) -> RevisingModel:
    """
    Prepare a loaded model for second passes; its engine is built when needed, and counts in no metric of live steps.

    Args:
        facts: Of the model.
        model: Its network.
        options: Of the live engines.
        beams: Hypotheses of its beam search; 1: greedy decoding.
        engine_type: The class of its engine.
    """
    alone = replace(
        options,
        max_batch=1,
        beams=beams,
        max_serial=None,
        max_window_s=30.0,
        settle_s=None,
        kv_reuse=False,
        captures=False,
    )
    metrics = EngineMetrics(CollectorRegistry())
    return RevisingModel(facts=facts, new_engine=functools.partial(engine_type, model, facts.tokenizer, alone, metrics))
