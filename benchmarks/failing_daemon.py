"""
A daemon whose device can be taken away: at SIGUSR1 every engine fails until it is built again.

    python -m benchmarks.failing_daemon serve --port 8000
"""

from __future__ import annotations

import functools
import signal
import weakref
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from prometheus_client import CollectorRegistry

from streamer.build.engines import build_engines
from streamer.build.service import Service, build_scheduler
from streamer.config import Config
from streamer.engine.engine import WhisperEngine
from streamer.errors import DeviceError
from streamer.step import StepRequest, StepResult
from tests.helpers.process import serve


class FailingEngine(WhisperEngine):
    """An engine that can lose its device."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.is_lost = False
        ENGINES.add(self)

    def step(self, batch: Sequence[StepRequest]) -> list[StepResult]:
        """
        Run one step.

        Raises:
            DeviceError: The device was taken away.
        """
        if self.is_lost:
            raise DeviceError("the device is gone")
        return super().step(batch)


ENGINES: weakref.WeakSet[FailingEngine] = weakref.WeakSet()
"""Every engine of this process: a signal handler is given none."""


def lose_devices(*_: object) -> None:
    """Take the device away from every engine that there is now."""
    for engine in ENGINES:
        engine.is_lost = True


def build(config: Config) -> Service:
    """Build the service of the daemon, on engines that can fail."""
    registry = CollectorRegistry()
    engines = build_engines(config, registry)
    new_engine = functools.partial(FailingEngine, engines.model, engines.tokenizer, engines.options, engines.metrics)
    failing = replace(engines, engines=[new_engine() for _ in engines.engines], new_engine=new_engine)
    return build_scheduler(config, failing, registry)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, lose_devices)
    serve(build)
