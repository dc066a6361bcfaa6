"""
The rules of greedy decoding: which tokens may be said, how many, and which is likeliest.

Source: openai/whisper decoding.py (suppressed tokens, blank at the beginning, language detection).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from streamer.text.tokenizer import Tokenizer

MAX_TOKENS_PER_SECOND = 10.0
"""Fast speech has four to five tokens a second, dense scripts up to twice that."""
FREE_TOKENS = 12
"""Allowed on top, for very short windows."""
JOINING = "-'\u2019_&/"
"""Marks within words."""
PUNCTUATION_BYTES = (b"\xe2\x80", b"\xe3\x80", b"\xc2")
"""How the encoded marks begin that are no single token: dashes and quotes, CJK marks, Latin-1."""


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
        growing = never.clone()
        self._grows = [_grows_a_word(tokenizer, token) for token in range(tokenizer.eot)] + [False] * (
            n_vocab - tokenizer.eot
        )
        growing[[token for token, grows in enumerate(self._grows) if grows]] = -torch.inf
        self._bias = torch.stack([never, first, growing]).to(device)
        self._language_ids = torch.tensor([tokenizer.languages[code] for code in tokenizer.languages], device=device)
        self._language_codes = tuple(tokenizer.languages)

    def begins_word(self, token: int) -> bool:
        """Whether a token begins with a space."""
        return self._tokenizer.decode([token])[:1].isspace()

    def choose(self, logits: Tensor, first: list[int], no_eot_at: list[int], attached: list[int]) -> Choice:
        """
        Greedy choice under the filters.

        Args:
            logits: (n, n_vocab), float32; changed in place.
            first: Places where text begins: no blank and no immediate end there.
            no_eot_at: Places where text may not end.
            attached: Places that touch a word which is final: marks may follow there, but nothing that makes it
                another word.
        """
        logits += self._bias[0]
        if first:
            logits[first] += self._bias[1]
        if no_eot_at:
            logits[no_eot_at, self._tokenizer.eot] = -torch.inf
        best, tokens = logits.max(dim=-1)
        chosen: list[int] = tokens.tolist()
        growing = [place for place in attached if self._grows[chosen[place]]]
        if growing:
            logits[growing] += self._bias[2]
            best[growing], instead = logits[growing].max(dim=-1)
            for place, token in zip(growing, instead.tolist(), strict=True):
                chosen[place] = token
        # the sum is taken by hand: torch's logsumexp needs a millisecond a row for this many columns on a CPU
        logprobs = -(logits - best[:, None]).exp_().sum(dim=-1).log_()
        return Choice(chosen, logprobs.tolist())

    def no_speech(self, logits: Tensor) -> list[float]:
        """Probability of the no-speech token, from unfiltered logits at the start token, (n, n_vocab)."""
        probabilities: list[float] = logits.softmax(dim=-1)[:, self._tokenizer.no_speech].tolist()
        return probabilities

    def best_language(self, logits: Tensor) -> list[str]:
        """The likeliest language, from unfiltered logits at the start token, (n, n_vocab)."""
        return [self._language_codes[i] for i in logits[:, self._language_ids].argmax(dim=-1).tolist()]


def _grows_a_word(tokenizer: Tokenizer, token: int) -> bool:
    """Whether a token, put behind a word, makes it another one: letters, digits, a hyphen or an apostrophe."""
    data = tokenizer.decode_bytes([token])
    text = data.decode("utf-8", errors="replace")
    if not data or text[0].isspace():
        return False
    if text[0] == "\ufffd":  # part of a character: only those of marks are let through
        return not data.startswith(PUNCTUATION_BYTES)
    return text[0] in JOINING or any(character.isalnum() for character in text)
