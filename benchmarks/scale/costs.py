"""What steps, calls and audio cost, as measured; where each figure is from is said beside it."""

from __future__ import annotations

import msgspec

from streamer.scheduling.load import StepCosts


class EngineCosts(msgspec.Struct, frozen=True, kw_only=True):
    """One engine."""

    name: str
    fixed_s: float
    """A step without its rows."""
    row_s: float
    """Each row of it."""
    cold_rows: float = 2.66
    """A window that the engine has not seen before, in rows."""
    spread: float = 0.15
    """Standard deviation of a step's time, as a part of it."""
    most_rows: int = 64
    n_mels: int = 80
    device: str = "cpu"
    start_s: float = 15.0
    """From the loss of an engine process to the next one that serves."""

    @property
    def step(self) -> StepCosts:
        """As a load meter knows them."""
        return StepCosts(self.fixed_s, self.row_s)


class GatewayCosts(msgspec.Struct, frozen=True, kw_only=True):
    """Processor time of a gateway, seconds; `benchmarks.host_path --free` measures the sum."""

    audio_s: float = 5.0e-3
    """For a second of audio: sockets, sessions, events, without what follows."""
    round_s: float = 1.0e-3
    """For a round of its front end."""
    stream_s: float = 0.10e-3
    """For each stream in it."""
    call_s: float = 0.3e-3
    row_s: float = 0.15e-3
    """For each row of a call."""


ENGINES = {
    # benchmarks/results/2026-11-26-gpu-h200.md: 1 row 20 ms, 8 rows 24, 32 rows 48, 64 rows 85; with three cores of its
    # host such a GPU took 35 to 133 ms (2026-11-27-gpu-h200.md)
    "h200": EngineCosts(
        name="large-v3-turbo on an H200", fixed_s=16.5e-3, row_s=1.05e-3, n_mels=128, start_s=25.0, device="cuda"
    ),
    "cpu": EngineCosts(name="tiny.en on one core", fixed_s=10e-3, row_s=20e-3, most_rows=16),
}
