"""
A daemon whose device can be taken away: at SIGUSR1 every engine fails until it is built again.

    python -m benchmarks.failing_daemon serve --port 8000
"""

from __future__ import annotations

import signal
import weakref
from collections.abc import Sequence
from typing import Any

from streamer import build
from streamer.cli.commands import main
from streamer.engine.engine import WhisperEngine
from streamer.errors import DeviceError
from streamer.step import StepRequest, StepResult


class FailingEngine(WhisperEngine):
    """An engine that can lose its device."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.is_lost = False
        ENGINES.add(self)

    def step(self, batch: Sequence[StepRequest]) -> list[StepResult]:
        """As any engine, while it has a device."""
        if self.is_lost:
            raise DeviceError("the device is gone")
        return super().step(batch)


ENGINES: weakref.WeakSet[FailingEngine] = weakref.WeakSet()


def lose_devices(*_: object) -> None:
    """All that there are now."""
    for engine in ENGINES:
        engine.is_lost = True


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, lose_devices)
    build.WhisperEngine = FailingEngine  # type: ignore[misc]  # what `build` makes engines of
    main()
