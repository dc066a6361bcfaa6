"""Stable text as an append-only stream, for dialects whose partial results can only be added to. Pure."""

from __future__ import annotations


class AppendOnlyText:
    """What the stable text of successive turns has grown by; the turns are joined by a space."""

    def __init__(self) -> None:
        self._sent = ""
        """Of the open turn."""
        self._has_earlier = False
        """Whether an earlier turn had text."""

    def grow(self, stable: str) -> str:
        """What to append for the stable text of the open turn; nothing where it does not continue what was sent."""
        if not stable.startswith(self._sent):
            return ""
        delta = stable[len(self._sent) :]
        if delta and not self._sent and self._has_earlier:
            delta = f" {delta}"
        self._sent = stable
        return delta

    def end_turn(self, text: str) -> str:
        """What to append for the final text of the turn; the next one begins."""
        delta = self.grow(text)
        self._has_earlier = self._has_earlier or bool(self._sent)
        self._sent = ""
        return delta
