"""The dashboard and the alert rules: they parse, speak of what is published, and every alert fires and ends."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Info, Metric, ProcessCollector

from streamer.telemetry.metrics import (
    CertificateMetrics,
    ConnectionMetrics,
    EngineMetrics,
    GatewayMetrics,
    LoopMetrics,
    MicrophoneMetrics,
    ServiceMetrics,
    SocketMetrics,
)
from tests.helpers.daemon_process import ROOT

ALERTS, DASHBOARD = (ROOT / "configs" / "monitoring" / name for name in ("alerts.yml", "dashboard.json"))
FILES = pytest.mark.parametrize("file", [ALERTS, DASHBOARD], ids=lambda file: file.name)
NAMED = re.compile(r"\b(?:streamer|whisper|process)_[a-z_]+\b")
SELECTED = re.compile(rf"({NAMED.pattern}){{([^}}]*)}}")
OF_PROMETHEUS = ("instance", "job")
"""Labels of whatever is scraped."""
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="no promtool: apt-get install prometheus")


@pytest.fixture(scope="module")
def families() -> list[Metric]:
    """All that `/metrics` shows before anything has happened."""
    registry = CollectorRegistry()
    for part in (EngineMetrics, ServiceMetrics, ConnectionMetrics, SocketMetrics, LoopMetrics, GatewayMetrics):
        part(registry)
    MicrophoneMetrics(registry)
    CertificateMetrics(registry, lambda: 0.0)
    ProcessCollector(registry=registry)
    Info("streamer_build", "", registry=registry)
    return list(registry.collect())


def series_of(family: Metric) -> set[str]:
    """Names of its samples."""
    ends = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "info": ("_info",)}
    return {family.name + end for end in ends.get(family.type, ("",))}


def queries(file: Path) -> list[str]:
    """All queries of a file; those of the dashboard as Grafana completes them."""
    if file == DASHBOARD:
        panels = json.loads(file.read_text())["panels"]
        found = [target["expr"] for panel in panels for target in panel["targets"]]
        return [query.replace("$instance", ".*").replace("$__rate_interval", "5m") for query in found]
    return re.findall(r"expr: (?:>-\n)?((?:.*\n)+?) +(?:for|labels):", file.read_text())


@FILES
def test_every_metric_exists(families: list[Metric], file: Path) -> None:
    """A renamed metric would leave an empty panel, or an alarm that never sounds."""
    published = {name for family in families for name in series_of(family)}
    named = {name for query in queries(file) for name in NAMED.findall(query)}

    assert len(named) > 10
    assert named - published == set()


def test_what_is_selected_is_published_from_the_first_scrape_on(families: list[Metric]) -> None:
    """A series that begins above 0 has not increased: its first failures would be nobody's."""
    published = {(s.name, *label) for family in families for s in family.samples for label in s.labels.items()}
    selected = {
        (name, label, value)
        for file in (ALERTS, DASHBOARD)
        for query in queries(file)
        for name, labels in SELECTED.findall(query)
        for label, value in re.findall(r'(\w+)="([^"]*)"', labels)
        if label not in OF_PROMETHEUS
    }

    assert selected
    assert selected - published == set()


def test_remedies_name_events_of_the_log() -> None:
    """An operator looks for them."""
    sources = "".join(path.read_text() for path in (ROOT / "streamer").rglob("*.py"))
    remedies = re.findall(r'remedy: "(.*)"', ALERTS.read_text())
    named = {word for remedy in remedies if "event" in remedy for word in re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", remedy)}

    assert len(named) > 5
    assert {event for event in named if f'"{event}"' not in sources} == set()


def test_the_dashboard_has_panels_with_queries() -> None:
    """JSON with panels, each with at least one query and a unit."""
    dashboard = json.loads(DASHBOARD.read_text())

    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"]) > 10
    assert all(panel["targets"] and panel["fieldConfig"]["defaults"]["unit"] for panel in dashboard["panels"])


def test_every_service_metric_is_shown() -> None:
    """What is measured is looked at: in the dashboard, or in an alert."""
    shown = ALERTS.read_text() + DASHBOARD.read_text()
    registry = CollectorRegistry()
    ServiceMetrics(registry)
    ConnectionMetrics(registry)
    missing = {family.name for family in registry.collect() if family.name not in shown}

    assert missing == set()


@dataclass(frozen=True, kw_only=True)
class Story:
    """What Prometheus scrapes, in its notation for tests, and when an alert fires and is over, in scrapes."""

    series: dict[str, str]
    fires: int
    over: int
    interval: str = "1m"
    """Between two scrapes."""


STORIES = {
    "StreamerDown": Story(series={"up": "1x4 0x4 1x4"}, fires=7, over=11),
    "StreamerRestarts": Story(series={"process_start_time_seconds": "100x4 200x4 300x4 400x50"}, fires=16, over=55),
    "StreamerDeviceFails": Story(series={"streamer_engine_restarts_total": "0x4 1x40"}, fires=6, over=30),
    "StreamerEngineLost": Story(series={'streamer_engine_alive{engine="0"}': "1x4 0x4 1x4"}, fires=7, over=11),
    "StreamerGatewayLost": Story(
        series={"streamer_gateways": "2x4 1x4 2x4", "streamer_gateways_configured": "2x14"}, fires=8, over=11
    ),
    "StreamerEnginesMove": Story(series={"streamer_engine_moves_total": "0x4 6x40"}, fires=6, over=30),
    "StreamerStepsFail": Story(series={"streamer_step_failures_total": "0x4 20x20"}, fires=6, over=20),
    "StreamerSecondPassesFail": Story(
        series={'streamer_revisions_total{outcome="failed"}': "0x4 3x40"}, fires=6, over=30
    ),
    "StreamerLags": Story(series={"streamer_lag_seconds": "0x4 9x4 0x4"}, fires=8, over=11),
    "StreamerCaptionsLate": Story(
        series={
            f'streamer_commit_latency_seconds_bucket{{le="{le}"}}': values
            for le, values in (("4", "0x80"), ("10", "0+10x30 300x50"), ("+Inf", "0+10x30 300x50"))
        },
        fires=20,
        over=50,
    ),
    "StreamerSessionsStall": Story(series={"streamer_stalled_sessions": "0x4 2x4 0x4"}, fires=7, over=11),
    "StreamerFull": Story(series={"streamer_sessions_refused_total": "0+1x30 30x40"}, fires=20, over=50),
    "StreamerRecordingsStop": Story(
        series={'streamer_recordings_stopped_total{reason="no space left on device"}': "_x4 1x40"}, fires=6, over=30
    ),
    "StreamerMicrophoneLost": Story(series={"streamer_microphone_alive": "1x4 0x4 1x4"}, fires=8, over=11),
    "StreamerCertificateExpires": Story(
        series={"streamer_certificate_expires_timestamp_seconds": "1728000x9 8640000x5"},
        fires=8,
        over=10,
        interval="1d",
    ),
    "StreamerUnderAttack": Story(
        series={'streamer_connections_refused_total{reason="rate"}': "0+600x20 12000x20"}, fires=15, over=35
    ),
    "StreamerMemoryGrows": Story(
        series={
            "process_resident_memory_bytes": "1000000000+10000000x100 2000000000x70",
            "process_start_time_seconds": "0x170",
        },
        fires=90,
        over=160,
        interval="1h",
    ),
    "StreamerEngineMemoryGrows": Story(
        series={'streamer_engine_resident_memory_bytes{engine="0"}': "1000000000+10000000x100 2000000000x70"},
        fires=90,
        over=160,
        interval="1h",
    ),
    "StreamerDescriptors": Story(
        series={"process_open_fds": "10x4 90x4 10x4", "process_max_fds": "100x14"}, fires=6, over=11
    ),
}


def test_every_alert_has_a_story() -> None:
    """A new one needs one too."""
    assert re.findall(r"- alert: (\w+)", ALERTS.read_text()) == list(STORIES)


def run_promtool(folder: Path, tests: list[dict[str, Any]], interval: str = "1m") -> str:
    """Run tests of rules; what is wrong, or nothing."""
    assert PROMTOOL is not None
    written = {"rule_files": [str(ALERTS)], "evaluation_interval": interval, "tests": tests}
    (folder / "tests.yml").write_text(json.dumps(written))  # JSON is YAML too
    ran = subprocess.run(
        [PROMTOOL, "test", "rules", "tests.yml"], cwd=folder, capture_output=True, text=True, check=False
    )
    return "" if ran.returncode == 0 else ran.stdout + ran.stderr


def scraped(name: str) -> str:
    """A series with the labels of what is scraped."""
    labels = 'job="streamer",instance="box"'
    return name.replace("{", f"{{{labels},") if "{" in name else f"{name}{{{labels}}}"


@needs_promtool
@pytest.mark.parametrize("alert", STORIES)
def test_an_alert_fires_and_ends(alert: str, tmp_path: Path) -> None:
    """Not before its cause, and not for ever after it."""
    story, unit = STORIES[alert], STORIES[alert].interval[-1]
    firing = f'count(ALERTS{{alertname="{alert}",alertstate="firing",instance="box"}})'
    looks = [(0, []), (story.fires, [{"labels": "{}", "value": 1}]), (story.over, [])]
    test = {
        "interval": story.interval,
        "input_series": [{"series": scraped(name), "values": values} for name, values in story.series.items()],
        "promql_expr_test": [
            {"expr": firing, "eval_time": f"{at}{unit}", "exp_samples": samples} for at, samples in looks
        ],
    }

    assert run_promtool(tmp_path, [test], story.interval) == ""


@needs_promtool
@FILES
def test_queries_parse(file: Path, tmp_path: Path) -> None:
    """Without any series they find nothing."""
    tests = [{"expr": query, "eval_time": "1m", "exp_samples": []} for query in queries(file)]

    assert run_promtool(tmp_path, [{"interval": "1m", "input_series": [], "promql_expr_test": tests}]) == ""
