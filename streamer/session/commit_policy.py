"""
Commit policy: which leading words of a hypothesis are certain. Pure.

A word is committed when `agreement` successive hypotheses contain it in the same place (LocalAgreement-n, Liu et al.
2020) and its end lies at least `hold_back_s` before the newest audio (the idea of AlignAtt, Papi et al. 2023: a word at
the edge of the audio is not finished). A word directly followed by a doubtful one waits longer: both may be halves of a
third word. The end of a turn commits everything.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from streamer.protocol.options import Delay
from streamer.session.words import SpokenWord

RUNS_INTO_S, HALF, HALF_HOLD_BACK_S = 0.1, 0.5, 0.7
"""A word may be the first half of another one ("die Nussaurier" for "Dinosaurier") if the next word follows within
`RUNS_INTO_S` seconds with a confidence below `HALF`; it is held back `HALF_HOLD_BACK_S` seconds longer
(docs/experiments.md)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitPolicy:
    """Conditions under which a word is certain."""

    agreement: int
    """Successive hypotheses that must contain the word, at least 1."""
    hold_back_s: float
    """Distance of the word's end from the newest audio, at least, seconds."""
    is_patient: bool = False
    """Whether words have time: no step comes sooner for their sake."""


POLICIES: dict[Delay, CommitPolicy] = {
    "minimal": CommitPolicy(agreement=2, hold_back_s=0.2),
    "low": CommitPolicy(agreement=2, hold_back_s=0.5),
    "medium": CommitPolicy(agreement=3, hold_back_s=0.8, is_patient=True),
    "high": CommitPolicy(agreement=4, hold_back_s=1.2, is_patient=True),
}


class Agreement:
    """
    Compares each hypothesis after the committed prefix with the ones before it.

    Args:
        policy: See `CommitPolicy`.
    """

    def __init__(self, policy: CommitPolicy) -> None:
        self._policy = policy
        self._earlier: deque[list[str]] = deque(maxlen=policy.agreement - 1)
        """Keys of the spoken words of the hypotheses that the next one is compared with."""
        self._n_agreed = 0
        """Words of the newest hypothesis that the ones before contain too, and that are not committed."""

    def certain(self, words: Sequence[SpokenWord], edge_s: float) -> int:
        """Number of leading words that are certain now; `edge_s` is the end of the audio seen, stream time."""
        spoken = [i for i, word in enumerate(words) if word.key]  # marks alone agree with anything
        keys = [words[i].key for i in spoken]
        is_full = len(self._earlier) == self._earlier.maxlen
        agreed = min((_common_prefix(keys, earlier) for earlier in self._earlier), default=len(keys)) if is_full else 0
        self._earlier.append(keys)
        ends = [*spoken[1:], len(words)]  # of each spoken word with the marks behind it
        self._n_agreed = ends[agreed - 1] if agreed else 0
        return self.certain_at(words, edge_s)

    def certain_at(self, words: Sequence[SpokenWord], heard_s: float) -> int:
        """
        Number of leading words of the newest hypothesis that are certain once more silence was heard behind them.

        Args:
            words: Of the newest hypothesis, without those that were committed since.
            heard_s: End of the audio heard, stream time: all after the last word is silence.
        """
        n = min(self._n_agreed, len(words))
        return next((i for i in range(n) if words[i].end_s > heard_s - self._hold_back_s(words, i)), n)

    def _hold_back_s(self, words: Sequence[SpokenWord], i: int) -> float:
        return self._policy.hold_back_s + (HALF_HOLD_BACK_S if _may_be_half(words, i) else 0.0)

    def committed(self, words: Sequence[SpokenWord]) -> None:
        """Remove words that moved into the prefix: hypotheses begin after them from now on."""
        n = sum(1 for word in words if word.key)
        for keys in self._earlier:
            del keys[:n]
        self._n_agreed = max(0, self._n_agreed - len(words))

    def reset(self) -> None:
        """Forget the hypotheses: they do not apply to a new window."""
        self._earlier.clear()
        self._n_agreed = 0


def _may_be_half(words: Sequence[SpokenWord], i: int) -> bool:
    """Whether word `i` and the next one may be halves of one word."""
    if i + 1 == len(words):
        return False
    word, following = words[i], words[i + 1]
    return following.confidence < HALF and following.start_s - word.end_s < RUNS_INTO_S


def _common_prefix(a: Sequence[str], b: Sequence[str]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
