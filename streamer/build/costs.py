"""What a step costs on this machine: remembered from earlier starts, or measured."""

from __future__ import annotations

import time
from collections.abc import Mapping

import torch

from streamer import __version__, weights
from streamer.build.engines import Engines
from streamer.engine.engine import WhisperEngine
from streamer.host.cpu import cpu_name, cpuinfo, physical_cores
from streamer.scheduling.calibration import Clocks, CostProbe, measure_costs
from streamer.scheduling.cost_memory import CostMemory
from streamer.scheduling.load import StepCosts


def idle_costs(engine: WhisperEngine, probe: CostProbe, clocks: Clocks, memory: CostMemory) -> StepCosts:
    """
    Costs of the idle machine: those that earlier starts remember, otherwise measured now.

    In either case a real step has proved that decoding works. What is remembered is measured again as soon as nobody
    speaks (`IdleCalibration`).

    Args:
        engine: Runs the probe.
        probe: The steps to measure.
        clocks: What measures them.
        memory: Of earlier starts; remembers this one too.

    Raises:
        EngineError: A step failed.
    """
    remembered = memory.recall()
    if remembered:
        probe.prove(engine)
        return remembered
    measured = measure_costs(engine, probe, clocks)
    memory.note(measured)
    return measured


def cost_memory(key: Mapping[str, str], n_rows: int) -> CostMemory:
    """What earlier starts measured, for what the costs depend on (`costs_key`) and a step of so many rows."""
    return CostMemory(weights.default_store().parent / "costs", key, n_rows)


def step_clocks(device: torch.device) -> Clocks:
    """Clocks for steps on this device: where it is the CPU, other work on the machine hardly adds to thread time."""
    return Clocks() if device.type == "cpu" else Clocks(work=time.perf_counter)


def costs_key(engines: Engines) -> dict[str, str]:
    """What the cost of a step depends on: machine, shape of the network, arithmetic, and versions."""
    model, options = engines.model, engines.options
    gpu = torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else "no GPU"
    return {
        "machine": f"{cpu_name(cpuinfo())}, {physical_cores()} cores, {gpu}",
        "model": repr(model.dims),
        "engine": type(engines.engines[0]).__name__,
        "options": f"{options.max_batch} rows, {options.max_window_s} s, kv_reuse {options.kv_reuse}",
        "dtype": str(model.dtype).removeprefix("torch."),
        "encoder": "8-bit" if model.encoder.is_rounded else "exact",
        "version": f"{__version__}, torch {torch.__version__}",
    }
