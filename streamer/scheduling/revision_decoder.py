"""Decodes turns once more with engines of this process, on a thread that gives way to those of the workers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import torch

from streamer.errors import DeviceError
from streamer.protocol.events import TurnRevised
from streamer.scheduling.reviser import Revised
from streamer.session.second_pass import Revision
from streamer.session.spec import ModelFacts
from streamer.step import CachingEngine, StepRequest, StepResult

NICENESS = 15
"""Of the thread: beside a worker that is busy on the same core, it gets one part in thirty of the time."""
SESSION = "revision"
"""Key of the engine's cache, in which nothing is kept: every window is seen once."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisingModel:
    """A model for second passes."""

    facts: ModelFacts
    new_engine: Callable[[], CachingEngine]
    """Builds an engine of one row, for windows of 30 s. Called on the thread that runs its steps, which keeps it."""


class RevisionDecoder:
    """
    Decodes turns with the engine of a model, which is built when the first turn asks for it; on one thread.

    Args:
        models: At least one; the first one is taken where a turn names none.
    """

    def __init__(self, models: Sequence[RevisingModel]) -> None:
        self._models = {model.facts.name: model for model in models}
        self.models = tuple(self._models)
        """Names of the models; the first one is the default."""
        self._engines: dict[str, CachingEngine] = {}
        self.busy_s = 0.0
        """CPU time of the decoding so far, seconds; on a GPU, time of the thread that waits for it."""
        self.audio_s = 0.0
        """Sound of the turns decoded so far, seconds."""

    @property
    def facts(self) -> list[ModelFacts]:
        """Of each model."""
        return [model.facts for model in self._models.values()]

    @property
    def cache_bytes(self) -> list[tuple[int, int]]:
        """Bytes of keys and values of text and of audio, of each engine that was built."""
        return [engine.cache_bytes for engine in list(self._engines.values())]

    def decode(self, revision: Revision) -> TurnRevised | None:
        """
        Decode a turn once more; None where its text stays, or where the model does not know its language.

        Raises:
            EngineError: A step failed, or there is no memory for the engine.
        """
        facts = self._models[revision.model or self.models[0]].facts
        results = self.results(facts.name, revision.requests(facts, SESSION))
        return revision.apply(results, facts)

    def results(self, model: str, requests: Sequence[StepRequest]) -> list[StepResult]:
        """
        Results of requests that are run one after another.

        Args:
            model: Name of one of the models.
            requests: As `Revision.requests` makes them.

        Raises:
            EngineError: A step failed, or there is no memory for the engine.
        """
        if not requests:
            return []
        engine, began_s = self._engine(model), time.thread_time()
        try:
            results = [engine.step([request])[0] for request in requests]
        finally:
            engine.forget(SESSION)  # the slots of its beams give their memory back
        self.busy_s += time.thread_time() - began_s
        self.audio_s += sum(request.log_mel.shape[1] for request in requests) / 100
        return results

    def _engine(self, name: str) -> CachingEngine:
        if name not in self._engines:
            try:
                self._engines[name] = self._models[name].new_engine()
            except (RuntimeError, MemoryError, OSError) as error:  # torch reports a full device as RuntimeError
                raise DeviceError(f"the engine for second passes cannot be built: {error}") from error
        return self._engines[name]


class RevisionThread:
    """
    The thread of a decoder: coroutines run its calls on it, one after another.

    Args:
        decoder: Used on the thread alone.
    """

    def __init__(self, decoder: RevisionDecoder) -> None:
        self._decoder = decoder
        self._executor = ThreadPoolExecutor(1, "reviser", initializer=_give_way)

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models that a turn may ask for; the first one is the default."""
        return self._decoder.models

    @property
    def cache_bytes(self) -> list[tuple[int, int]]:
        """Bytes of keys and values of text and of audio, of each engine that was built."""
        return self._decoder.cache_bytes

    async def decode(self, revision: Revision) -> Revised:
        """
        Decode a turn once more.

        Raises:
            EngineError: A step failed.
        """
        return Revised(*await self._run(lambda: self._decoder.decode(revision)))

    async def results(self, model: str, requests: Sequence[StepRequest]) -> tuple[list[StepResult], float]:
        """
        As `RevisionDecoder.results`, and the CPU time that they took, seconds.

        Raises:
            EngineError: A step failed.
        """
        return await self._run(lambda: self._decoder.results(model, requests))

    def close(self) -> None:
        """Take no more calls; the present one runs to its end."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _run(self, call: Callable[[], T]) -> tuple[T, float]:
        """The result of a call, and the CPU time that its steps took, seconds."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._timed, call)

    def _timed(self, call: Callable[[], T]) -> tuple[T, float]:
        before_s = self._decoder.busy_s
        result = call()
        return result, self._decoder.busy_s - before_s


def _give_way() -> None:
    """Compute on one CPU thread, after the workers; where the platform knows no priority of threads, beside them."""
    torch.set_num_threads(1)
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a sandbox may forbid it
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
