"""
What a window is thought to say, word by word, and how much of it is certain. Pure.

Commit policy: a word is committed when `agreement` successive hypotheses say it in the same place (LocalAgreement-n,
Liu et al. 2020) and its end lies at least `hold_back_s` before the newest sound (the idea of AlignAtt, Papi et al.
2023: what the attention puts at the edge is not finished). A word that runs into a doubtful one waits a little longer:
both may be halves of a third. The end of a turn commits everything.
"""

from __future__ import annotations

import itertools
import math
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from streamer.circles import LONGEST_PIECE, loop_start
from streamer.options import Delay
from streamer.step import StepResult
from streamer.tokenizer import Tokenizer

UNLIKELY = -1.0
"""Mean logarithm of the probability of tokens below which they are doubted, as in the published implementation."""
NO_SPEECH = 0.6
"""Probability of no speech above which an unlikely text is none, as in the published implementation."""
DOUBTED_S, DOUBTED = 0.2, 0.7
"""A word that ends so near to the newest sound is shown from this confidence on: half of all words that were shown and
then rewritten are not, and the median word is seen 0.05 s later (docs/experiments.md)."""

RUNS_INTO_S, HALF, HALF_HOLD_BACK_S = 0.1, 0.5, 0.7
"""A word after which the next one comes so soon and with less confidence than this may be the first half of it ("die
Nussaurier" for "Dinosaurier"), and is held back so much longer (docs/experiments.md)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpokenWord:
    """One word of a hypothesis."""

    tokens: tuple[int, ...]
    text: str
    """With its leading space and its punctuation, as decoded."""
    start_s: float
    """Where the attention arrives at it, stream time."""
    end_s: float
    """Where the attention leaves it."""
    said_s: tuple[float, float]
    """When it is said, from and to, as told to clients."""
    confidence: float
    """Geometric mean of its tokens' probabilities."""

    @property
    def key(self) -> str:
        """What must be equal for two hypotheses to agree: letters and digits, case folded; empty for marks alone."""
        return "".join(c for c in self.text.casefold() if not _is_mark(c))


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


def spoken_words(
    result: StepResult,
    tokenizer: Tokenizer,
    window_start_s: float,
    trimmed: Callable[[float, float], tuple[float, float]],
    lag_s: float = 0.0,
) -> list[SpokenWord]:
    """
    The words of a step's result in stream time.

    Args:
        result: Its times are relative to the window.
        tokenizer: Groups tokens into words.
        window_start_s: Stream time of the window's first frame.
        trimmed: From the first to the last voice between two instants: attention gives words the silence around them.
        lag_s: How much later than a word begins the attention arrives at it.
    """

    def span(start_s: float, end_s: float) -> tuple[float, float]:
        from_s, to_s = trimmed(start_s, end_s)
        return from_s, max(from_s, to_s)

    words, at = [], 0
    for group in tokenizer.split_words(result.tokens, result.language):
        arrives_s, leaves_s = (window_start_s + result.starts_s[n] for n in (at, at + len(group)))
        start_s, end_s = span(arrives_s, leaves_s)
        logprobs = result.logprobs[at : at + len(group)]
        words.append(
            SpokenWord(
                tokens=tuple(group),
                text=tokenizer.decode(group),
                start_s=start_s,
                end_s=end_s,
                said_s=span(max(window_start_s, arrives_s - lag_s), leaves_s - lag_s),
                confidence=math.exp(sum(logprobs) / len(logprobs)),
            )
        )
        at += len(group)
    return words


def split_final_marks(word: SpokenWord, tokenizer: Tokenizer) -> list[SpokenWord]:
    """The word, and apart from it the punctuation at its end, which the words to come may still change."""
    n = len(word.tokens)
    while n and all(_is_mark(c) for c in tokenizer.decode(word.tokens[n - 1 : n]).strip()):
        n -= 1
    if n in (0, len(word.tokens)):
        return [word]
    stem, marks = word.tokens[:n], word.tokens[n:]
    return [
        replace(word, tokens=stem, text=tokenizer.decode(stem)),
        replace(word, tokens=marks, text=tokenizer.decode(marks), start_s=word.end_s, said_s=(word.said_s[1],) * 2),
    ]


def worth_showing(words: Sequence[SpokenWord], edge_s: float) -> list[SpokenWord]:
    """Words without those at the end that the next sound will probably change; `edge_s` as for `Agreement.certain`."""
    n = len(words)
    while n and words[n - 1].end_s > edge_s - DOUBTED_S and words[n - 1].confidence < DOUBTED:
        n -= 1
    return list(words[:n])


def leading(words: Sequence[SpokenWord], n_tokens: int) -> list[SpokenWord]:
    """The words that lie wholly within the first `n_tokens` tokens."""
    ends = itertools.accumulate(len(word.tokens) for word in words)
    return [word for word, end in zip(words, ends, strict=True) if end <= n_tokens]


def n_believed(result: StepResult, unended: int | None) -> tuple[int, bool]:
    """
    Leading tokens of a result that are taken for speech, and whether the rest goes in circles.

    Nothing, where it is no speech; nothing from the second round of a circle on; and of a text that was not allowed to
    end after `unended` tokens, not what was only said because of that.
    """
    n = len(result.tokens)
    if is_no_speech(result):
        return 0, False
    # a sentence may be said three times, but not until the decoder's bound
    loop = loop_start(result.tokens, LONGEST_PIECE if result.ended else n)
    if loop is not None:
        return loop, True
    if unended is not None and is_unlikely(result.logprobs[unended:]):
        return unended, False  # voice it may be, words it is none
    return n, False


def is_no_speech(result: StepResult) -> bool:
    """Whether the network hears no speech in the window and doubts what it said of it."""
    return result.no_speech_prob > NO_SPEECH and is_unlikely(result.logprobs)


def is_unlikely(logprobs: Sequence[float]) -> bool:
    """Whether tokens are doubted, by their mean."""
    return bool(logprobs) and sum(logprobs) / len(logprobs) < UNLIKELY


def _may_be_half(words: Sequence[SpokenWord], i: int) -> bool:
    """Whether a word and the next one may turn out to be one."""
    if i + 1 == len(words):
        return False
    word, following = words[i], words[i + 1]
    return following.confidence < HALF and following.start_s - word.end_s < RUNS_INTO_S


def _common_prefix(a: Sequence[str], b: Sequence[str]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _is_mark(character: str) -> bool:
    return not (character.isalnum() or unicodedata.category(character).startswith(("M", "S")))
