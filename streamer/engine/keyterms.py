"""
Key terms: names that decoding favours, as a trie over tokens and a boost of logits.

A term raises the token that begins it wherever a word may begin, and, once begun, the token that continues it. Both are
functions of the text before a place alone, so a draft verified under the boost is still exactly the greedy choice.
Greedy decoding cannot take a begun term back, so beginning is boosted less than going on.

Source: on-the-fly phrase boosting of shallow fusion (Zhao et al. 2019, "Shallow-Fusion End-to-End Contextual
Biasing"), without the failure cost that only a beam could pay back.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from streamer.text.tokenizer import UNSPACED_LANGUAGES, Tokenizer

MAX_TRIES = 256
"""Lists of terms kept as tries; the one used least recently goes first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Strength:
    """What is added to a logit, in nats; see docs/experiments.md for the choice."""

    begin: float = 1.5
    go_on: float = 4.0


@dataclass(slots=True)
class _Node:
    """The tokens that may follow one beginning of a term."""

    children: dict[int, _Node] = field(default_factory=dict)

    def add(self, tokens: Sequence[int]) -> None:
        node = self
        for token in tokens:
            node = node.children.setdefault(token, _Node())


class TermTrie:
    """
    The terms of one session.

    Args:
        terms: As a user writes them; also found in lower case and with a capital at the beginning.
        tokenizer: Of the model.
    """

    def __init__(self, terms: Sequence[str], tokenizer: Tokenizer) -> None:
        self._spaced, self._bare = _Node(), _Node()
        longest = 0
        for spelling in dict.fromkeys(variant for term in terms for variant in _variants(term)):
            for root, text in ((self._spaced, f" {spelling}"), (self._bare, spelling)):
                tokens = tokenizer.encode(text)
                longest = max(longest, len(tokens))
                root.add(tokens)
        self.reach = max(0, longest - 1)
        """Tokens before a place that matter there."""

        self._begin = frozenset(self._spaced.children)
        self._begin_bare = self._begin | self._bare.children.keys()

    def beginning(self, *, bare: bool) -> frozenset[int]:
        """Tokens that begin a term; those without a leading space only where `bare`."""
        return self._begin_bare if bare else self._begin

    def continuing(self, before: Sequence[int]) -> list[int]:
        """Tokens that go on with a term begun at the end of the tokens before."""
        recent = before[-self.reach :] if self.reach else ()
        found: dict[int, None] = {}
        for start in range(len(recent)):
            for root in (self._spaced, self._bare):
                node = _walk(root, recent[start:])
                found.update(dict.fromkeys(node.children if node else ()))
        return list(found)


@dataclass(frozen=True, slots=True)
class TokenContext:
    """Where a token is chosen: what is favoured there."""

    terms: tuple[str, ...]
    before: Sequence[int]
    """Text tokens of the window before it."""
    language: str


class KeyTermBias:
    """
    Boosts the key terms of all rows of a pass at once.

    Args:
        tokenizer: Of the model.
        device: Where the logits are.
        strength: See `Strength`.
    """

    def __init__(self, tokenizer: Tokenizer, device: torch.device, strength: Strength) -> None:
        self._tokenizer, self._device, self._strength = tokenizer, device, strength
        self._tries: OrderedDict[tuple[str, ...], TermTrie] = OrderedDict()
        self._tensors: dict[tuple[str, ...], dict[bool, Tensor]] = {}

    def boost(self, logits: Tensor, places: Sequence[TokenContext]) -> None:
        """Add to the logits, (n, n_vocab), in place; one row for each of the n places."""
        begins: dict[tuple[tuple[str, ...], bool], list[int]] = {}
        going_on: list[tuple[int, int, float]] = []
        for row, place in enumerate(places):
            if place.terms:
                trie, bare = self._trie(place.terms), self._may_begin_bare(place)
                begins.setdefault((place.terms, bare), []).append(row)
                begun = trie.beginning(bare=bare)
                for token in trie.continuing(place.before):
                    # a token that begins a term too was boosted for that already
                    boost = self._strength.go_on - (self._strength.begin if token in begun else 0.0)
                    going_on.append((row, token, boost))
        for (terms, bare), rows in begins.items():
            tokens = self._begin_tokens(terms, bare)
            logits[torch.tensor(rows, device=self._device)[:, None], tokens] += self._strength.begin
        if going_on:
            rows_of, tokens_of, boosts = zip(*going_on, strict=True)
            where = torch.tensor([rows_of, tokens_of], device=self._device)
            added = torch.tensor(boosts, dtype=logits.dtype, device=self._device)
            logits.index_put_((where[0], where[1]), added, accumulate=True)

    def _begin_tokens(self, terms: tuple[str, ...], bare: bool) -> Tensor:
        """On the device, made once for each list of terms."""
        held = self._tensors.setdefault(terms, {})
        if bare not in held:
            tokens = sorted(self._trie(terms).beginning(bare=bare))
            held[bare] = torch.tensor(tokens, dtype=torch.int64, device=self._device)
        return held[bare]

    def _may_begin_bare(self, place: TokenContext) -> bool:
        """Whether a word may begin without a space: at the beginning, after a mark, in languages without spaces."""
        if not place.before or place.language in UNSPACED_LANGUAGES:
            return True
        return not self._tokenizer.decode(place.before[-1:])[-1:].isalnum()

    def _trie(self, terms: tuple[str, ...]) -> TermTrie:
        if terms not in self._tries:
            self._tries[terms] = TermTrie(terms, self._tokenizer)
            if len(self._tries) > MAX_TRIES:
                forgotten, _ = self._tries.popitem(last=False)
                self._tensors.pop(forgotten, None)
        self._tries.move_to_end(terms)
        return self._tries[terms]


def _variants(term: str) -> list[str]:
    plain = " ".join(term.split())
    return [plain, plain.lower(), plain[:1].upper() + plain[1:]] if plain else []


def _walk(node: _Node | None, tokens: Sequence[int]) -> _Node | None:
    for token in tokens:
        node = node.children.get(token) if node else None
    return node
