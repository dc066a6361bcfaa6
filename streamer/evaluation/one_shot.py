"""
Decodes a finished recording at once: greedy decoding of full windows, to compare live captions with.

It shares only the network with the live path: the published front end with the floor of each window, no cached silence,
no draft, no commit. Recordings of more than 30 s are cut in the longest pause of the second half of each window.
Results are kept in the user's cache folder: they depend only on the weights, the dtype and the recording.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model import Whisper
from streamer.audio.frontend import FeatureState, FrontEnd
from streamer.audio.mel import DYNAMIC_RANGE, FRAMES_PER_SECOND, MelSpectrogram
from streamer.audio.pcm import SAMPLE_RATE
from streamer.audio.vad import FRAME_SAMPLES
from streamer.engine.engine import WhisperEngine
from streamer.engine.options import EngineOptions
from streamer.session.plausibility import is_no_speech
from streamer.step import StepRequest
from streamer.telemetry.metrics import EngineMetrics
from streamer.text.tokenizer import Tokenizer

WINDOW_S = 30.0
"""Length of a full window."""
VOICED = 0.35
"""Voice probability from which a frame counts as voice in the search for a pause."""
LOG_FLOOR = -10.0
"""log10 of the lowest power that the front end distinguishes."""
VERSION = 1
"""To be raised with every change here that can change a text: results of older versions are then not found."""


class OneShot:
    """
    Decodes recordings at once, and keeps the texts.

    Args:
        model: In inference mode.
        tokenizer: Of the same checkpoint.
        front_end: Gives the voice probabilities in which pauses are found.
        metrics: Observe the latencies of this engine, not those of the live path.
        folder: For the texts.
        weights: Identifies weights and dtype in `folder`.
    """

    def __init__(
        self,
        model: Whisper,
        tokenizer: Tokenizer,
        front_end: FrontEnd,
        metrics: EngineMetrics,
        *,
        folder: Path,
        weights: str,
    ) -> None:
        # windows are complete and clamped before, so the floor of the engine must lie below them
        options = EngineOptions(max_batch=1, silence_cache=False, mel_maximum=LOG_FLOOR + DYNAMIC_RANGE)
        self._engine = WhisperEngine(model, tokenizer, options, metrics)
        self._tokenizer, self._front_end = tokenizer, front_end
        self._spectrogram = MelSpectrogram(model.dims.n_mels)
        self._folder, self._weights = folder, weights

    def text(self, samples: NDArray[np.float32], language: str) -> str:
        """
        The text of a recording, decoded now or by an earlier run.

        Args:
            samples: (n,), mono at 16 kHz.
            language: A code; empty to detect it in each window.
        """
        key = hashlib.sha256(f"{VERSION} {self._weights} {language} ".encode() + samples.tobytes()).hexdigest()
        path = self._folder / f"{key[:32]}.json"
        if path.is_file():
            return str(json.loads(path.read_text(encoding="utf-8"))["text"])
        windows = cut_in_pauses(samples, self._voice(samples))
        text = " ".join(filter(None, (self._window_text(window, language) for window in windows)))
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps({"weights": self._weights, "language": language, "text": text}), encoding="utf-8")
        partial.replace(path)
        return text

    def _voice(self, samples: NDArray[np.float32]) -> list[float]:
        return self._front_end.extract([FeatureState()], [torch.from_numpy(samples.copy())])[0].probabilities

    def _window_text(self, samples: NDArray[np.float32], language: str) -> str:
        request = StepRequest(session="one-shot", log_mel=self.log_mel(samples), language=language or None)
        result = self._engine.step([request])[0]
        return "" if is_no_speech(result) else self._tokenizer.decode(result.tokens).strip()

    def log_mel(self, samples: NDArray[np.float32]) -> Tensor:
        """A full window, (n_mels, 3000), clamped at its own floor as in the published front end."""
        own = self._spectrogram.whole(torch.from_numpy(samples.copy()))
        window = torch.full((own.shape[0], int(WINDOW_S * FRAMES_PER_SECOND)), LOG_FLOOR)
        window[:, : own.shape[1]] = own
        return window.clamp_min(float(own.max()) - DYNAMIC_RANGE if own.numel() else LOG_FLOOR)


def cut_in_pauses(samples: NDArray[np.float32], voice: Sequence[float]) -> Iterator[NDArray[np.float32]]:
    """
    Cut a recording into windows of at most 30 s, in the middle of the longest pause in the second half of each.

    Args:
        samples: (n,), mono at 16 kHz.
        voice: Voice probabilities, one for each 32 ms.
    """
    longest, at = int(WINDOW_S * SAMPLE_RATE), 0
    while len(samples) - at > longest:
        first, last = (at + longest // 2) // FRAME_SAMPLES, (at + longest) // FRAME_SAMPLES
        end = _middle_of_pause([p >= VOICED for p in voice[first:last]])
        end = at + longest if end is None else (first + end) * FRAME_SAMPLES
        yield samples[at:end]
        at = end
    yield samples[at:]


def _middle_of_pause(voiced: Sequence[bool]) -> int | None:
    """Index in the middle of the longest run without voice; None if every frame has voice."""
    best, run = (0, 0), 0
    for i, is_voice in enumerate([*voiced, True]):
        if is_voice:
            best = max(best, (run, i))
        run = 0 if is_voice else run + 1
    length, end = best
    return end - length // 2 if length else None
