"""Plays the recordings of an evaluation: live in real time, live as fast as possible, or on a simulated clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from streamer import weights
from streamer.audio.files import read_audio
from streamer.audio.pcm import SAMPLE_RATE
from streamer.build.engines import Engines
from streamer.build.options import window_options
from streamer.build.service import build_scheduler
from streamer.config import Config
from streamer.evaluation.latency import LiveTranscript
from streamer.evaluation.manifest import ManifestRow
from streamer.evaluation.one_shot import OneShot
from streamer.evaluation.playback import transcribe_live
from streamer.evaluation.simulation import Playback, Revise, SimulatedPace, keep_text, perform, simulate
from streamer.protocol.options import Delay, SessionOptions
from streamer.scheduling.revision_decoder import RevisionDecoder
from streamer.scheduling.scheduler import running
from streamer.session.session import Session
from streamer.session.spec import SessionSpec
from streamer.telemetry.metrics import EngineMetrics

Pace = Literal["realtime", "fast", "simulated"]
MOST_AT_ONCE = 16
"""Recordings played side by side at the pace `fast`."""
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationOptions:
    """Which recordings are played, at which pace, and what is measured and written."""

    pace: Pace = "realtime"
    """`realtime`: one after the other; `fast`: several at once, without meaningful latencies; `simulated`: on a
    simulated clock, the same in every run, with the latencies of a device that is never busy."""
    step_s: float = 0.06
    """Stream time of one step at the pace `simulated`."""
    one_shot: bool = False
    """Decode each recording at once too, and compare."""
    revise: bool = False
    """Decode each turn once more when it has ended (`[revise] model`), and judge that text too."""
    differences: bool = False
    """Print the wrong words of each recording."""
    word_times: Path | None = None
    """JSON file for `read_word_times`."""
    plot: Path | None = None
    """Evaluate all `delay` settings, and draw delay against accuracy into this SVG file."""
    json_out: Path | None = None
    """Write the figures to this file."""
    kinds: tuple[str, ...] = ()
    """Play rows of these kinds; empty for all."""
    languages: tuple[str, ...] = ()
    """Play rows in these languages; empty for all that the model knows."""
    lead_ins_s: tuple[float, ...] = ()
    """Play each recording once behind each of these lengths of silence; empty for once without. Where mel frames begin
    changes a text by chance: the error rate over several lead-ins depends less on it."""


class Evaluation:
    """
    The recordings of one evaluation, loaded into memory, and the ways to play them.

    Args:
        config: Model and session.
        engines: Built from `config`.
        rows: The recordings.
        folder: Their files are relative to it.

    Raises:
        AudioFormatError: A recording cannot be read.
    """

    def __init__(self, config: Config, engines: Engines, rows: Sequence[ManifestRow], folder: Path) -> None:
        self._config, self._engines, self._rows = config, engines, rows
        self._window = window_options(config, engines.facts)
        self.decoders: list[RevisionDecoder] = []
        """Those of the second passes of the last `play`."""
        self._samples = [_with_lead_in(read_audio(folder / row.file), row.lead_in_s) for row in rows]

    def play(self, options: EvaluationOptions, delay: Delay) -> list[LiveTranscript]:
        """Play every recording as a live session; transcripts in the order of the rows."""
        self.decoders = []
        if options.pace == "simulated":
            return self._simulated(options, delay)
        return asyncio.run(self._live(options, delay))

    @property
    def revision_s(self) -> float:
        """CPU time of the second passes of the last `play`, seconds."""
        return sum(decoder.busy_s for decoder in self.decoders)

    @property
    def duration_s(self) -> float:
        """Of all recordings, seconds."""
        return sum(map(len, self._samples)) / SAMPLE_RATE

    async def _live(self, options: EvaluationOptions, delay: Delay) -> list[LiveTranscript]:
        """Play through a scheduler: in real time one at a time, for the latencies of a lone stream; else many."""
        # a scheduler registers its metrics once: each needs a registry of its own
        realtime = options.pace == "realtime"
        scheduler = build_scheduler(self._config, self._engines, CollectorRegistry(), self._new_decoder()).scheduler
        at_once = asyncio.Semaphore(1 if realtime else min(MOST_AT_ONCE, scheduler.capacity))

        async def play_one(i: int) -> LiveTranscript:
            async with at_once:
                session = self._options(i, delay, revise=options.revise)
                stream = scheduler.open(session, revises_all=options.revise)
                return await transcribe_live(stream, self._samples[i], realtime=realtime)

        async with running(scheduler):
            return await asyncio.gather(*map(play_one, range(len(self._rows))))

    def _new_decoder(self) -> RevisionDecoder:
        """A decoder of second passes, whose time is counted."""
        self.decoders.append(RevisionDecoder(self._engines.revisers))
        return self.decoders[-1]

    def _simulated(self, options: EvaluationOptions, delay: Delay) -> list[LiveTranscript]:
        """Play on a simulated clock, a share of the recordings on each engine."""
        pace = SimulatedPace(interval_s=self._config.scheduler.step_interval_ms / 1e3, step_s=options.step_s)
        n_rows = self._engines.options.max_batch

        def play_share(worker: int, share: Sequence[int]) -> list[LiveTranscript]:
            revise = self._new_decoder().decode if options.revise else keep_text
            openings = [lambda i=i: self._playback(i, pace, delay, revise) for i in share]
            return simulate(openings, self._engines.engines[worker], n_rows)

        return self._on_workers(play_share)

    def one_shot(self) -> list[str]:
        """Decode every recording at once; texts of earlier runs come from the user's cache folder."""
        engines = self._engines
        source = weights.resolve(self._config.model.name)
        identity = f"{source.name} {weights.sha256_of(*source.weights)} {engines.model.dtype}"
        if engines.model.encoder.is_rounded:
            identity += " encoder in 8 bits"

        def transcribe_share(_worker: int, share: Sequence[int]) -> list[str]:
            decoder = OneShot(
                engines.model,
                engines.tokenizer,
                engines.front_end,
                EngineMetrics(CollectorRegistry()),
                folder=weights.default_store().parent / "one-shot",
                weights=identity,
            )
            return [decoder.text(self._samples[i], self._rows[i].language) for i in share]

        return self._on_workers(transcribe_share)

    def _on_workers(self, work: Callable[[int, Sequence[int]], list[Result]]) -> list[Result]:
        """Share the recordings among a thread for each engine, longest first; results in the order of the rows."""
        n = len(self._engines.engines)
        longest_first = sorted(range(len(self._rows)), key=lambda i: -len(self._samples[i]))
        shares = [longest_first[worker::n] for worker in range(n)]
        with ThreadPoolExecutor(n, initializer=torch.set_num_threads, initargs=(1,)) as threads:
            results = list(threads.map(work, range(n), shares))
        found = {
            i: result
            for share, part in zip(shares, results, strict=True)
            for i, result in zip(share, part, strict=True)
        }
        return [found[i] for i in range(len(self._rows))]

    def _playback(self, i: int, pace: SimulatedPace, delay: Delay, revise: Revise) -> Playback:
        engines, options = self._engines, self._options(i, delay, revise=revise is not keep_text)
        spec = SessionSpec(name=f"{i}", options=options, window=self._window, model=engines.facts)
        return perform(Session(spec), engines.front_end, self._samples[i], pace, revise)

    def _options(self, i: int, delay: Delay, *, revise: bool) -> SessionOptions:
        language = self._rows[i].language or "auto"
        return msgspec.structs.replace(self._config.session, language=language, delay=delay, words=True, revise=revise)


def _with_lead_in(samples: NDArray[np.float32], lead_in_s: float) -> NDArray[np.float32]:
    return np.concatenate([np.zeros(round(lead_in_s * SAMPLE_RATE), np.float32), samples])
