"""
Decodes a finished recording at once: greedy decoding of full windows, to compare live captions with.

It shares only the network with the live path: the published front end with the floor of each window, no cached silence,
no draft, no commit. Recordings of more than 30 s are cut in the longest pause of the second half of each window.
Results are kept in the user's cache folder: they depend only on the weights, the dtype and the recording.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model import Whisper
from streamer.audio.frontend import FrontEnd
from streamer.library.windows import WindowDecoder, cut_in_pauses, voice_probabilities
from streamer.session.plausibility import is_no_speech
from streamer.telemetry.metrics import EngineMetrics
from streamer.text.joining import joined
from streamer.text.tokenizer import Tokenizer

VERSION = 2
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
        self._windows = WindowDecoder(model, tokenizer, metrics)
        self._tokenizer, self._front_end = tokenizer, front_end
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
        with contextlib.suppress(
            OSError, ValueError, LookupError, TypeError
        ):  # it is not there, or was not written whole
            return str(json.loads(path.read_text(encoding="utf-8"))["text"])
        windows = cut_in_pauses(samples, voice_probabilities(self._front_end, samples))
        text = joined(self._window_text(window, language) for window in windows)
        with contextlib.suppress(OSError):  # a folder that cannot be written keeps nothing
            self._keep(path, {"weights": self._weights, "language": language, "text": text})
        return text

    def _keep(self, path: Path, result: Mapping[str, str]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(result), encoding="utf-8")
        partial.replace(path)

    def _window_text(self, samples: NDArray[np.float32], language: str) -> str:
        result = self._windows.decode(samples, language or None)
        return "" if is_no_speech(result) else self._tokenizer.decode(result.tokens).strip()
