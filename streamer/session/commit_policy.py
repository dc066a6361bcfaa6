"""Commit policy: which leading words of a hypothesis are certain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streamer.protocol.options import Delay
from streamer.session.words import SpokenWord

RUNS_INTO_S, HALF, HALF_HOLD_BACK_S = 0.1, 0.5, 0.7
"""A word after which the next one comes so soon and with less confidence than this may be the first half of it ("die
Nussaurier" for "Dinosaurier"), and is held back so much longer (docs/experiments.md)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitPolicy:
    """When a word is certain."""

    agreement: int
    """Successive hypotheses that must say it, at least 1."""
    hold_back_s: float
    """Distance its end must keep from the newest sound."""


POLICIES: dict[Delay, CommitPolicy] = {
    "minimal": CommitPolicy(agreement=2, hold_back_s=0.2),
    "low": CommitPolicy(agreement=2, hold_back_s=0.5),
    "medium": CommitPolicy(agreement=3, hold_back_s=0.8),
    "high": CommitPolicy(agreement=4, hold_back_s=1.2),
}


class Agreement:
    """
    Remembers the last hypotheses after the committed prefix and says how many words of a new one are certain.

    Args:
        policy: See `CommitPolicy`.
    """

    def __init__(self, policy: CommitPolicy) -> None:
        self._policy = policy
        self._earlier: list[list[str]] = []

    def certain(self, words: Sequence[SpokenWord], edge_s: float) -> int:
        """Leading words of `words` that are certain now; `edge_s` is the newest sound heard, stream time."""
        spoken = [i for i, word in enumerate(words) if word.key]  # marks alone agree with anything
        keys = [words[i].key for i in spoken]
        needed = self._policy.agreement - 1
        agreed = len(keys) if len(self._earlier) >= needed else 0
        for earlier in self._earlier[-needed:] if needed else ():
            agreed = min(agreed, _common_prefix(keys, earlier))
        self._earlier = [*self._earlier, keys][-max(1, needed) :]
        if not agreed:
            return 0
        n = len(words) if agreed == len(keys) else spoken[agreed]
        return next((i for i in range(n) if words[i].end_s > edge_s - self._hold_back_s(words, i)), n)

    def _hold_back_s(self, words: Sequence[SpokenWord], i: int) -> float:
        return self._policy.hold_back_s + (HALF_HOLD_BACK_S if _may_be_half(words, i) else 0.0)

    def committed(self, words: Sequence[SpokenWord]) -> None:
        """These leading words moved into the prefix: hypotheses start after them from now on."""
        n = sum(1 for word in words if word.key)
        self._earlier = [keys[n:] for keys in self._earlier]

    def reset(self) -> None:
        """Forget the hypotheses: a new window has nothing to do with them."""
        self._earlier = []


def _may_be_half(words: Sequence[SpokenWord], i: int) -> bool:
    """Whether a word and the next one may turn out to be one."""
    if i + 1 == len(words):
        return False
    word, following = words[i], words[i + 1]
    return following.confidence < HALF and following.start_s - word.end_s < RUNS_INTO_S


def _common_prefix(a: Sequence[str], b: Sequence[str]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
