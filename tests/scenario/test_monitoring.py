"""The dashboard and the alert rules speak of metrics that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Info, ProcessCollector, generate_latest

from streamer.telemetry.metrics import DoorMetrics, EngineMetrics, MicrophoneMetrics, ServiceMetrics

MONITORING = Path(__file__).parent.parent.parent / "configs" / "monitoring"
NAMED = re.compile(r"\b(?:streamer|whisper|process)_[a-z_]+\b")


@pytest.fixture
def published() -> set[str]:
    """Every name that `/metrics` shows."""
    registry = CollectorRegistry()
    for part in (EngineMetrics, ServiceMetrics, DoorMetrics, MicrophoneMetrics):
        part(registry)
    ProcessCollector(registry=registry)
    Info("streamer_build", "", registry=registry)
    names = set(re.findall(r"^# TYPE (\S+)", generate_latest(registry).decode(), re.MULTILINE))
    histograms = {f"{name}_{part}" for name in names for part in ("bucket", "sum", "count")}
    return names | histograms


@pytest.mark.parametrize("file", ["alerts.yml", "dashboard.json"])
def test_every_metric_exists(published: set[str], file: str) -> None:
    """A renamed metric would leave an empty panel, or an alarm that never sounds."""
    named = set(NAMED.findall((MONITORING / file).read_text()))

    assert len(named) > 10
    assert named - published == set()


def test_the_dashboard_has_panels_with_queries() -> None:
    """JSON with panels, each with at least one query and a unit."""
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())

    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"]) > 10
    assert all(panel["targets"] and panel["fieldConfig"]["defaults"]["unit"] for panel in dashboard["panels"])


def test_every_service_metric_is_shown(published: set[str]) -> None:
    """What is measured is looked at: in the dashboard, or in an alert."""
    shown = "".join((MONITORING / file).read_text() for file in ("alerts.yml", "dashboard.json"))
    registry = CollectorRegistry()
    ServiceMetrics(registry)
    DoorMetrics(registry)
    missing = {family.name for family in registry.collect() if family.name not in shown}

    assert missing == set()
