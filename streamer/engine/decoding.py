"""
Rules of decoding: suppressed tokens, the likeliest tokens.

Source: openai/whisper decoding.py (suppressed tokens, blank at the beginning, language detection).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from streamer.errors import DeviceError
from streamer.text.tokenizer import Tokenizer

SMALL_LETTER = -4.0
"""Bias of small letters where a sentence begins, nats. A text that begins with one goes on without marks and capitals:
base writes "and so my fellow americans" where it would write "And so, my fellow Americans" otherwise."""
COMMA, EVEN_ODDS = 1.2, 0.5
"""Bias of commas where the voice rests, nats, unless a token has a probability of `EVEN_ODDS`. Near the newest sound
the network seldom writes a comma, and may take another word instead: "Americans asked not" for "Americans, ask not"."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Greedy choice at n positions."""

    tokens: list[int]
    """(n,)"""
    logprobs: list[float]
    """Natural logarithm of each token's probability under the filters, (n,)."""


@dataclass(frozen=True, slots=True)
class Restrictions:
    """Rows of a batch of logits that have rules beyond the filters of every row."""

    first: list[int] = field(default_factory=list)
    """The text begins here: no blank and no immediate end."""
    capital: list[int] = field(default_factory=list)
    """A sentence begins here: a capital is likelier than a small letter."""
    no_eot: list[int] = field(default_factory=list)
    """The text may not end here."""
    rests: list[int] = field(default_factory=list)
    """The voice rests here: a comma is likelier."""
    attached: list[int] = field(default_factory=list)
    """The token follows a committed word directly: punctuation is allowed, a longer word is not."""


CHANGES = 0.9
"""Probability of another language from which on detection leaves the language before."""


class Detected(NamedTuple):
    """The language that detection found."""

    language: str
    prob: float
    """Among the languages that it chose from; NaN where the network overflows."""


class DecodingRules:
    """
    Logit filters and greedy choice, on the device.

    Args:
        tokenizer: Of the model.
        n_vocab: Logits of one position; may exceed the tokenizer's ids.
        device: Of the logits.
    """

    def __init__(self, tokenizer: Tokenizer, n_vocab: int, device: torch.device) -> None:
        self._tokenizer = tokenizer

        def bias(tokens: Iterable[int], value: float = -torch.inf) -> Tensor:
            return torch.zeros(n_vocab).index_fill_(0, torch.tensor([*tokens], dtype=torch.int64), value).to(device)

        # each (n_vocab,); tokens from `eot` on are special: only `eot` itself is allowed, timestamps are not
        self._never = bias([*range(tokenizer.eot + 1, n_vocab), *tokenizer.non_speech_tokens])
        self._blank = bias(tokenizer.blank_tokens)
        self._growing = bias(tokenizer.growing_tokens)
        self._small = bias(tokenizer.small_letter_tokens, SMALL_LETTER)
        self._comma = bias(tokenizer.comma_tokens, COMMA)
        self._languages = dict(tokenizer.languages)

    def begins_word(self, token: int) -> bool:
        """Whether a token begins with a space."""
        return self._tokenizer.decode([token])[:1].isspace()

    def choose(self, logits: Tensor, restrictions: Restrictions) -> Choice:
        """
        Greedy choice under the filters.

        Args:
            logits: (n, n_vocab), float32; changed in place.
            restrictions: Rows with further rules.

        Raises:
            DeviceError: A logit is NaN, or every token of a position is shut out: half precision has overflowed, or
                the device is at fault.
        """
        self._restrict(logits, restrictions)
        chosen = logits.argmax(dim=-1)  # (n,)
        for rows, bias in ((restrictions.capital, self._small), (_undecided(logits, restrictions.rests), self._comma)):
            if rows:
                # the bias chooses the token; its probability stays that of the network, by which text is judged
                chosen[rows] = (logits[rows] + bias).argmax(dim=-1)
        attached = zip(restrictions.attached, chosen[restrictions.attached].tolist(), strict=True)
        if growing := [row for row, token in attached if token in self._tokenizer.growing_tokens]:
            logits[growing] += self._growing
            chosen[growing] = logits[growing].argmax(dim=-1)
        # torch.logsumexp takes three times as long for so many columns on a CPU
        logprobs = logits.log_softmax(dim=-1).gather(1, chosen[:, None])[:, 0]  # (n,)
        choice = Choice(chosen.tolist(), logprobs.tolist())
        if any(map(math.isnan, choice.logprobs)):
            raise DeviceError("a probability is not a number: the network overflows, or the device is at fault")
        return choice

    def likeliest(self, logits: Tensor, n: int, restrictions: Restrictions) -> list[list[tuple[int, float, float]]]:
        """
        The likeliest tokens at some positions under the filters, for texts that follow no committed words.

        Args:
            logits: (n_rows, n_vocab), float32; changed in place.
            n: Tokens of each row.
            restrictions: Rows with further rules.

        Returns:
            Of each row, the likeliest first: token, log probability, and what is added to it where texts are compared.

        Raises:
            DeviceError: As `choose`.
        """
        self._restrict(logits, restrictions)
        logprobs = logits.log_softmax(dim=-1)  # (n_rows, n_vocab)
        if bool(logprobs.isnan().any()):
            raise DeviceError("a probability is not a number: the network overflows, or the device is at fault")
        preferred = torch.zeros_like(logprobs)
        preferred[restrictions.capital] = self._small
        ids = (logprobs + preferred).topk(n, dim=-1).indices  # (n_rows, n)
        each = (ids.tolist(), logprobs.gather(1, ids).tolist(), preferred.gather(1, ids).tolist())
        return [list(zip(*row, strict=True)) for row in zip(*each, strict=True)]

    def _restrict(self, logits: Tensor, restrictions: Restrictions) -> None:
        """Apply the filters to logits (n, n_vocab) in place, but those of rows that touch a committed word."""
        logits += self._never
        if restrictions.first:
            logits[restrictions.first] += self._blank
        if restrictions.no_eot:
            logits[restrictions.no_eot, self._tokenizer.eot] = -torch.inf

    def no_speech(self, logits: Tensor) -> list[float]:
        """Probability of the no-speech token, from unfiltered logits (n, n_vocab) after the start token."""
        probabilities: list[float] = logits.softmax(dim=-1)[:, self._tokenizer.no_speech].tolist()
        # NaN is no evidence for silence; `choose` reports it where it reaches the text
        return [0.0 if math.isnan(probability) else probability for probability in probabilities]

    def detect(self, logits: Tensor, choices: Sequence[Sequence[str]], before: Sequence[str | None]) -> list[Detected]:
        """
        The language of each row.

        Args:
            logits: Unfiltered, after the start token, (n, n_vocab).
            choices: Codes that each row chooses from; no known code: all languages.
            before: Code that each row keeps unless another one has probability `CHANGES`; None: the likeliest is found.
        """
        return [self._detected(*each) for each in zip(logits, choices, before, strict=True)]

    def _detected(self, logits: Tensor, allowed: Sequence[str], before: str | None) -> Detected:
        """One of these languages, from logits (n_vocab,)."""
        codes = [code for code in self._languages if code in allowed] or list(self._languages)
        ids = torch.tensor([self._languages[code] for code in codes], device=logits.device)  # (n_codes,)
        probs = logits[ids].float().softmax(dim=-1)  # (n_codes,)
        prob, at = probs.max(dim=-1)  # each ()
        if before in codes and float(prob) < CHANGES:
            return Detected(before, float(probs[codes.index(before)]))
        return Detected(codes[int(at)], float(prob))


def _undecided(logits: Tensor, rows: list[int]) -> list[int]:
    """Those of some rows of the logits, (n, n_vocab), of which no token has even odds."""
    if not rows:
        return []
    greatest = logits[rows].softmax(dim=-1).amax(dim=-1)  # (n_rows,)
    return [row for row, prob in zip(rows, greatest.tolist(), strict=True) if prob < EVEN_ODDS]
