"""Token budget of a row: how many new tokens a step may produce, so that a run-away ends and no speech is cut. Pure."""

from __future__ import annotations

from streamer.text.languages import LANGUAGES

SPARSE, MODERATE, DENSE = 10.0, 25.0, 60.0
"""Tokens a second of the fastest speech, by how the vocabulary spells a language: a token for a syllable or a word, a
token for about each character, or up to three tokens for each character."""
FREE_TOKENS = 12
"""Tokens allowed on top, for very short windows."""
GROWTH = 1.5
"""Tokens allowed as a multiple of the draft: a window that has shown so many holds more under new audio."""
MIN_ROOM = 8
"""Tokens that a step can always produce: a prefix must leave this many free positions."""

# fmt: off
DENSE_LANGUAGES = frozenset({
    "am", "as", "bn", "bo", "gu", "ka", "km", "kn", "lo", "ml", "my", "pa", "si", "te",
})
"""Languages of 1.7 to 3 tokens a character."""
MODERATE_LANGUAGES = frozenset({
    "ar", "ba", "be", "bg", "el", "fa", "he", "hi", "hy", "ja", "kk", "ko", "mk", "mn", "mr", "ne", "ps", "sa",
    "sd", "sr", "ta", "tg", "th", "tt", "uk", "ur", "vi", "yi", "yue", "zh",
})
"""Languages of 0.4 to 1.3 tokens a character; fewer where a character says as much as a syllable."""
# fmt: on
RATES = {
    language: DENSE if language in DENSE_LANGUAGES else MODERATE if language in MODERATE_LANGUAGES else SPARSE
    for language in LANGUAGES
}
"""Tokens a second by language code."""


def token_budget(n_frames: int, language: str, n_prefix: int = 0, n_drafted: int = 0) -> int:
    """
    Most new tokens that a window can plausibly hold, at least `MIN_ROOM`.

    A draft longer than expected raises the budget, up to the rate of the densest script: a session that asks for the
    rest of a text that its budget cut gets more each time.

    Args:
        n_frames: Mel frames of 10 ms.
        language: Code of the row's language.
        n_prefix: Committed tokens of the window.
        n_drafted: Tokens that an earlier step found after the prefix.
    """
    window_s = n_frames / 100
    expected = FREE_TOKENS + int(RATES[language] * window_s) - n_prefix
    possible = FREE_TOKENS + int(DENSE * window_s) - n_prefix
    return max(MIN_ROOM, expected, min(wanted_tokens(n_drafted), possible) if n_drafted else 0)


def wanted_tokens(n_drafted: int) -> int:
    """Tokens that a window with a draft of this length may need."""
    return FREE_TOKENS + int(GROWTH * n_drafted)
