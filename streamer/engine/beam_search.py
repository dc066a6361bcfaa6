"""
Decodes one window by beam search: several hypotheses go on side by side, and the likeliest whole text is taken.

Greedy decoding cannot take back a word that was likely until the next one was heard; a beam can. It costs a serial pass
of several rows for each token, so it is for second passes, not for live steps, and for doubtful texts alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from model import DecoderOutput, KVCache, Whisper
from streamer.engine.beams import Beams, Candidate, Hypothesis
from streamer.engine.decoding import DecodingRules, Restrictions
from streamer.engine.keyterms import KeyTermBias
from streamer.engine.row import Row

DOUBTFUL = -0.2
"""Mean log probability of a greedy text below which a search is worth its time: more than half of the text lies above,
and searching that too mends next to nothing (docs/experiments.md)."""


def is_doubtful(logprobs: Sequence[float]) -> bool:
    """Whether the tokens of a greedy text are unlikely enough to search for a better one; False for none."""
    return bool(logprobs) and sum(logprobs) / len(logprobs) < DOUBTFUL


class BeamSearch:
    """
    Finds the text of one row.

    Args:
        run: Appends tokens to slots and runs them in one decoder pass.
        model: In inference mode.
        cache: Has a slot for each beam; the first one holds the window.
        rules: Logit filters.
        keyterms: Boost of key terms.
        width: Beams.
        eot: The token that ends a text.
    """

    def __init__(
        self,
        run: Callable[[Sequence[int], Sequence[Sequence[int]]], DecoderOutput],
        model: Whisper,
        cache: KVCache,
        rules: DecodingRules,
        keyterms: KeyTermBias,
        *,
        width: int,
        eot: int,
    ) -> None:
        self._run = run
        self._model, self._cache, self._rules, self._keyterms = model, cache, rules, keyterms
        self._width, self._eot = width, eot

    def best(self, row: Row) -> Hypothesis:
        """
        The likeliest text of a row, whose window is in the first slot; sets its probability of no speech.

        Raises:
            DeviceError: A logit is NaN: half precision has overflowed, or the device is at fault.
        """
        beams = Beams(self._width, row.budget, self._eot)
        for slot in range(self._width):
            self._cache.set_length(slot, 0)
            if slot:
                self._cache.copy_audio(0, slot)
        hidden = self._run([0], [row.context]).hidden  # (n_context, n_text_state)
        start = self._model.decoder.screen(hidden[row.sot_at][None])  # (1, n_vocab)
        row.no_speech_prob = self._rules.no_speech(start)[0]
        capital = [0] if row.request.begins_sentence else []
        self._extend(beams, hidden[-1:], row, Restrictions(first=[0], capital=capital))
        while not beams.is_done:
            slots = range(len(beams.open))
            hidden = self._run(slots, [text.tokens[-1:] for text in beams.open]).hidden  # (n_open, n_text_state)
            self._extend(beams, hidden, row, Restrictions())
        return beams.best

    def _extend(self, beams: Beams, hidden: Tensor, row: Row, restrictions: Restrictions) -> None:
        """Extend the open texts, whose hidden states are (n_open, n_text_state), and let the slots follow them."""
        logits = self._model.decoder.screen(hidden)  # (n_open, n_vocab)
        self._keyterms.boost(logits, [row.token_context(text.tokens) for text in beams.open])
        likeliest = self._rules.likeliest(logits, self._width + 1, restrictions)
        self._follow(beams.extend([[Candidate(*each) for each in of_text] for of_text in likeliest]))

    def _follow(self, parents: Sequence[int]) -> None:
        """Let each slot hold the tokens of the text that its own one continues."""
        moved = [(slot, parent) for slot, parent in enumerate(parents) if slot != parent]
        held = [self._cache.text_of(parent, self._cache.length(parent), self._cache.dtype) for _, parent in moved]
        for (slot, _), keys_values in zip(moved, held, strict=True):
            self._cache.set_text(slot, keys_values)
