"""Tests of streamer/scheduling/cost_memory.py: what the machine can do survives a start, and nothing worse does."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog.testing
from hypothesis import given
from hypothesis import strategies as st

from streamer.scheduling.cost_memory import FRESH_S, NEAR, STALE_S, CostMemory
from streamer.scheduling.load import StepCosts

KEY = {"machine": "a box", "model": "tiny", "dtype": "float32", "version": "1"}
IDLE = StepCosts(0.0625, 0.015625)
"""Exact in binary, so that no rounding hides a difference."""


class Clock:
    """Seconds since 1970, moved by hand."""

    def __init__(self) -> None:
        self.now_s = 1e9

    def memory(self, folder: Path | None, **key: str) -> CostMemory:
        """A memory as after a start."""
        return CostMemory(folder, KEY | key, n_rows=4, now=lambda: self.now_s)


@pytest.fixture
def clock() -> Clock:
    """A clock."""
    return Clock()


def times(factor: float) -> StepCosts:
    """Costs of a machine that takes `factor` times as long."""
    return StepCosts(factor * IDLE.fixed_s, factor * IDLE.row_s)


def test_costs_survive_a_start(tmp_path: Path, clock: Clock) -> None:
    """What one start noted the next one recalls, in a folder that did not exist."""
    clock.memory(tmp_path / "costs").note(IDLE)
    assert clock.memory(tmp_path / "costs").recall() == IDLE


def test_processes_that_note_costs_at_once_do_not_meet(tmp_path: Path, clock: Clock) -> None:
    """What another one has half written stays its own."""
    clock.memory(tmp_path).note(IDLE)
    [file] = tmp_path.iterdir()
    theirs = file.with_suffix(".partial")
    theirs.write_bytes(b"half of")
    clock.memory(tmp_path).note(times(0.5))

    assert theirs.read_bytes() == b"half of"
    assert clock.memory(tmp_path).recall() == times(0.5)
    assert set(tmp_path.iterdir()) == {file, theirs}


@pytest.mark.parametrize(
    "changed", [{"machine": "another"}, {"model": "base"}, {"dtype": "bfloat16"}, {"version": "2"}]
)
def test_costs_hold_for_one_machine_and_model(tmp_path: Path, clock: Clock, changed: dict[str, str]) -> None:
    """Another machine, model, dtype or version has costs of its own."""
    clock.memory(tmp_path).note(IDLE)
    assert clock.memory(tmp_path, **changed).recall() is None


@given(factors=st.lists(st.floats(1, 10), min_size=1, max_size=20))
def test_the_least_is_remembered(tmp_path_factory: pytest.TempPathFactory, factors: list[float]) -> None:
    """Measurements beside other work, in any order, hide nothing of what the idle machine can do."""
    folder, clock = tmp_path_factory.mktemp("costs"), Clock()
    for factor in factors:
        clock.now_s += 3600
        memory = clock.memory(folder)
        memory.recall()
        memory.note(times(factor))

    recalled = clock.memory(folder).recall()
    assert recalled is not None
    assert recalled.step_s(4) <= NEAR * times(min(factors)).step_s(4)
    assert recalled.step_s(4) >= times(min(factors)).step_s(4) * (1 - 1e-9)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not json",
        b"{}",
        b'{"key": {}, "fixed_s": 0.1, "row_s": 0.1, "confirmed_at": 1000000000}',
        b'{"key": {}, "fixed_s": -1, "row_s": 0, "confirmed_at": 0}',
        b"\xff\xfe\x00",
        b'{"key": {"cpu": "\xff"}}',
        b'{"x": ' + b"[" * 100_000,
    ],
)
def test_a_damaged_file_is_ignored_with_one_line(tmp_path: Path, clock: Clock, content: bytes) -> None:
    """It is as if there were none, and the next measurement replaces it."""
    clock.memory(tmp_path).note(IDLE)
    [path] = tmp_path.iterdir()
    path.write_bytes(content)

    memory = clock.memory(tmp_path)
    with structlog.testing.capture_logs() as logs:
        assert memory.recall() is None
    assert [line["event"] for line in logs] == ["costs_ignored"]

    memory.note(IDLE)
    assert clock.memory(tmp_path).recall() == IDLE


def test_an_old_file_is_ignored_unless_it_was_confirmed(tmp_path: Path, clock: Clock) -> None:
    """A machine that no longer reaches its costs forgets them after a month; one that does keeps them."""
    memory = clock.memory(tmp_path)
    memory.note(IDLE)
    clock.now_s += 2 * FRESH_S
    memory.note(times(1.1))
    memory.note(times(2.0))

    clock.now_s += STALE_S - 1
    assert clock.memory(tmp_path).recall() == IDLE
    clock.now_s += 2
    assert clock.memory(tmp_path).recall() is None


def test_a_file_from_the_future_is_ignored(tmp_path: Path, clock: Clock) -> None:
    """A clock that was wrong when it was written must not keep it for ever."""
    clock.memory(tmp_path).note(IDLE)
    clock.now_s -= 2 * FRESH_S
    assert clock.memory(tmp_path).recall() is None


def test_a_folder_that_cannot_be_written_costs_one_line(tmp_path: Path, clock: Clock) -> None:
    """The daemon serves without a memory."""
    (tmp_path / "file").touch()
    memory = clock.memory(tmp_path / "file" / "costs")

    with structlog.testing.capture_logs() as logs:
        memory.note(IDLE)
        memory.note(times(0.5))
    assert [line["event"] for line in logs] == ["costs_not_remembered"]


def test_nothing_is_remembered_without_a_folder(clock: Clock) -> None:
    """For callers that want none."""
    memory = clock.memory(None)
    memory.note(IDLE)
    assert memory.recall() is None
