"""Tests of benchmarks/scale: small cells on the simulated clock, and what is counted of them."""

from __future__ import annotations

import asyncio
import time

import msgspec
import pytest

from benchmarks.scale import clock
from benchmarks.scale.__main__ import planned
from benchmarks.scale.cell import Figures, Plan, simulate
from benchmarks.scale.costs import ENGINES
from benchmarks.scale.speech import FIRST_TOKEN, Manner, Speech

CELL = Plan(n_streams=6, n_gateways=2, n_engines=2, engine=ENGINES["h200"], seconds=6.0)


def test_simulated_time_passes_as_fast_as_its_code_runs() -> None:
    """Timers run in the order of their times, and the clock of the machine is that of the loop meanwhile."""

    async def minutes() -> tuple[list[int], float]:
        order: list[int] = []
        for delay_s in (60, 20, 40):
            asyncio.get_running_loop().call_later(delay_s, order.append, delay_s)
        await asyncio.sleep(90)
        return order, time.monotonic()

    order, now_s = clock.run(minutes())

    assert order == [20, 40, 60]
    assert now_s == pytest.approx(90)


def test_a_wait_that_nothing_ends_is_an_error() -> None:
    """Not a run that never ends."""

    async def wait() -> None:
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="no timer"):
        clock.run(wait())


def test_words_are_where_voice_is() -> None:
    """And each is found in every window that holds it."""
    speech = Speech(Manner(), 60.0, seed=1)

    assert all(speech.is_voice(at_s + 0.1) for at_s in speech.starts_s)
    assert [token for token, _ in speech.tokens(0.0, 60.0)][:3] == [FIRST_TOKEN, FIRST_TOKEN + 1, FIRST_TOKEN + 2]
    assert speech.tokens(speech.starts_s[5], 60.0)[0] == (FIRST_TOKEN + 5, speech.starts_s[5])


def run(**changes: object) -> Figures:
    """A small cell with these changes."""
    return simulate(msgspec.structs.replace(CELL, **changes))


def test_a_cell_shows_what_its_streams_say() -> None:
    """About two words a second of each, soon; both gateways' rows are merged, and audio crosses once."""
    found = run()

    assert found.n_refused == 0
    assert found.audio_s == pytest.approx(36, abs=2)
    assert 1.0 < found.n_words / found.audio_s < 2.6
    assert 0.3 < found.commit_p50_s < 1.0
    assert found.rows_per_step >= found.rows_per_call >= 1
    assert 16 * 1.6 * 0.5 < found.kb_per_audio_s < 60
    assert (found.n_moves, found.n_resent) == (0, 0)


@pytest.mark.parametrize("lost", ["engine", "gateway"])
def test_a_loss_costs_time_and_no_word(lost: str) -> None:
    """Sessions of a lost engine are served by the other one; clients of a lost gateway go on at the other one."""
    undisturbed, found = run(seconds=9.0), run(seconds=9.0, lost=lost)

    assert found.n_refused == 0
    assert found.n_words > 0.85 * undisturbed.n_words
    assert found.commit_max_s >= undisturbed.commit_max_s
    assert (found.n_moves > 0) is (lost == "engine")


def test_a_size_is_split_into_cells_that_are_alike() -> None:
    """All streams are in one of them, and no engine has more than its share."""
    plans = planned(10_000, ENGINES["h200"], 5.0)

    assert sum(plan.n_streams for plan in plans) == 10_000
    assert max(plan.n_streams for plan in plans) - min(plan.n_streams for plan in plans) <= 1
    assert {plan.n_engines for plan in plans} == {2}
