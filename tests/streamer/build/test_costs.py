"""Tests of streamer/build/costs.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from streamer.build.service import build_scheduler
from streamer.config import Config
from tests.helpers.failing_engines import Device


def test_costs_are_remembered_for_the_machine_and_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first start measures, and leaves a file with what the costs depend on; the second one runs a single step."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    devices, registries = [Device(), Device()], [CollectorRegistry(), CollectorRegistry()]
    services = [
        build_scheduler(Config(), device.engines(registry), registry)
        for device, registry in zip(devices, registries, strict=True)
    ]

    assert devices[0].n_steps >= 8
    assert devices[1].n_steps == 1
    assert services[1].scheduler.statistics().capacity == services[0].scheduler.statistics().capacity
    [path] = (tmp_path / "whisper-streamer" / "costs").glob("*.json")
    held = json.loads(path.read_text())
    assert set(held["key"]) == {"machine", "model", "engine", "options", "dtype", "encoder", "version"}
    assert held["row_s"] > 0
