"""State of one request while its step runs: context, draft, new tokens, when it is done. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from streamer.engine.beams import Hypothesis
from streamer.engine.keyterms import TokenContext
from streamer.step import StepRequest
from streamer.text.repetition import RUN_AWAY_TOKENS, is_repetition_loop
from streamer.text.tokenizer import UNSPACED_LANGUAGES


@dataclass(slots=True)
class Row:
    """State of one request while its step runs."""

    request: StepRequest
    slot: int
    """Slot of the KV cache."""
    n_positions: int
    """Audio positions of the window, margin not counted."""
    language: str
    context: tuple[int, ...]
    """Prompt, start sequence and prefix."""
    sot_at: int
    """Index of the start token in `context`."""
    n_cached: int
    """Leading tokens of `context` whose keys and values the slot already holds."""
    budget: int
    """Most tokens that this step may produce."""
    max_serial: int | None = None
    """Most of them behind the verified part of the draft; None: as many as the budget."""
    tokens: list[int] = field(default_factory=list)
    """New tokens, `eot` not included."""
    logprobs: list[float] = field(default_factory=list)
    """Of each new token."""
    queries: list[Tensor] = field(default_factory=list)
    """Queries of the alignment heads, one (n, n_alignment_heads, d_head) per pass, for every token that was run."""
    n_verified: int = 0
    """Leading draft tokens that greedy decoding confirmed."""
    ended: bool = False
    """Whether `eot` was chosen."""
    loops: bool = False
    """Whether decoding was stopped because of a repetition loop."""
    no_speech_prob: float = 0.0
    language_prob: float = 1.0
    """Probability of the language, where it was detected."""
    decoder_s: float = 0.0
    """Seconds of the decoder passes of this row so far."""

    @property
    def draft(self) -> tuple[int, ...]:
        """Draft tokens to verify: as many as the budget allows, less one for the token after them."""
        return self.request.draft[: self.budget - 1]

    @property
    def done(self) -> bool:
        """Whether the row chose `eot`, reached a bound, or is in a repetition loop."""
        return self.ended or self.loops or len(self.tokens) >= self._most_tokens

    @property
    def _most_tokens(self) -> int:
        """The budget, or less where that would be too many tokens behind the verified part of the draft."""
        return self.budget if self.max_serial is None else min(self.budget, self.n_verified + self.max_serial)

    @property
    def n_new(self) -> int:
        """Newly decided tokens: those that the draft, the text of the step before, does not have at the same place."""
        said = self.request.draft
        return sum(i >= len(said) or token != said[i] for i, token in enumerate(self.tokens))

    @property
    def follows_words(self) -> bool:
        """Whether the new tokens follow committed words of a language with spaces."""
        return bool(self.request.prefix) and self.language not in UNSPACED_LANGUAGES

    @property
    def n_aligned(self) -> int:
        """Tokens that are aligned: the anchor, the new tokens, and `eot` if it was chosen."""
        anchor = min(self.request.anchor_tokens, len(self.request.prefix))
        return anchor + len(self.tokens) + (1 if self.ended else 0)

    def accept_draft(self, chosen: list[int], logprobs: list[float], eot: int) -> None:
        """
        Take over the draft as far as greedy decoding chose it, and the first choice after that part.

        Args:
            chosen: Greedy choice at each draft token and after the last one, one more than the draft has.
            logprobs: Of each choice.
            eot: The token that ends a text.
        """
        draft = self.draft
        n = next((n for n, token in enumerate(draft) if token == eot or chosen[n] != token), len(draft))
        # a loop ends where serial decoding would have ended it
        self.n_verified = next((k - 1 for k in range(RUN_AWAY_TOKENS, n + 1) if is_repetition_loop(draft[:k])), n)
        self.tokens = [*draft[: self.n_verified]]
        self.logprobs = logprobs[: self.n_verified]
        self.append(chosen[self.n_verified], logprobs[self.n_verified], eot)

    def append(self, token: int, logprob: float, eot: int) -> None:
        """
        Add one chosen token, or end the row.

        Args:
            token: Greedy choice.
            logprob: Of the token.
            eot: The token that ends a text.
        """
        if token == eot:
            self.ended = True
        else:
            self.tokens.append(token)
            self.logprobs.append(logprob)
            self.loops = is_repetition_loop(self.tokens)

    def take(self, text: Hypothesis) -> None:
        """Take over a whole text instead of the present one; its queries are to be added."""
        self.tokens, self.logprobs, self.ended = list(text.tokens), list(text.logprobs), text.ended
        self.loops, self.n_verified, self.queries = False, 0, []

    def token_context(self, new_tokens: Sequence[int]) -> TokenContext:
        """Key-term context of the token after these new tokens of the step."""
        return TokenContext(self.request.keyterms, (*self.request.prefix, *new_tokens), self.language)

    def add_queries(self, queries: Tensor, first: int, n: int) -> None:
        """
        Keep the queries of this row's tokens of a pass.

        Args:
            queries: Of all rows of the pass, (n_tokens, n_alignment_heads, d_head).
            first: Index of the row's first token in the pass.
            n: Tokens to keep.
        """
        self.queries.append(queries[first : first + n])
