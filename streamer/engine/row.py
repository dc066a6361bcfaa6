"""One request while its step runs: what it knows, what it has said, when it is done. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from streamer.engine.keyterms import TokenContext
from streamer.step import StepRequest
from streamer.text.repetition import RUN_AWAY_TOKENS, is_repetition_loop
from streamer.text.tokenizer import UNSPACED_LANGUAGES


@dataclass(slots=True)
class Row:
    """One request while its step runs."""

    request: StepRequest
    slot: int
    """Of the cache: the row's number in the step."""
    n_positions: int
    """Audio positions of the window's own sound, the margin not counted."""
    language: str
    context: tuple[int, ...]
    """Prompt, start sequence and prefix."""
    sot_at: int
    """Index of the start token in `context`."""
    n_cached: int
    """Leading tokens of `context` that stand in the cache already."""
    budget: int
    """Most tokens this step may say."""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    queries: list[Tensor] = field(default_factory=list)
    """Of the alignment heads, (n, n_heads, d_head) a pass: one for each token fed."""
    n_verified: int = 0
    ended: bool = False
    loops: bool = False
    """Whether it was stopped because it said the same again and again."""
    no_speech_prob: float = 0.0

    @property
    def done(self) -> bool:
        """Whether the row said `eot`, reached its bound, or goes in circles."""
        return self.ended or self.loops or len(self.tokens) >= self.budget

    @property
    def follows_words(self) -> bool:
        """Whether it goes on behind committed words that are divided by spaces."""
        return bool(self.request.prefix) and self.language not in UNSPACED_LANGUAGES

    @property
    def n_aligned(self) -> int:
        """Tokens that get a time: the anchor, what was said, and the end where it was reached."""
        anchor = min(self.request.anchor_tokens, len(self.request.prefix))
        return anchor + len(self.tokens) + (1 if self.ended else 0)

    def accept(self, draft: list[int], chosen: list[int], logprobs: list[float], eot: int) -> None:
        """Take over the draft as far as it was chosen, and the first choice after it."""
        n = next((n for n, token in enumerate(draft) if token == eot or chosen[n] != token), len(draft))
        # as if it had been said token by token: a circle ends where it would have ended then
        self.n_verified = next((k - 1 for k in range(RUN_AWAY_TOKENS, n + 1) if is_repetition_loop(draft[:k])), n)
        self.tokens = draft[: self.n_verified]
        self.logprobs = logprobs[: self.n_verified]
        self.append(chosen[self.n_verified], logprobs[self.n_verified], eot)

    def append(self, token: int, logprob: float, eot: int) -> None:
        """Add one token, or end."""
        if token == eot:
            self.ended = True
        else:
            self.tokens.append(token)
            self.logprobs.append(logprob)
            self.loops = is_repetition_loop(self.tokens)

    def token_context(self, new_tokens: Sequence[int]) -> TokenContext:
        """Where the token after these new ones is chosen."""
        return TokenContext(self.request.keyterms, (*self.request.prefix, *new_tokens), self.language)

    def add_queries(self, queries: Tensor, first: int, n: int) -> None:
        """Keep those of `n` tokens that a pass was fed, from its number `first` on."""
        self.queries.append(queries[first : first + n])
