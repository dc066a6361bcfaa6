"""
The rules of greedy decoding: which tokens may be said, how many, and which is likeliest.

Source: openai/whisper decoding.py (suppressed tokens, blank at the beginning, language detection).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from streamer.tokenizer import Tokenizer

MAX_TOKENS_PER_SECOND = 10.0
"""Fast speech has four to five tokens a second, dense scripts up to twice that."""
FREE_TOKENS = 12
"""Allowed on top, for very short windows."""


def token_budget(n_frames: int) -> int:
    """Most tokens that `n_frames` mel frames of 10 ms can plausibly hold; a run-away ends here."""
    return FREE_TOKENS + int(MAX_TOKENS_PER_SECOND * n_frames / 100)


@dataclass(frozen=True, slots=True)
class Choice:
    """The likeliest token at each of n places."""

    tokens: list[int]
    logprobs: list[float]


class DecodingRules:
    """
    Logit filters and greedy choice, on the device.

    Args:
        tokenizer: Of the model.
        n_vocab: Logits of one place; may exceed the tokenizer's ids.
        device: Where the logits are.
    """

    def __init__(self, tokenizer: Tokenizer, n_vocab: int, device: torch.device) -> None:
        self._tokenizer = tokenizer
        never = torch.zeros(n_vocab)
        # everything from `eot` on is special; of those only `eot` itself may be said, and no timestamps
        never[tokenizer.eot + 1 :] = -torch.inf
        never[list(tokenizer.non_speech_tokens)] = -torch.inf
        first = never.clone()
        first[list(tokenizer.blank_tokens)] = -torch.inf
        self._bias = torch.stack([never, first]).to(device)
        self._language_ids = torch.tensor([tokenizer.languages[code] for code in tokenizer.languages], device=device)
        self._language_codes = tuple(tokenizer.languages)

    def choose(self, logits: Tensor, first: list[int], unended: list[int]) -> Choice:
        """
        Greedy choice under the filters.

        Args:
            logits: (n, n_vocab), float32; changed in place.
            first: Places where text begins: no blank and no immediate end there.
            unended: Places where text may not end.
        """
        logits += self._bias[0]
        if first:
            logits[first] += self._bias[1]
        if unended:
            logits[unended, self._tokenizer.eot] = -torch.inf
        best, tokens = logits.max(dim=-1)
        # the sum is taken by hand: torch's logsumexp needs a millisecond a row for this many columns on a CPU
        logprobs = -(logits - best[:, None]).exp_().sum(dim=-1).log_()
        return Choice(tokens.tolist(), logprobs.tolist())

    def no_speech(self, logits: Tensor) -> list[float]:
        """Probability of the no-speech token, from unfiltered logits at the start token, (n, n_vocab)."""
        probabilities: list[float] = logits.softmax(dim=-1)[:, self._tokenizer.no_speech].tolist()
        return probabilities

    def best_language(self, logits: Tensor) -> list[str]:
        """The likeliest language, from unfiltered logits at the start token, (n, n_vocab)."""
        return [self._language_codes[i] for i in logits[:, self._language_ids].argmax(dim=-1).tolist()]
