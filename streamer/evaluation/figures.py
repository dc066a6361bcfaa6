"""
The figures of an evaluation: what `streamer eval --json` writes, and what its table and its plot are made of. Pure.

The names of the fields are the keys of the JSON: they are part of the interface of the command. A field that is `UNSET`
was not asked for and has no key; a field that is None was asked for and could not be measured. Rates are errors per
word of the reference, 0.05 for 5 %; intervals are the lower and the upper end of their 95 % confidence interval.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from streamer.evaluation.percentiles import Percentiles
from streamer.evaluation.scoring import Difference
from streamer.protocol.options import Delay

Interval = tuple[float, float]


class OneShotRates(msgspec.Struct, frozen=True, kw_only=True):
    """Errors of recordings that were decoded at once, and how many more the live path makes of the same recordings."""

    wer: float | None
    wer_interval: Interval | None
    difference: float | None
    """Rate of the live path minus the rate of decoding at once."""
    difference_interval: Interval | None
    errors_only_live: int
    errors_only_one_shot: int
    formatted_wer: float | None
    formatted_difference: float | None
    formatted_difference_interval: Interval | None


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """Errors of a group of recordings, pooled: each word of the references counts the same."""

    recordings: int
    """With the recordings without speech, which are in no rate."""
    wer: float | None
    """None without any word of a reference."""
    wer_interval: Interval | None
    """None of fewer than two recordings."""
    words: int
    errors: int
    formatted_wer: float | None
    """With case and punctuation counted, over the recordings whose references have both; None without any of them."""
    formatted_wer_interval: Interval | None
    formatted_words: int
    """Words and marks of those references."""
    one_shot: OneShotRates | UnsetType = UNSET
    revised_wer: float | UnsetType | None = UNSET
    """Of the text after the second pass."""
    revised_wer_interval: Interval | UnsetType | None = UNSET
    revised_difference: float | UnsetType | None = UNSET
    """`revised_wer` minus the rate of decoding at once."""
    revised_difference_interval: Interval | UnsetType | None = UNSET


class KindFigures(Rates, frozen=True, kw_only=True):
    """The rates of the recordings of one kind and language."""

    kind: str
    language: str


class TagFigures(Rates, frozen=True, kw_only=True):
    """The rates of the recordings that have one tag; a recording with several tags counts for each."""

    tag: str


class OneShotText(msgspec.Struct, frozen=True, kw_only=True):
    """One recording decoded at once."""

    errors: int
    text: str | None


class HeardWord(msgspec.Struct, frozen=True, kw_only=True):
    """A final word of the live path; times in seconds of the recording as played, silence before it included."""

    text: str
    start_s: float
    end_s: float
    confidence: float


class HeardTurn(msgspec.Struct, frozen=True, kw_only=True):
    """A turn of the live path."""

    start_s: float
    end_s: float
    reason: str
    """Why it ended."""
    language: str
    words: tuple[HeardWord, ...]


class FileFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One recording."""

    id: str
    kind: str
    language: str
    wer: float | None
    errors: int
    words: int
    reference: str
    """The text of the manifest, not normalised."""
    text: str
    """The final text of the live path, not normalised."""
    turns: tuple[HeardTurn, ...]
    differences: tuple[Difference, ...]
    formatted_wer: float | None
    """None where the reference has no case or no punctuation."""
    formatted_differences: tuple[Difference, ...]
    one_shot: OneShotText | UnsetType = UNSET
    revised_errors: int | UnsetType = UNSET
    revised_text: str | UnsetType = UNSET
    """The final text after the second pass, not normalised."""


class DelayFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The same recordings under one `delay` setting."""

    wer: float | None
    wer_interval: Interval | None
    commit_latency_s: Percentiles | None
    first_partial_latency_s: Percentiles | None
    partial_churn: float | None


class Figures(Rates, frozen=True, kw_only=True):
    """Everything measured in one evaluation; the inherited rates are those of all recordings."""

    model: str
    files: tuple[FileFigures, ...]
    kinds: tuple[KindFigures, ...]
    tags: tuple[TagFigures, ...]
    """In alphabetical order; empty where no recording has a tag."""
    commit_latency_s: Percentiles | None
    """From the end of a word to the event that makes it stable."""
    first_partial_latency_s: Percentiles | None
    """From the end of a word to the first event that shows it."""
    partial_churn: float | None
    """Partial words that were replaced or withdrawn, per committed word."""
    rtf: float
    """Seconds of the evaluation per second of audio (real-time factor)."""
    decoder_token_ms: Percentiles | None
    hallucinated_words_nonspeech: int
    """Words of the live path in recordings without speech."""
    revision_s_per_audio_s: float | UnsetType | None = UNSET
    """CPU seconds of second passes per second of the recordings."""
    word_start_error_s: Percentiles | UnsetType = UNSET
    """Absolute errors of the starts of words."""
    utterance_start_error_s: Percentiles | UnsetType = UNSET
    utterance_end_error_s: Percentiles | UnsetType = UNSET
    delays: dict[Delay, DelayFigures] | UnsetType = UNSET

    def of_delay(self) -> DelayFigures:
        """The part of these figures that settings of `delay` are compared by."""
        return DelayFigures(
            wer=self.wer,
            wer_interval=self.wer_interval,
            commit_latency_s=self.commit_latency_s,
            first_partial_latency_s=self.first_partial_latency_s,
            partial_churn=self.partial_churn,
        )


def to_json(figures: msgspec.Struct) -> str:
    """Figures as indented JSON with a newline at the end."""
    return msgspec.json.format(msgspec.json.encode(figures), indent=1).decode() + "\n"
