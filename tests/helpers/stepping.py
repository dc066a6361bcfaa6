"""A session played by stream time alone: no loop, no clock, the same steps every time."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from streamer.audio.frontend import END_SAMPLES, FeatureState, FrontEnd
from streamer.audio.mel import MelSpectrogram
from streamer.audio.pcm import SAMPLE_RATE
from streamer.audio.vad import VoiceDetector, read_weights
from streamer.protocol.events import Event, TurnEnd
from streamer.session.session import Session
from streamer.step import Engine

GRID = SAMPLE_RATE // 10
"""Steps are taken when a whole tenth of a second has been heard."""


def front_end(n_mels: int = 80) -> FrontEnd:
    """A real one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch would rather not read this kind of file
        return FrontEnd(MelSpectrogram(n_mels), VoiceDetector(read_weights()))


def play(
    session: Session,
    engine: Engine,
    front_end: FrontEnd,
    chunks: Iterable[NDArray[np.float32]],
    interval_s: float = 0.3,
) -> list[Event]:
    """
    Everything a session says to a recording that comes in these chunks.

    Chunks are heard as they come; where one crosses the grid it is heard in two parts, and a step follows if one
    is due: what is decided depends on stream time alone.
    """
    state, events = FeatureState(), list[Event]()
    for block, on_grid in cut(chunks):
        events += hear(session, front_end, state, block)
        if on_grid:
            events += step(session, engine, interval_s)
    events += hear(session, front_end, state, np.zeros(END_SAMPLES, np.float32))
    events += session.end()
    while not session.is_over:
        said = step(session, engine, interval_s)
        assert said, "a session that ends wants its last step"
        events += said
    return events


def cut(chunks: Iterable[NDArray[np.float32]]) -> Iterator[tuple[NDArray[np.float32], bool]]:
    """Pieces that never cross the grid, and whether each ends on it."""
    at = 0
    for chunk in chunks:
        rest = chunk
        while len(rest):
            n = min(len(rest), GRID - at % GRID)
            at += n
            yield rest[:n], at % GRID == 0
            rest = rest[n:]


def hear(session: Session, front_end: FrontEnd, state: FeatureState, samples: NDArray[np.float32]) -> list[Event]:
    """Samples through the front end into the session."""
    heard = front_end.extract([state], [torch.from_numpy(samples.copy())])[0]
    return session.push_frames(heard.frames, heard.probabilities)


def step(session: Session, engine: Engine, interval_s: float) -> list[Event]:
    """One step, if the session wants one."""
    if not session.is_due(interval_s):
        return []
    asked = session.next_step()
    return session.apply(asked, engine.step([asked.request])[0])


def final_text(events: Iterable[Event]) -> list[str]:
    """The text of each turn."""
    return [event.text for event in events if isinstance(event, TurnEnd)]


def plain(events: Iterable[Event]) -> list[object]:
    """Events as built-in values, without what depends on when the session was asked."""
    return [msgspec.to_builtins(event) for event in events]
