"""
Greedy decoding of whole windows of 30 s, as published: the front end with the floor of each window, no cached silence.

Recordings of more than 30 s are cut in the longest pause of the second half of each window.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model import Whisper
from streamer.audio import mel
from streamer.audio.frontend import FeatureState, FrontEnd
from streamer.audio.mel import DYNAMIC_RANGE, MelSpectrogram
from streamer.audio.pcm import SAMPLE_RATE
from streamer.audio.vad import FRAME_SAMPLES
from streamer.engine.engine import WhisperEngine
from streamer.engine.options import EngineOptions
from streamer.protocol.options import Task
from streamer.step import StepRequest, StepResult
from streamer.telemetry.metrics import EngineMetrics
from streamer.text.tokenizer import Tokenizer

WINDOW_S = 30.0
"""Length of a full window."""
WINDOW_SAMPLES = int(WINDOW_S * SAMPLE_RATE)
VOICED = 0.35
"""Voice probability from which a frame counts as voice in the search for a pause."""
HEARD_AT_ONCE = 60 * SAMPLE_RATE
"""Samples whose features are computed at once: each second of them takes 0.7 MB meanwhile."""
LOG_FLOOR = -10.0
"""log10 of the lowest power that the front end distinguishes."""


class DecodeOptions(TypedDict, total=False):
    """How speech is decoded."""

    language: str | None
    """A code of the model's languages; None, as by default, to detect it."""
    task: Task
    """`transcribe`, as by default, or `translate`: to English."""
    prompt: str
    """Text that the decoder reads before each window."""
    keyterms: Sequence[str]
    """Words and names that decoding favours."""


class WindowDecoder:
    """
    Decodes windows of at most 30 s, one by one.

    Args:
        model: In inference mode.
        tokenizer: Of the same checkpoint.
        metrics: Observe the latencies of this engine.
    """

    def __init__(self, model: Whisper, tokenizer: Tokenizer, metrics: EngineMetrics) -> None:
        # windows are complete and clamped before, so the floor of the engine must lie below them
        options = EngineOptions(max_batch=1, silence_cache=False, mel_maximum=LOG_FLOOR + DYNAMIC_RANGE)
        self._model, self._tokenizer = model, tokenizer
        self._engine = WhisperEngine(model, tokenizer, options, metrics)
        self._spectrogram = MelSpectrogram(model.dims.n_mels)

    def decode(
        self,
        samples: NDArray[np.float32],
        language: str | None = None,
        *,
        task: Task = "transcribe",
        prompt: str = "",
        keyterms: Sequence[str] = (),
    ) -> StepResult:
        """
        Decode one window greedily.

        Args:
            samples: (n,), mono at 16 kHz, at most 30 s.
            language: See `DecodeOptions`, as for all others.
            task: See there.
            prompt: See there.
            keyterms: See there.

        Raises:
            EngineError: The window is longer than 30 s, or the model has no such language.
        """
        request = StepRequest(
            session="window",
            log_mel=self.log_mel(samples),
            language=language,
            task=task,
            prompt=tuple(self._tokenizer.encode(f" {prompt}".rstrip())),
            keyterms=tuple(keyterms),
        )
        return self._engine.step([request])[0]

    def language_probabilities(self, samples: NDArray[np.float32]) -> dict[str, float]:
        """Probability of each language that the model knows, of a window (n,) of at most 30 s, likeliest first."""
        tokenizer = self._tokenizer
        if not tokenizer.multilingual:
            return dict.fromkeys(tokenizer.languages, 1.0)
        with torch.inference_mode():
            window = mel.scale(self.log_mel(samples), LOG_FLOOR + DYNAMIC_RANGE)[None]  # (1, n_mels, n_frames)
            features = self._model.embed_audio(window)  # (1, n_audio_ctx, n_audio_state)
            logits = self._model.logits(torch.tensor([[tokenizer.sot]]), features)[0, 0]  # (n_vocab,)
        probabilities = logits[list(tokenizer.languages.values())].softmax(dim=-1).tolist()
        found = dict(zip(tokenizer.languages, probabilities, strict=True))
        return dict(sorted(found.items(), key=lambda each: -each[1]))

    def log_mel(self, samples: NDArray[np.float32]) -> Tensor:
        """A full window, (n_mels, 3000), of samples (n,), clamped at its own floor as in the published front end."""
        padded = torch.zeros(max(WINDOW_SAMPLES, len(samples)))
        padded[: len(samples)] = torch.from_numpy(samples.copy())
        window = self._spectrogram.whole(padded)
        return window.clamp_min(float(window.max()) - DYNAMIC_RANGE)


def voice_probabilities(front_end: FrontEnd, samples: NDArray[np.float32]) -> list[float]:
    """Voice probabilities of a recording (n,), one for each 32 ms."""
    state, pieces = FeatureState(), torch.from_numpy(samples.copy()).split(HEARD_AT_ONCE)
    return [p for piece in pieces for p in front_end.extract([state], [piece])[0].probabilities]


def has_voice(voice: Sequence[float], start_s: float, end_s: float) -> bool:
    """
    Whether there is voice in a part of a recording.

    Args:
        voice: Voice probabilities, one for each 32 ms.
        start_s: Start of the part, seconds.
        end_s: End of the part, seconds.
    """
    first, last = int(start_s * SAMPLE_RATE) // FRAME_SAMPLES, int(end_s * SAMPLE_RATE) // FRAME_SAMPLES
    return any(p >= VOICED for p in voice[first : last + 1])


def cut_in_pauses(samples: NDArray[np.float32], voice: Sequence[float]) -> Iterator[NDArray[np.float32]]:
    """
    Cut a recording into windows of at most 30 s, in the middle of the longest pause in the second half of each.

    Args:
        samples: (n,), mono at 16 kHz.
        voice: Voice probabilities, one for each 32 ms.
    """
    longest, at = WINDOW_SAMPLES, 0
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
