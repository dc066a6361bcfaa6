"""
An engine whose network has random weights: every product is computed, every limit holds, but what is said is made up.

For measuring speed where weights are not at hand. The made-up text grows with the sound at the rate of real speech,
its newest word is always misheard, and its times follow from the rate, so drafts are confirmed, rejected and committed
about as in real captions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from model import Whisper
from streamer.audio.mel import FRAME_S
from streamer.engine.engine import WhisperEngine
from streamer.engine.options import EngineOptions
from streamer.engine.row import Row
from streamer.step import StepRequest
from streamer.telemetry.metrics import EngineMetrics
from streamer.text.tokenizer import Tokenizer

TOKENS_PER_SECOND = 3.5
"""Of read English."""


@dataclass(slots=True)
class ScriptedRow(Row):
    """A row that says its script, whatever the network chose."""

    script: tuple[int, ...] = field(default=())

    def accept(self, draft: list[int], chosen: list[int], logprobs: list[float], eot: int) -> None:
        scripted = [self._scripted(place, eot) for place in range(len(chosen))]
        Row.accept(self, draft, scripted, logprobs, eot)

    def append(self, token: int, logprob: float, eot: int) -> None:
        Row.append(self, self._scripted(len(self.tokens), eot), logprob, eot)

    def _scripted(self, place: int, eot: int) -> int:
        return self.script[place] if place < len(self.script) else eot


class RandomEngine(WhisperEngine):
    """See the module; arguments as for `WhisperEngine`."""

    def __init__(self, model: Whisper, tokenizer: Tokenizer, options: EngineOptions, metrics: EngineMetrics) -> None:
        super().__init__(model, tokenizer, options, metrics)
        texts = ((token, tokenizer.decode([token])) for token in range(1000, 9000))
        self._words = [token for token, text in texts if text.startswith(" ") and text[1:].isalpha()]
        self._place_of = {token: place for place, token in enumerate(self._words)}

    def _row(self, request: StepRequest, slot: int, n_positions: int, language: str) -> Row:
        row = super()._row(request, slot, n_positions, language)
        fields = {name: getattr(row, name) for name in row.__dataclass_fields__}
        return ScriptedRow(**fields, script=self._script(request)[: row.budget - 1])

    def _script(self, request: StepRequest) -> tuple[int, ...]:
        said_s = request.anchor_s + request.anchor_tokens / TOKENS_PER_SECOND
        n = int((request.log_mel.shape[1] * FRAME_S - said_s) * TOKENS_PER_SECOND)
        if request.prefix:
            first = self._place_of.get(request.prefix[-1], 0) + 1
        else:
            first = self._place_of.get(request.draft[0], 0) if request.draft else 0
        places = [*range(first, first + n - 1), first + n - 1 + len(self._words) // 2] if n > 0 else []
        return tuple(self._words[place % len(self._words)] for place in places)

    def _times(self, row: Row, starts: list[int]) -> tuple[float, ...]:
        edge_s = row.request.log_mel.shape[1] * FRAME_S
        n = len(row.tokens)
        times: Sequence[float] = [max(0.0, edge_s - (n - place) / TOKENS_PER_SECOND) for place in range(n)]
        return (*times, edge_s)
