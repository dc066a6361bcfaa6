"""Engines of a real model on a device that fails as often as a test says."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import torch
from prometheus_client import CollectorRegistry

from streamer.audio.frontend import FrontEnd
from streamer.audio.mel import MelSpectrogram
from streamer.audio.vad import VoiceDetector, read_weights
from streamer.build.engines import Engines, model_facts, revising_model
from streamer.engine.engine import WhisperEngine
from streamer.engine.options import EngineOptions
from streamer.errors import DeviceError
from streamer.session.spec import ModelFacts
from streamer.step import StepRequest, StepResult
from streamer.telemetry.metrics import EngineMetrics
from tests.helpers.engines import published


class Device:
    """Engines that fail as often as a test says; they are known by weak references alone."""

    def __init__(self) -> None:
        self.n_steps_fail = 0
        self.n_steps = 0
        self.built: list[weakref.ref[WhisperEngine]] = []

    def engines(self, registry: CollectorRegistry) -> Engines:
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

        return Engines(
            engines=[new_engine()],
            new_engine=new_engine,
            front_end=FrontEnd(MelSpectrogram(80), VoiceDetector(read_weights())),
            model=model,
            facts=ModelFacts(name="tiny.en", tokenizer=tokenizer, n_mels=80),
            options=options,
            metrics=metrics,
            revisers=[revising_model(model_facts("tiny.en", model, tokenizer), model, options, 5)],
        )
