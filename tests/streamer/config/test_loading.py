"""Tests of streamer.config.loading."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from streamer.config import Config, ServerConfig, load
from streamer.errors import ConfigError

REPOSITORY = Path(__file__).parents[3]
CONFIGS = sorted((REPOSITORY / "configs").glob("*.toml"))


def test_nothing_given_is_the_defaults() -> None:
    """No file, no environment, no flag: the defaults."""
    assert load(None, {}, {"server.port": None}) == Config()


def test_flags_win_over_environment_over_file(file: Path) -> None:
    """Each layer overrides the one before, key by key."""
    file.write_text("[server]\nport = 1\nhost = 'file'\nidle_s = 5\n")
    environment = {"STREAMER_SERVER_PORT": "2", "STREAMER_SERVER_HOST": "environment"}
    config = load(file, environment, {"server.port": 3})
    assert config.server == ServerConfig(port=3, host="environment", idle_s=5.0)


def test_all_mistakes_are_told_at_once(file: Path) -> None:
    """Of every source, a line each, in their order; a wrong value causes no second complaint."""
    file.write_text(
        "colour = 1\n[server]\nprot = 1\nport = 'x'\n[session]\nlanguage = 'klingon'\n"
        "[scheduler]\nstep_interval_ms = 3000\nmax_step_interval_ms = 'x'\n"
    )
    with pytest.raises(ConfigError) as caught:
        load(file, {"STREAMER_SEVER_PORT": "1", "STREAMER_LOG_LEVEL": "loud"}, {"server.port": 70000})
    names = [re.split(r"[ ,]", line.removeprefix("unknown "))[:2] for line in str(caught.value).splitlines()]
    assert [" ".join(name) for name in names] == [
        "key colour", "key server.prot", "environment variable", "server.port =", "session.language =",
        "scheduler.max_step_interval_ms =", "log.level =", "server.port =",
    ]  # fmt: skip


def test_contradictions_are_told_beside_other_mistakes(file: Path) -> None:
    """As long as their own keys are right."""
    file.write_text("[scheduler]\nstep_interval_ms = 3000\n[session]\nlanguage = 'de'\n[server]\nprot = 1\n")
    with pytest.raises(ConfigError) as caught:
        load(file, {}, {})
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_shipped_configurations_load_and_explain_every_key(path: Path) -> None:
    """Each file in configs/ is valid, and each key has a comment, with the unit where there is one."""
    load(path, {}, {})
    for line in path.read_text().splitlines():
        if match := re.match(r"(\w+) = ", line):
            key, (_, _, comment) = match[1], line.partition(" # ")
            units = {"_ms": "milliseconds", "_s": "seconds", "_bytes": "bytes", "rate": "hertz"}
            unit = next((unit for suffix, unit in units.items() if key.endswith(suffix)), "")
            assert comment, f"{line}: no comment"
            assert unit in comment, f"{line}: no unit"


def test_the_four_uses_are_shipped() -> None:
    """One file per use."""
    assert [path.stem for path in CONFIGS] == ["cpu-server", "edge-gpu", "gpu-server", "microphone"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_the_unit_waits_longer_than_the_drain(path: Path) -> None:
    """systemd must not kill a daemon that is still finishing its sessions."""
    unit = (REPOSITORY / "systemd" / "streamer.service").read_text()
    match = re.search(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert match
    assert load(path, {}, {}).server.drain_s < int(match[1])
