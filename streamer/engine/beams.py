"""
Beam search over texts: which hypotheses go on, and which one is the best. Pure.

Source: openai/whisper decoding.py. A search ends when as many texts have ended as there are beams; the best text is the
one of the highest mean log probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streamer.text.repetition import is_repetition_loop


@dataclass(frozen=True, slots=True)
class Candidate:
    """A token that may follow a text."""

    token: int
    logprob: float
    """Natural logarithm of its probability."""
    preference: float = 0.0
    """Added to the logarithm where texts are compared, nats."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A text that may be what was said."""

    tokens: tuple[int, ...] = ()
    """The token that ends a text is not among them."""
    logprobs: tuple[float, ...] = ()
    """Of each token."""
    score: float = 0.0
    """Sum of the log probabilities, that of the end included, and of the preferences."""
    ended: bool = False
    """Whether the text has ended."""

    @property
    def mean_score(self) -> float:
        """Score for each token, the end included: longer texts are not worse for their length."""
        return self.score / max(1, len(self.tokens) + self.ended)

    def followed_by(self, candidate: Candidate, eot: int) -> Hypothesis:
        """This text and one more token; `eot` is the token that ends a text."""
        score = self.score + candidate.logprob + candidate.preference
        if candidate.token == eot:
            return Hypothesis(self.tokens, self.logprobs, score, ended=True)
        return Hypothesis((*self.tokens, candidate.token), (*self.logprobs, candidate.logprob), score)


class Beams:
    """
    The hypotheses of one search.

    Args:
        width: Hypotheses that go on side by side, and texts that end before the search does, at least 1.
        budget: Most tokens of a text.
        eot: The token that ends a text.
    """

    def __init__(self, width: int, budget: int, eot: int) -> None:
        self._width, self._budget, self._eot = width, budget, eot
        self._ended: list[Hypothesis] = []
        self.open = [Hypothesis()]
        """Texts that go on, all of one length, the likeliest first."""

    @property
    def is_done(self) -> bool:
        """Whether no text is to be extended any more."""
        return not self.open or len(self._ended) >= self._width or len(self.open[0].tokens) >= self._budget

    @property
    def best(self) -> Hypothesis:
        """The best text that has ended; if none has, the best of those that were cut."""
        return max(self._ended or self.open, key=lambda text: text.mean_score, default=Hypothesis())

    def extend(self, candidates: Sequence[Sequence[Candidate]]) -> list[int]:
        """
        Go on with the likeliest texts; a text in a repetition loop is dropped.

        Args:
            candidates: Of each open text, those that may follow it: one more than there are beams suffices.

        Returns:
            Of each text that is open now, the index among the ones before of the text that it continues.
        """
        longer = [
            (parent, text.followed_by(candidate, self._eot))
            for parent, text in enumerate(self.open)
            for candidate in candidates[parent]
        ]
        parents: list[int] = []
        self.open = []
        for parent, text in sorted(longer, key=lambda each: -each[1].score):
            if text.ended:
                self._ended.append(text)
            elif not is_repetition_loop(text.tokens):
                parents.append(parent)
                self.open.append(text)
            if len(self.open) == self._width:
                break
        return parents
