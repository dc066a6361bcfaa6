"""Stable text as an append-only stream, for dialects whose results can only be appended to."""

from __future__ import annotations

from streamer.text.joining import space_between


class AppendOnlyText:
    """Computes the text to append for successive captions and turns; turns are joined as their scripts are."""

    def __init__(self) -> None:
        self._sent = ""
        """Text of the open turn that was appended."""
        self._before = ""
        """Text of the last turn that had any."""

    def grow(self, stable: str) -> str:
        """Return what to append for the stable text of the open turn; empty unless it begins with the sent text."""
        if not stable.startswith(self._sent):
            return ""
        delta = stable[len(self._sent) :]
        if delta and not self._sent and self._before:
            delta = space_between(self._before, delta) + delta
        self._sent = stable
        return delta

    def end_turn(self, text: str) -> str:
        """Return the text to append for the final text of the turn, and begin the next turn."""
        delta = self.grow(text)
        self._before = self._sent or self._before
        self._sent = ""
        return delta
