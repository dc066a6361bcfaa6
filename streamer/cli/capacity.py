"""About how many live streams each published model has on this machine, from the measured costs of one of them."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from model import PUBLISHED_DIMENSIONS, ModelDimensions
from streamer.build.costs import cost_memory, costs_key, idle_costs, step_clocks
from streamer.build.engines import build_engines
from streamer.build.options import load_limits
from streamer.config import Config
from streamer.scheduling.calibration import CostProbe
from streamer.scheduling.load import LoadLimits, LoadMeter, StepCosts

SIZES = ("tiny", "base", "small", "medium", "large-v3-turbo", "large-v3")
"""Of the published models; those for English alone cost the same."""
ENCODED = 116
"""Audio positions that a typical step encodes: a second of new sound, a second that is not settled, the margin."""
DECODED = 12
"""Tokens that a typical step decodes or verifies."""
READ = 10
"""Positions of a typical step at which the vocabulary is read."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What one model costs on this machine."""

    dims: ModelDimensions
    """Of the measured model."""
    costs: StepCosts
    max_batch: int
    """Rows of one step at most."""
    n_workers: int
    limits: LoadLimits

    def n_streams(self, dims: ModelDimensions) -> int:
        """
        About how many live streams a model has: its steps take longer by as much as it multiplies more.

        Larger products are a little more efficient, so larger models may have more.
        """
        ratio = operations(dims) / operations(self.dims)
        costs = StepCosts(ratio * self.costs.fixed_s, ratio * self.costs.row_s)
        return int(LoadMeter(self.limits, self.max_batch, costs).places * self.n_workers)


def measured(config: Config) -> Machine:
    """
    The costs of the configured model: those that an earlier start remembers, otherwise measured in a few seconds.

    Args:
        config: Names the model, whose weights are on this machine.

    Raises:
        StreamerError: The model or its device does not work.
    """
    engines = build_engines(config, CollectorRegistry())
    probe, clocks = CostProbe(engines.facts.n_mels, engines.options.max_batch), step_clocks(engines.model.device)
    costs = idle_costs(engines.engines[0], probe, clocks, cost_memory(costs_key(engines), probe.n_rows))
    return Machine(
        dims=engines.model.dims,
        costs=costs,
        max_batch=engines.options.max_batch,
        n_workers=len(engines.engines),
        limits=load_limits(config),
    )


def by_size(machine: Machine) -> dict[str, int]:
    """About how many streams each of `SIZES` has on a machine."""
    return {name: machine.n_streams(PUBLISHED_DIMENSIONS[name]) for name in SIZES}


def operations(dims: ModelDimensions) -> float:
    """Multiplications of a typical step of one row, without attention."""
    n, layers = dims.n_audio_state, dims.n_text_layer
    encoder = ENCODED * n * n * (12 * dims.n_audio_layer + 2 * layers)  # with the keys and values of the decoder
    return encoder + DECODED * n * n * 14 * layers + READ * n * dims.n_vocab
