"""Tests of streamer.build: what a configuration becomes."""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec
import pytest
import torch
from prometheus_client import CollectorRegistry

from model import PUBLISHED_DIMENSIONS
from model.rounding import has_products
from streamer import build
from streamer.audio.frontend import FrontEnd
from streamer.audio.mel import MelSpectrogram
from streamer.audio.vad import VoiceDetector, read_weights
from streamer.config import Config, ModelConfig, ReviseConfig, SchedulerConfig
from streamer.engine.engine import WhisperEngine
from streamer.engine.options import EngineOptions
from streamer.errors import ConfigError, DeviceError, EngineError, ModelNotFoundError
from streamer.library import SpeechModel
from streamer.protocol.events import TurnEnd
from streamer.protocol.options import SessionOptions
from streamer.protocol.turns import FinalTurns
from streamer.scheduling.scheduler import running
from streamer.session.audio_window import LONGEST_WINDOW_S, WindowOptions
from streamer.session.spec import ModelFacts
from streamer.step import StepRequest, StepResult
from streamer.telemetry.metrics import EngineMetrics
from tests.helpers.engines import published
from tests.helpers.recordings import Recording
from tests.helpers.words import plain

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.load:DeprecationWarning")


@pytest.fixture(autouse=True)
def restored_threads() -> Iterator[None]:
    """Building sets the threads of the process: put them back."""
    n = torch.get_num_threads()
    yield
    torch.set_num_threads(n)


def test_the_longest_window_that_can_be_set() -> None:
    """The configuration allows what a session has room for, and no more."""
    [bounds] = [
        field.type for field in msgspec.inspect.type_info(SchedulerConfig).fields if field.name == "max_window_s"
    ]
    assert (bounds.ge, bounds.le) == (WindowOptions(max_window_s=LONGEST_WINDOW_S).keep_s + 2.0, LONGEST_WINDOW_S)


def test_build() -> None:
    """The weights by name, an engine for each thread with the options of the configuration, and a measured capacity."""
    config = Config(
        model=ModelConfig(name="tiny.en", dtype="float32", device="cpu", threads=2),
        scheduler=SchedulerConfig(kv_reuse="committed", max_window_s=9.0, step_interval_ms=400),
    )

    registry = CollectorRegistry()
    loaded = build.build_engines(config, registry)
    built = build.build_scheduler(config, loaded, registry)
    engines = loaded.engines

    assert torch.get_num_threads() == 1
    assert (built.scheduler.model, built.scheduler.languages) == ("tiny.en", ("en",))
    assert len(engines) == 2
    assert engines[0].model is engines[1].model, "weights are shared"
    assert engines[0].model.dtype == torch.float32
    assert engines[0].model.encoder.is_rounded == has_products(torch.device("cpu"), torch.float32), (
        "8 bits where there are such products"
    )
    assert all(engine.options.kv_reuse for engine in engines)
    assert engines[0].options.max_window_s > 9.0, "a late session is given longer windows"
    found = built.scheduler.statistics()
    assert found.row_cost_s > 0
    assert found.capacity >= 1
    assert found.interval_s == 0.4
    value = built.registry.get_sample_value
    assert value("whisper_encoder_forward_latency_ms_count") == 0, "measurements at the start are no steps of sessions"
    assert not built.engine_metrics.recent_token_ms()
    kv_bytes, attention_bytes = engines[0].cache_bytes
    assert value("whisper_kv_cache_size_bytes") == 2 * kv_bytes > 0
    assert value("whisper_attention_memory_bytes") == 2 * attention_bytes > 0
    assert value("streamer_capacity_sessions") == found.capacity
    assert not built.scheduler.is_ready(), "nobody runs it yet"


class Device:
    """Engines that fail as often as a test says; they are known by weak references alone."""

    def __init__(self) -> None:
        self.n_steps_fail = 0
        self.n_steps = 0
        self.built: list[weakref.ref[WhisperEngine]] = []

    def engines(self, registry: CollectorRegistry) -> build.Engines:
        """As `build_engines` returns them."""
        torch.set_num_threads(1)
        (model, tokenizer), metrics, device = published("tiny.en"), EngineMetrics(registry), self
        options = EngineOptions(max_batch=1, max_window_s=10.0)

        class FailingEngine(WhisperEngine):
            """An engine on a device that may fail."""

            def step(self, batch: Sequence[StepRequest]) -> list[StepResult]:
                """As `WhisperEngine.step`."""
                device.n_steps += 1
                if device.n_steps_fail:
                    device.n_steps_fail -= 1
                    raise DeviceError("the device failed")
                return super().step(batch)

        def new_engine() -> WhisperEngine:
            engine = FailingEngine(model, tokenizer, options, metrics)
            self.built.append(weakref.ref(engine))
            return engine

        return build.Engines(
            engines=[new_engine()],
            new_engine=new_engine,
            front_end=FrontEnd(MelSpectrogram(80), VoiceDetector(read_weights())),
            model=model,
            facts=ModelFacts(name="tiny.en", tokenizer=tokenizer, n_mels=80),
            options=options,
            metrics=metrics,
            revisers=[build.revising_model(build.model_facts("tiny.en", model, tokenizer), model, options, 5)],
        )


async def test_a_dead_engine_is_not_kept(
    recordings: dict[str, Recording], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a recovery nothing holds the old engine, and the gauges of memory speak of the new one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    device, registry = Device(), CollectorRegistry()
    service = build.build_scheduler(Config(), device.engines(registry), registry)
    async with running(service.scheduler):
        stream = service.scheduler.open(SessionOptions(language="en"))
        device.n_steps_fail = 2  # the step and the probe after it
        await stream.feed(recordings["dev-LJ002-0020"].samples)
        stream.end()
        events = [event async for event in stream]

    old, new = device.built
    engine = new()
    assert old() is None
    assert engine is not None
    value = registry.get_sample_value
    assert value("streamer_engine_restarts_total") == 1
    assert (value("whisper_kv_cache_size_bytes"), value("whisper_attention_memory_bytes")) == engine.cache_bytes
    assert any(isinstance(event, TurnEnd) for event in events)


async def test_a_revised_turn_is_what_the_whole_recording_says(
    recordings: dict[str, Recording], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recording in one turn is decoded as a whole; the gauges of memory count the engine that does it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    device, registry = Device(), CollectorRegistry()
    service = build.build_scheduler(Config(), device.engines(registry), registry)
    value, turns = registry.get_sample_value, FinalTurns()
    before = value("whisper_attention_memory_bytes")
    async with running(service.scheduler):
        options = SessionOptions(language="en", revise=True, endpoint_ms=2000)
        stream = service.scheduler.open(options, revises_all=True)
        await stream.feed(recordings["dev-LJ002-0020"].samples)
        stream.end()
        async for event in stream:
            turns.take(event)

    whole = SpeechModel(*published("tiny.en"), Config()).transcribe(recordings["dev-LJ002-0020"].samples)
    assert [plain(turn.text) for turn in turns] == [plain(whole.text)]
    assert (value("whisper_attention_memory_bytes") or 0) > (before or 0)
    outcomes = [value("streamer_revisions_total", {"outcome": outcome}) for outcome in ("same", "revised")]
    assert sum(n or 0 for n in outcomes) == 1


def test_a_second_model_reads_the_frames_of_the_first() -> None:
    """It is loaded where it is another model and has as many bands."""
    cpu = torch.device("cpu")
    config = Config(revise=ReviseConfig(model="base"))
    [(facts, network)] = build.second_model(config, 80, torch.float32, cpu)
    assert (facts.name, facts.n_mels, network.dims.n_mels) == ("base", 80, 80)
    assert build.second_model(Config(), 80, torch.float32, cpu) == []
    with pytest.raises(ConfigError, match=r'revise\.model = "base" has 80 mel bands: expected 128, as tiny\.en'):
        build.second_model(config, 128, torch.float32, cpu)


def test_sessions_ask_by_default_for_what_is_loaded() -> None:
    """A default that every client would be refused for is a mistake."""
    engines = Device().engines(CollectorRegistry())
    for session in (SessionOptions(), SessionOptions(revise="tiny.en", languages=("en",))):
        build.check_session(session, engines.languages, ["tiny.en"])
    with pytest.raises(
        ConfigError, match=r'session\.revise = "base": expected true, false or a loaded model: tiny\.en'
    ):
        build.check_session(SessionOptions(revise="base"), engines.languages, ["tiny.en"])
    with pytest.raises(ConfigError, match=r'session\.languages = "de": expected auto or one of en'):
        build.check_session(SessionOptions(languages=("en", "de")), engines.languages, [])


def test_costs_are_remembered_for_the_machine_and_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first start measures, and leaves a file with what the costs depend on; the second one runs a single step."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    devices, registries = [Device(), Device()], [CollectorRegistry(), CollectorRegistry()]
    services = [
        build.build_scheduler(Config(), device.engines(registry), registry)
        for device, registry in zip(devices, registries, strict=True)
    ]

    assert devices[0].n_steps >= 8
    assert devices[1].n_steps == 1
    assert services[1].scheduler.statistics().capacity == services[0].scheduler.statistics().capacity
    [path] = (tmp_path / "whisper-streamer" / "costs").glob("*.json")
    held = json.loads(path.read_text())
    assert set(held["key"]) == {"machine", "model", "engine", "options", "dtype", "encoder", "version"}
    assert held["row_s"] > 0


def test_unknown_model() -> None:
    """An unknown name raises with the nearest known one."""
    with pytest.raises(ModelNotFoundError, match=r"did you mean tiny\.en\?"):
        build.build(Config(model=ModelConfig(name="tinny.en")))


@pytest.mark.parametrize("language", ["de", "german", ""])
def test_a_default_language_that_the_model_does_not_know(language: str) -> None:
    """A checkpoint of any name may know English alone; every client would be refused."""
    build.check_language("auto", ("en",))
    build.check_language("en", ("en",))
    with pytest.raises(ConfigError, match=f'session.language = "{language}": expected auto or one of en'):
        build.check_language(language, ("en",))


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one asked for; `auto` is the GPU if there is one; a GPU that is not there is an error."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert build.choose_device(ModelConfig(device="cpu")).type == "cpu"
    assert build.choose_device(ModelConfig(device="auto")).type == "cpu"
    with pytest.raises(EngineError, match="torch sees no GPU"):
        build.choose_device(ModelConfig(device="cuda"))

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert build.choose_device(ModelConfig(device="cpu")).type == "cpu"
    assert build.choose_device(ModelConfig(device="auto")).type == "cuda"


@pytest.mark.parametrize(("flags", "chosen"), [("avx512_bf16 amx_bf16", torch.bfloat16), ("avx2", torch.float32)])
def test_arithmetic_of_the_processor(monkeypatch: pytest.MonkeyPatch, flags: str, chosen: torch.dtype) -> None:
    """On a CPU bfloat16 is taken where it is native."""
    monkeypatch.setattr(build, "cpuinfo", lambda: f"processor : 0\nflags\t\t: fpu sse2 {flags}\n")

    assert build.choose_dtype(ModelConfig(dtype="auto"), torch.device("cpu")) == chosen


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_arithmetic_asked_for(name: Literal["float32", "bfloat16", "float16"]) -> None:
    """What the configuration names is taken, measured or not."""
    assert build.choose_dtype(ModelConfig(dtype=name), torch.device("cpu")) == getattr(torch, name)
    assert build.choose_dtype(ModelConfig(dtype="auto"), torch.device("cuda")) == torch.float16


@pytest.mark.parametrize(
    ("model", "free_gb", "n_rows"),
    [
        ("tiny.en", 3, 35),
        ("large-v3-turbo", 6, 5),
        ("large-v3-turbo", 20, 17),
        ("large-v3", 130, 57),
        ("large-v3", 1, 1),
    ],
)
def test_a_small_gpu_takes_fewer_rows(model: str, free_gb: int, n_rows: int) -> None:
    """What the rows of a step attend to takes a quarter of the memory that is free once the weights are there."""
    assert build.rows_that_fit(PUBLISHED_DIMENSIONS[model], free_gb * 10**9, torch.float16) == n_rows
