"""
Key terms: contextual biasing of the logits with a trie over tokens.

A term boosts its first token wherever a word may begin, and each next token once it has begun. Both depend only on the
text before a token, so a draft that is verified under the boost still is the greedy choice. Greedy decoding cannot take
back the beginning of a term, so beginnings get a smaller boost than continuations.

Source: on-the-fly phrase boosting of shallow fusion (Zhao et al. 2019, "Shallow-Fusion End-to-End Contextual
Biasing"), without the failure cost that only a beam could pay back.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from streamer.text.tokenizer import UNSPACED_LANGUAGES, Tokenizer

MIN_NODES, NODES_PER_ROW = 250_000, 31_250
"""Nodes of all tries that an engine keeps: at least so many, about 80 MB, and so many for each row of its steps, about
10 MB: the more rows a step has, the more sessions take turns. A full list of ordinary names makes 9,000 nodes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Strength:
    """Boost of a logit, in nats; docs/experiments.md gives the reasons for the values."""

    begin: float = 1.5
    go_on: float = 4.0


@dataclass(slots=True)
class _Node:
    """Trie node: the tokens that continue one beginning of a term."""

    children: dict[int, _Node] = field(default_factory=dict)

    def add(self, tokens: Sequence[int]) -> int:
        """Add a term, and return the number of new nodes."""
        node, n_new = self, 0
        for token in tokens:
            if token not in node.children:
                node.children[token] = _Node()
                n_new += 1
            node = node.children[token]
        return n_new


def most_nodes(max_batch: int) -> int:
    """Nodes of all tries that an engine keeps, by the most rows of its steps."""
    return max(MIN_NODES, NODES_PER_ROW * max_batch)


class TermTrie:
    """
    The terms of one session.

    Args:
        terms: As a user writes them; lower case and an initial capital are added.
        tokenizer: Of the model.
    """

    def __init__(self, terms: Sequence[str], tokenizer: Tokenizer) -> None:
        self._spaced, self._bare = _Node(), _Node()
        longest = 0
        self.n_nodes = 0
        """Nodes of the trie, about 330 bytes each."""
        for spelling in dict.fromkeys(variant for term in terms for variant in _variants(term)):
            for root, text in ((self._spaced, f" {spelling}"), (self._bare, spelling)):
                tokens = tokenizer.encode(text)
                longest = max(longest, len(tokens))
                self.n_nodes += root.add(tokens)
        self.reach = max(0, longest - 1)
        """Tokens before a position that can influence its boost."""

        self._begin = frozenset(self._spaced.children)
        self._begin_bare = self._begin | self._bare.children.keys()

    def beginning(self, *, bare: bool) -> frozenset[int]:
        """Tokens that begin a term; tokens without a leading space only if `bare`."""
        return self._begin_bare if bare else self._begin

    def continuing(self, before: Sequence[int]) -> list[int]:
        """Tokens that continue a term of which `before` ends with the beginning."""
        recent = before[-self.reach :] if self.reach else ()
        found: dict[int, None] = {}
        for start in range(len(recent)):
            for root in (self._spaced, self._bare):
                node = _walk(root, recent[start:])
                found.update(dict.fromkeys(node.children if node else ()))
        return list(found)


@dataclass(frozen=True, slots=True)
class TokenContext:
    """Where a token is chosen, as far as key terms depend on it."""

    terms: tuple[str, ...]
    before: Sequence[int]
    """Text tokens of the window before the token."""
    language: str


class KeyTermBias:
    """
    Boosts the key terms of all rows of a pass at once.

    Args:
        tokenizer: Of the model.
        device: Of the logits.
        strength: See `Strength`.
        max_nodes: Nodes of all kept tries together, where those of one pass do not need more.
    """

    def __init__(
        self, tokenizer: Tokenizer, device: torch.device, strength: Strength, max_nodes: int = MIN_NODES
    ) -> None:
        self._tokenizer, self._device, self._strength, self._max_nodes = tokenizer, device, strength, max_nodes
        self.n_nodes = 0
        """Nodes of all kept tries."""
        self._tries: OrderedDict[tuple[str, ...], TermTrie] = OrderedDict()
        self._tensors: dict[tuple[str, ...], dict[bool, Tensor]] = {}

    def boost(self, logits: Tensor, contexts: Sequence[TokenContext]) -> None:
        """
        Add the boosts in place.

        Args:
            logits: (n, n_vocab), n at least the number of contexts.
            contexts: Of the first rows of logits.
        """
        self._hold(dict.fromkeys(context.terms for context in contexts if context.terms))
        begins: dict[tuple[tuple[str, ...], bool], list[int]] = {}
        continues: list[tuple[int, int, float]] = []
        for row, context in enumerate(contexts):
            if context.terms:
                trie, bare = self._tries[context.terms], self._may_begin_bare(context)
                begins.setdefault((context.terms, bare), []).append(row)
                beginning = trie.beginning(bare=bare)
                for token in trie.continuing(context.before):
                    # a token that also begins a term already has that boost
                    boost = self._strength.go_on - (self._strength.begin if token in beginning else 0.0)
                    continues.append((row, token, boost))
        for (terms, bare), rows in begins.items():
            tokens = self._begin_tokens(terms, bare)
            logits[torch.tensor(rows, device=self._device)[:, None], tokens] += self._strength.begin
        if continues:
            rows_of, tokens_of, boosts = zip(*continues, strict=True)
            at = torch.tensor([rows_of, tokens_of], device=self._device)  # (2, n_boosts)
            added = torch.tensor(boosts, dtype=logits.dtype, device=self._device)  # (n_boosts,)
            logits.index_put_((at[0], at[1]), added, accumulate=True)

    def _begin_tokens(self, terms: tuple[str, ...], bare: bool) -> Tensor:
        """First tokens of the terms, (n,), on the device; made once per list of terms."""
        held = self._tensors.setdefault(terms, {})
        if bare not in held:
            tokens = sorted(self._tries[terms].beginning(bare=bare))
            held[bare] = torch.tensor(tokens, dtype=torch.int64, device=self._device)
        return held[bare]

    def _may_begin_bare(self, context: TokenContext) -> bool:
        """Whether a word may begin without a space: at the start of text, after a mark, in languages without spaces."""
        if not context.before or context.language in UNSPACED_LANGUAGES:
            return True
        return not self._tokenizer.decode(context.before[-1:])[-1:].isalnum()

    def _hold(self, lists: Collection[tuple[str, ...]]) -> None:
        """Build the tries of a pass that are missing; the passes after the first one of a step find all of theirs."""
        missing = [terms for terms in lists if terms not in self._tries]
        for terms in missing:
            self._tries[terms] = TermTrie(terms, self._tokenizer)
            self.n_nodes += self._tries[terms].n_nodes
        for terms in lists:
            self._tries.move_to_end(terms)
        if missing:
            self._evict(lists)

    def _evict(self, lists: Collection[tuple[str, ...]]) -> None:
        """Drop the tries used least recently until the bound holds; those of the pass, the newest, all stay."""
        while self.n_nodes > self._max_nodes and len(self._tries) > len(lists):
            terms, trie = self._tries.popitem(last=False)
            self.n_nodes -= trie.n_nodes
            self._tensors.pop(terms, None)


def _variants(term: str) -> list[str]:
    plain = " ".join(term.split())
    return [plain, plain.lower(), plain[:1].upper() + plain[1:]] if plain else []


def _walk(node: _Node | None, tokens: Sequence[int]) -> _Node | None:
    for token in tokens:
        if node is None:
            break  # most walks end at the first token: with long terms the work stays linear
        node = node.children.get(token)
    return node
