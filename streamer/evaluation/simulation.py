"""
Plays recordings to sessions on a simulated clock: the same steps, words and times in every run.

Each session receives a tenth of a second at a time and has a simulated device to itself, which takes `step_s` of stream
time for every step. So latencies do not depend on how busy the machine is. Sessions do not share a clock: a batch
holds the steps that the sessions side by side are waiting for, each at its own place of its own recording.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from streamer.audio.frontend import END_SAMPLES, FeatureState, FrontEnd
from streamer.audio.pcm import SAMPLE_RATE
from streamer.errors import EngineError
from streamer.evaluation.latency import LatencyTracker, LiveTranscript
from streamer.evaluation.playback import CHUNK_S
from streamer.protocol.events import Event, TurnRevised
from streamer.session.second_pass import Revision
from streamer.session.session import Session, Step
from streamer.step import Engine, StepRequest, StepResult

Playback = Generator[StepRequest, StepResult, LiveTranscript]
"""A session while it is played: yields step requests, is sent their results, and returns its transcript."""
Revise = Callable[[Revision], TurnRevised | None]
"""Decodes a turn once more, which takes no stream time; None: its text stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedPace:
    """How much stream time a step takes, and how often one is due."""

    interval_s: float = 0.3
    """New audio after which a step is due."""
    step_s: float = 0.06
    """From the start of a step to its events."""


def simulate(openings: Iterable[Callable[[], Playback]], engine: Engine, n_rows: int) -> list[LiveTranscript]:
    """
    Play recordings, `n_rows` side by side; the next one begins when one is over.

    Args:
        openings: Each begins one playback. It is called when the playback begins, so at most `n_rows` are held.
        engine: Runs the steps.
        n_rows: Rows of one step.

    Returns:
        The transcripts, in the order of `openings`.

    Raises:
        EngineError: A step failed, or a session is not over and wants no step.
    """
    unopened = enumerate(openings)
    done: dict[int, LiveTranscript] = {}
    playing: dict[int, tuple[Playback, StepRequest]] = {}

    def go_on(i: int, playback: Playback, result: StepResult | None) -> None:
        try:
            playing[i] = playback, next(playback) if result is None else playback.send(result)
        except StopIteration as end:
            # another recording may be played under the same session name later
            if played := playing.pop(i, None):
                engine.forget(played[1].session)
            done[i] = end.value

    while True:
        while len(playing) < n_rows and (opening := next(unopened, None)):
            go_on(opening[0], opening[1](), None)
        if not playing:
            return [done[i] for i in sorted(done)]
        asked = list(playing.items())
        results = engine.step([request for _, (_, request) in asked])
        for (i, (playback, _)), result in zip(asked, results, strict=True):
            go_on(i, playback, result)


def keep_text(_: Revision) -> None:
    """Make no second pass: the turn keeps its text."""


def perform(
    session: Session,
    front_end: FrontEnd,
    samples: NDArray[np.float32],
    pace: SimulatedPace,
    revise: Revise = keep_text,
) -> Playback:
    """
    Play one recording to a session.

    Args:
        session: A session that has received nothing yet; its name is unique among those played side by side.
        front_end: Turns samples into mel frames and voice probabilities.
        samples: (n,), mono at 16 kHz.
        pace: How much stream time a step takes, and how often one is due.
        revise: See `Revise`.
    """
    return _Player(session, front_end, pace, revise, len(samples) / SAMPLE_RATE).play(samples)


@dataclass(frozen=True, slots=True)
class _Awaited:
    """A step under way: its result is computed, and is due at `at_s`."""

    step: Step
    result: StepResult
    at_s: float


class _Player:
    def __init__(
        self,
        session: Session,
        front_end: FrontEnd,
        pace: SimulatedPace,
        revise: Revise,
        duration_s: float,
    ) -> None:
        self._session, self._front_end, self._pace, self._revise = session, front_end, pace, revise
        self._features, self._tracker = FeatureState(), LatencyTracker(duration_s)
        self._awaited: _Awaited | None = None

    def play(self, samples: NDArray[np.float32]) -> Playback:
        now_s, n = 0.0, int(CHUNK_S * SAMPLE_RATE)
        for at in range(0, len(samples), n):
            chunk = samples[at : at + n]
            now_s = (at + len(chunk)) / SAMPLE_RATE
            yield from self._results_until(now_s)
            self._hear(torch.from_numpy(chunk.copy()), now_s)
            yield from self._begin(now_s)
        self._hear(torch.zeros(END_SAMPLES), now_s)
        self._say(self._session.end(now_s), now_s)
        yield from self._begin(now_s)
        yield from self._results_until(float("inf"))
        if not self._session.is_over:
            raise EngineError(f"session {self._session.id} is not over after its last step")
        return self._tracker.transcript

    def _begin(self, now_s: float) -> Generator[StepRequest, StepResult, None]:
        """Start a step if one is due. A result that is awaited comes first: a session has one step at a time."""
        if self._session.is_due(self._pace.interval_s):
            step = self._session.next_step()
            result = yield step.request
            self._awaited = _Awaited(step, result, now_s + self._pace.step_s)

    def _results_until(self, now_s: float) -> Generator[StepRequest, StepResult, None]:
        """Apply results that are due by now; after each start the next step if one is due."""
        while self._awaited and self._awaited.at_s <= now_s:
            came, self._awaited = self._awaited, None
            self._say(self._session.apply(came.step, came.result), came.at_s)
            yield from self._begin(came.at_s)

    def _hear(self, samples: torch.Tensor, now_s: float) -> None:
        features = self._front_end.extract([self._features], [samples])[0]
        self._say(self._session.push_frames(features.frames, features.probabilities), now_s)

    def _say(self, events: Sequence[Event], now_s: float) -> None:
        for event in events:
            self._tracker.see(event, now_s)
        for revision in self._session.take_revisions():
            self._say(self._session.revised(revision.turn.turn, self._revise(revision)), now_s)
