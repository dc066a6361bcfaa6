"""Tests of streamer/build/service.py: what a configuration becomes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from prometheus_client import CollectorRegistry

from model.rounding import has_products
from streamer.build.engines import build_engines
from streamer.build.service import build, build_scheduler, check_language, check_session
from streamer.config import Config, ModelConfig, SchedulerConfig
from streamer.errors import ConfigError, ModelNotFoundError
from streamer.library import SpeechModel
from streamer.protocol.events import TurnEnd
from streamer.protocol.options import SessionOptions
from streamer.protocol.turns import FinalTurns
from streamer.scheduling.scheduler import running
from tests.helpers.engines import published
from tests.helpers.failing_engines import Device
from tests.helpers.recordings import Recording
from tests.helpers.words import plain


def test_build() -> None:
    """The weights by name, an engine for each thread with the options of the configuration, and a measured capacity."""
    config = Config(
        model=ModelConfig(name="tiny.en", dtype="float32", device="cpu", threads=2),
        scheduler=SchedulerConfig(kv_reuse="committed", max_window_s=9.0, step_interval_ms=400),
    )

    registry = CollectorRegistry()
    loaded = build_engines(config, registry)
    built = build_scheduler(config, loaded, registry)
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


async def test_a_dead_engine_is_not_kept(
    recordings: dict[str, Recording], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a recovery nothing holds the old engine, and the gauges of memory speak of the new one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    device, registry = Device(), CollectorRegistry()
    service = build_scheduler(Config(), device.engines(registry), registry)
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
    service = build_scheduler(Config(), device.engines(registry), registry)
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


def test_sessions_ask_by_default_for_what_is_loaded() -> None:
    """A default that every client would be refused for is a mistake."""
    engines = Device().engines(CollectorRegistry())
    for session in (SessionOptions(), SessionOptions(revise="tiny.en", languages=("en",))):
        check_session(session, engines.languages, ["tiny.en"])
    with pytest.raises(
        ConfigError, match=r'session\.revise = "base": expected true, false or a loaded model: tiny\.en'
    ):
        check_session(SessionOptions(revise="base"), engines.languages, ["tiny.en"])
    with pytest.raises(ConfigError, match=r'session\.languages = "de": expected auto or one of en'):
        check_session(SessionOptions(languages=("en", "de")), engines.languages, [])


def test_unknown_model() -> None:
    """An unknown name raises with the nearest known one."""
    with pytest.raises(ModelNotFoundError, match=r"did you mean tiny\.en\?"):
        build(Config(model=ModelConfig(name="tinny.en")))


@pytest.mark.parametrize("language", ["de", "german", ""])
def test_a_default_language_that_the_model_does_not_know(language: str) -> None:
    """A checkpoint of any name may know English alone; every client would be refused."""
    check_language("auto", ("en",))
    check_language("en", ("en",))
    with pytest.raises(ConfigError, match=f'session.language = "{language}": expected auto or one of en'):
        check_language(language, ("en",))
