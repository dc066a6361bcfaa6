"""Tests of streamer/scheduling/revision_decoder.py: second passes with engines of this process."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from streamer.errors import EngineError
from streamer.scheduling.revision_decoder import NICENESS, RevisionDecoder, RevisionThread
from tests.helpers.revisions import revision
from tests.helpers.scripted_engine import ScriptedEngine, reviser


def test_a_language_that_the_model_does_not_know_is_left() -> None:
    """As of a German turn, where the second model knows English alone."""
    engine = ScriptedEngine()
    decoder = RevisionDecoder([reviser(engine)])

    assert decoder.decode(revision(language="de")) is None
    assert engine.batches == []
    assert decoder.cache_bytes == [], "an engine was built for nothing"


def test_a_turn_may_ask_for_a_model() -> None:
    """Each model has an engine of its own, which is built once, when it is needed."""
    first, second = ScriptedEngine(), ScriptedEngine()
    decoder = RevisionDecoder([reviser(first, "first"), reviser(second, "second")])
    for model in ("", "second", "second"):
        event = decoder.decode(revision(model=model))
        assert event is not None
        assert event.model == (model or "first")
    assert (len(first.batches), len(second.batches)) == (1, 2)
    assert [facts.name for facts in decoder.facts] == ["first", "second"]


@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory"), OSError(12, "Cannot allocate memory")])
def test_an_engine_that_cannot_be_built_is_a_failed_step(error: Exception) -> None:
    """Live steps have filled the memory: the process that hosts them goes on, and the next turn tries again."""
    tried: list[ScriptedEngine] = []

    def build() -> ScriptedEngine:
        tried.append(ScriptedEngine())
        if len(tried) == 1:
            raise error
        return tried[-1]

    decoder = RevisionDecoder([replace(reviser(ScriptedEngine()), new_engine=build)])

    with pytest.raises(EngineError, match=r"cannot be built: .*memory"):
        decoder.decode(revision())
    assert decoder.cache_bytes == []
    decoder.decode(revision())
    assert [len(engine.batches) for engine in tried] == [0, 1]


async def test_turns_are_decoded_on_a_thread_that_gives_way() -> None:
    """And tell what they have cost; a step that fails is raised to who asked."""
    engine, niceness = ScriptedEngine(), list[int]()
    engine.on_step = lambda _: niceness.append(os.getpriority(os.PRIO_PROCESS, 0))
    thread = RevisionThread(RevisionDecoder([reviser(engine)]))

    revised = await thread.decode(revision())
    engine.poisoned["revision"] = 1
    with pytest.raises(EngineError, match="poisoned"):
        await thread.decode(revision())
    thread.close()

    assert revised.event is not None
    assert revised.event.text == "c"
    assert revised.seconds > 0
    assert niceness == [NICENESS, NICENESS]
