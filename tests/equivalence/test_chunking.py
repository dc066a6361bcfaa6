"""How a recording is cut into messages changes nothing about what is said of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streamer.audio.frontend import FrontEnd
from streamer.engine.engine import WhisperEngine
from streamer.protocol.events import Ack, Event
from streamer.session.audio_window import WindowOptions
from tests.helpers.recordings import Recording
from tests.helpers.sessions import model_of, new_session
from tests.helpers.stepping import final_text, plain, play


def caption(engine: WhisperEngine, front_end: FrontEnd, chunks: Sequence[NDArray[np.float32]]) -> list[Event]:
    """What a fresh session says of these chunks, in steps a second apart."""
    session = new_session(model=model_of(engine.tokenizer), window=WindowOptions(max_window_s=6.0))
    return play(session, engine, front_end, chunks, interval_s=1.0)


def chopped(samples: NDArray[np.float32], seed: int, longest: int) -> list[NDArray[np.float32]]:
    """Random cuts: from single samples to `longest`."""
    cuts = np.cumsum(np.random.default_rng(seed).integers(1, longest, size=len(samples)))
    return np.split(samples, cuts[cuts < len(samples)])


def test_chunks_of_any_size(tiny_engine: WhisperEngine, front_end: FrontEnd, recordings: dict[str, Recording]) -> None:
    """Same events, word for word and time for time, over a pause, the end of a turn and a window that rolls."""
    samples = np.concatenate([recordings["dev-LJ002-0020"].samples, np.zeros(40000, np.float32),
                              recordings["dev-sns-0870"].samples])  # fmt: skip
    whole = caption(tiny_engine, front_end, [samples])
    assert [len(text.split()) > 1 for text in final_text(whole)] == [True, True]

    for seed, longest in ((0, 700), (1, 9000), (2, 60000)):
        events = caption(tiny_engine, front_end, chopped(samples, seed, longest))

        assert said(events) == said(whole)


def said(events: Sequence[Event]) -> list[object]:
    """Without acks, which come by chunk."""
    return plain(event for event in events if not isinstance(event, Ack))
