"""Tests of streamer/step.py: requests and results are plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import FrozenInstanceError, replace

import pytest
import torch

from streamer.step import Engine, StepRequest, StepResult
from tests.helpers.words import phrase, result


class Echo:
    """An engine that says its draft."""

    def step(self, batch: Sequence[StepRequest]) -> list[StepResult]:
        """Confirm everything."""
        said = result(phrase(" so"))
        return [replace(said, tokens=request.draft, n_verified=len(request.draft)) for request in batch]

    def forget(self, session: str) -> None:
        """Nothing was remembered."""


def test_smallest_request() -> None:
    """A session and a window are enough: nothing is remembered, guessed or known."""
    request = StepRequest(session="s_1", log_mel=torch.zeros(80, 100))
    assert (request.prompt, request.prefix, request.draft, request.anchor_tokens) == ((), (), (), 0)
    assert request.language is None
    assert request.window_start is None
    assert request.task == "transcribe"
    assert not request.final


def test_requests_cannot_change() -> None:
    """A request on its way to the device is not changed by its session."""
    request = StepRequest(session="s_1", log_mel=torch.zeros(80, 100))
    with pytest.raises(FrozenInstanceError):
        request.session = "s_2"  # type: ignore[misc]


def test_engines_are_anything_that_steps() -> None:
    """The interface is structural, so that an engine may stand behind a remote handle."""
    engine: Engine = Echo()
    batch = [StepRequest(session=name, log_mel=torch.zeros(80, 1), draft=(n,)) for n, name in enumerate("ab")]
    assert [said.tokens for said in engine.step(batch)] == [(0,), (1,)]
