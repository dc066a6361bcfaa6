"""Punctuation of the world's scripts that turns, subtitles and segments agree on. Pure."""

from __future__ import annotations

SENTENCE_ENDS = (*".!?…؟", "。", "！", "？", "।", "۔")  # noqa: RUF001 - as written in the scripts of the world
"""Characters that end a sentence."""
