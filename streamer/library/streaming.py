"""A live stream without a daemon: blocks of samples in, events out, on the caller's thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch

from streamer.audio.frontend import END_SAMPLES, FeatureState, FrontEnd
from streamer.audio.pcm import SAMPLE_RATE, Samples
from streamer.protocol.events import Event, TurnRevised
from streamer.session.second_pass import Revision
from streamer.session.session import Session
from streamer.step import Engine

CHUNK = SAMPLE_RATE // 10
"""Samples that a session takes at a time."""
INTERVAL_S = 0.3
"""New audio after which a step is due, seconds."""


def stream_events(
    blocks: Iterable[Samples],
    session: Session,
    front_end: FrontEnd,
    engine: Engine,
    revise: Callable[[Revision], TurnRevised | None],
) -> Iterator[Event]:
    """
    Events of a session, up to `Bye`, while its blocks are read; a step runs when it is due, before the next block.

    A turn that asks for its second pass gets it before the next block too.

    Args:
        blocks: Samples (n,), mono at 16 kHz, any n.
        session: A session that has received nothing yet.
        front_end: Turns samples into mel frames and voice probabilities.
        engine: Runs the steps; forgets the session when the iteration ends or is closed.
        revise: Decodes a turn once more; None: its text stays.

    Raises:
        EngineError: A step failed.
    """
    state, n = FeatureState(), 0
    try:
        for block in blocks:
            for chunk in torch.from_numpy(block.copy()).split(CHUNK):
                n += chunk.shape[0]
                yield from _take(chunk, state, session, front_end)
                yield from _steps(session, engine, revise)
        yield from _take(torch.zeros(END_SAMPLES), state, session, front_end)
        yield from session.end(n / SAMPLE_RATE)
        yield from _steps(session, engine, revise)
    finally:
        engine.forget(session.id)


def _take(samples: torch.Tensor, state: FeatureState, session: Session, front_end: FrontEnd) -> Iterator[Event]:
    features = front_end.extract([state], [samples])[0]
    yield from session.push_frames(features.frames, features.probabilities)


def _steps(session: Session, engine: Engine, revise: Callable[[Revision], TurnRevised | None]) -> Iterator[Event]:
    """Run the steps that are due, then the second passes."""
    while session.is_due(INTERVAL_S):
        step = session.next_step()
        yield from session.apply(step, engine.step([step.request])[0])
    for revision in session.take_revisions():
        yield from session.revised(revision.turn.turn, revise(revision))
