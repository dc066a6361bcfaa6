"""A failed step changes no session: tests of streamer.engine.engine against an engine that never saw the step."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from streamer.engine.engine import WhisperEngine
from streamer.errors import DeviceError, EngineError
from streamer.step import StepRequest, StepResult
from tests.helpers.engines import engine_on, request, toy

CALLS = (
    ("encoder", "extend"),
    ("decoder", "audio_keys_values"),
    ("decoder", "run"),
    ("decoder", "project"),
    ("decoder", "align"),
)
"""Every use of the device in a step."""


def engine(*, row_by_row: bool = True) -> WhisperEngine:
    """A few thousand random weights that remember sound and text; rows padded together as on a GPU, or alone."""
    made = engine_on(toy(), max_batch=3, max_window_s=2.0, bucket=8, n_tail=20, settle_s=0.5, margin_frames=4)
    made._cache.row_by_row = row_by_row
    return made


def noise(seed: int, n_frames: int) -> Tensor:
    """The beginning of one endless window."""
    return torch.randn(5, 200, generator=torch.Generator().manual_seed(seed))[:, :n_frames]


def growing(n_frames: int, *, settled: int = 3) -> list[StepRequest]:
    """Three sessions whose windows grow, each with a prefix that is partly settled and a draft."""
    return [
        request(
            noise(row, n_frames - 10 * row),
            f"session-{row}",
            window_start=0,
            prefix=(40 + row, 50, 60, 70, 80),
            settled_tokens=settled,
            draft=(90, 91 + row),
        )
        for row in range(3)
    ]


def facts(engine: WhisperEngine, asked: list[StepRequest]) -> tuple[object, ...]:
    """What an engine says it remembers."""
    return engine.cache_bytes, [engine.window_encoder.n_settled(each) for each in asked]


@contextmanager
def broken(engine: WhisperEngine, nth: int, fault: Callable[[Any], Any]) -> Iterator[list[str]]:
    """While open, the result of the nth use of the device goes through `fault`; yields the names of all uses."""
    seen: list[str] = []

    def use(real: Callable[..., Any], name: str, *args: Any, **more: Any) -> Any:
        seen.append(name)
        result = real(*args, **more)
        return fault(result) if len(seen) == nth + 1 else result

    with pytest.MonkeyPatch.context() as patch:
        for part, name in CALLS:
            network = getattr(engine.model, part)

            patch.setattr(network, name, functools.partial(use, getattr(network, name), name))
        yield seen


def out_of_memory(_result: object) -> None:
    """The device fails."""
    raise torch.OutOfMemoryError("no memory")


def poison(result: Any) -> Any:
    """The last row of what the device computed is not a number, as after an overflow in half precision."""
    tensors = [each for each in _tensors(result) if each.numel()]
    tensors[0][-1] = torch.nan
    return result


def _tensors(result: Any) -> list[Tensor]:
    if isinstance(result, Tensor):
        return [result]
    return [part.features for part in result] if isinstance(result, list) else [result.hidden]


def results(engine: WhisperEngine) -> list[list[StepResult]]:
    """Of the steps after the one that may fail."""
    return [engine.step(growing(n_frames, settled=4)) for n_frames in (160, 200)]


def uses_of_a_step() -> list[str]:
    """Names of all uses of the device in the step that is to fail."""
    ours = engine()
    ours.step(growing(80))
    with broken(ours, -1, out_of_memory) as seen:
        ours.step(growing(140, settled=4))
    assert set(seen) == {name for _, name in CALLS}
    return seen


@pytest.mark.parametrize("row_by_row", [True, False], ids=["alone", "padded"])
@pytest.mark.parametrize("fault", [out_of_memory, poison])
def test_a_step_that_fails_anywhere_changes_nothing(fault: Callable[[Any], Any], row_by_row: bool) -> None:
    """At the first or last use of a part of the network: memory and later results are those of an engine without it."""
    untouched = engine(row_by_row=row_by_row)
    untouched.step(growing(80))
    before = facts(untouched, growing(160))
    expected = results(untouched)
    uses, failed = uses_of_a_step(), set()

    for nth in sorted(
        {each for name in set(uses) for each in (uses.index(name), len(uses) - 1 - uses[::-1].index(name))}
    ):
        ours = engine(row_by_row=row_by_row)
        ours.step(growing(80))
        try:
            with broken(ours, nth, fault):
                ours.step(growing(140, settled=4))
        except DeviceError:
            failed.add(uses[nth])
            assert facts(ours, growing(160)) == before
            assert results(ours) == expected
        ours.check_integrity()

    # numbers that nobody reads are no fault: of rejected drafts, and of alignment, whose times are always some
    assert failed >= set(uses) - ({"align"} if fault is poison else set())


def test_a_poisoned_request_changes_no_other_session() -> None:
    """A window that holds NaN is refused with its batch; the others go on as if it had not been."""
    ours, untouched = engine(), engine()
    for each in (ours, untouched):
        each.step(growing(80))
    batch = growing(140)
    batch[2].log_mel[0, 5] = torch.nan

    with pytest.raises(EngineError, match="window of 120 frames holds infinity or NaN"):
        ours.step(batch)

    assert facts(ours, growing(160)) == facts(untouched, growing(160))
    assert results(ours) == results(untouched)
