"""
An engine with random weights: every product is computed and every limit holds, but the text is scripted.

For measurements of speed without weights. The scripted text grows with the audio at the rate of real speech, its newest
word is always wrong, and its times follow from the rate, so that drafts are confirmed, rejected and committed about as
in real captions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from model import Whisper
from streamer.audio.mel import FRAME_S
from streamer.engine.decoding import Detected
from streamer.engine.engine import WhisperEngine
from streamer.engine.options import EngineOptions
from streamer.engine.row import Row
from streamer.step import StepRequest
from streamer.telemetry.metrics import StepObserver
from streamer.text.tokenizer import Tokenizer

TOKENS_PER_SECOND = 3.5
"""Of read English."""


@dataclass(slots=True)
class ScriptedRow(Row):
    """A row that follows its script instead of the network's choices."""

    script: tuple[int, ...] = field(default=())
    """New tokens of the row; `eot` follows."""

    def accept_draft(self, chosen: list[int], logprobs: list[float], eot: int) -> None:
        """
        `Row.accept_draft` with scripted choices.

        Args:
            chosen: Their number counts, not the tokens.
            logprobs: Of each choice.
            eot: The token that ends a text.
        """
        Row.accept_draft(self, [self._scripted(n, eot) for n in range(len(chosen))], logprobs, eot)

    def append(self, token: int, logprob: float, eot: int) -> None:
        """
        `Row.append` of the next scripted token.

        Args:
            token: Ignored.
            logprob: Of the network's choice.
            eot: The token that ends a text.
        """
        Row.append(self, self._scripted(len(self.tokens), eot), logprob, eot)

    def _scripted(self, n: int, eot: int) -> int:
        return self.script[n] if n < len(self.script) else eot


class RandomEngine(WhisperEngine):
    """
    An engine whose rows follow a script.

    Args:
        model: With random weights, on its device.
        tokenizer: Of a model of the same size.
        options: See `EngineOptions`.
        metrics: Observes latencies and batch sizes.
    """

    def __init__(self, model: Whisper, tokenizer: Tokenizer, options: EngineOptions, metrics: StepObserver) -> None:
        super().__init__(model, tokenizer, options, metrics)
        texts = ((token, tokenizer.decode([token])) for token in range(1000, 9000))
        self._words = [token for token, text in texts if text.startswith(" ") and text[1:].isalpha()]
        self._index_of = {token: index for index, token in enumerate(self._words)}

    def _row(self, request: StepRequest, slot: int, n_positions: int, detected: Detected) -> Row:
        row = super()._row(request, slot, n_positions, detected)
        fields = {name: getattr(row, name) for name in row.__dataclass_fields__}
        return ScriptedRow(**fields, script=self._script(request)[: row.budget - 1])

    def _script(self, request: StepRequest) -> tuple[int, ...]:
        """Words from the prefix's last one on, as many as the rest of the window holds; the newest one is wrong."""
        prefix_end_s = request.anchor_s + request.anchor_tokens / TOKENS_PER_SECOND
        n = int((request.log_mel.shape[1] * FRAME_S - prefix_end_s) * TOKENS_PER_SECOND)
        if request.prefix:
            first = self._index_of.get(request.prefix[-1], 0) + 1
        else:
            first = self._index_of.get(request.draft[0], 0) if request.draft else 0
        indices = [*range(first, first + n - 1), first + n - 1 + len(self._words) // 2] if n > 0 else []
        return tuple(self._words[index % len(self._words)] for index in indices)

    def _times(self, row: Row, starts: list[int]) -> tuple[float, ...]:
        edge_s = row.request.log_mel.shape[1] * FRAME_S
        n = len(row.tokens)
        times: Sequence[float] = [max(0.0, edge_s - (n - i) / TOKENS_PER_SECOND) for i in range(n)]
        return (*times, edge_s)
