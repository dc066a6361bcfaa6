"""What one client was shown: final words with the time at which they came, and the first sight of each place. Pure."""

from __future__ import annotations

import re


def plain_words(text: str) -> list[str]:
    """Words without case and punctuation, for comparing places of a text."""
    return re.findall(r"\w+", text.lower())


class Heard:
    """Follows the text of one stream from message to message; times are seconds since its sound began."""

    def __init__(self) -> None:
        self.words: list[str] = []
        """Final, in order."""
        self.final_at_s: list[float] = []
        """When each of them came."""
        self.seen_at_s: list[float] = []
        """When anything was first shown in a place of the text; at least as long as `words`."""
        self.n_rewritten = 0
        """Final words that were changed or taken back afterwards."""

    @property
    def text(self) -> str:
        """Everything final."""
        return " ".join(self.words)

    def see(self, final: str, tail: str, at_s: float) -> None:
        """
        A message came.

        Args:
            final: All the final text so far. A word that differs from what was final there is final anew, as is all
                that follows it; punctuation may change.
            tail: What else is shown.
            at_s: When.
        """
        new = final.split()
        kept = self._n_kept(new)
        if kept < len(self.words):
            self.n_rewritten += len(self.words) - kept
            del self.words[kept:], self.final_at_s[kept:], self.seen_at_s[kept:]
        self.final_at_s += [at_s] * (len(new) - kept)
        self.words += new[kept:]
        n_shown = len(new) + len(tail.split())
        self.seen_at_s += [at_s] * (n_shown - len(self.seen_at_s))

    def _n_kept(self, new: list[str]) -> int:
        for i, (old, word) in enumerate(zip(self.words, new, strict=False)):
            if plain_words(old) != plain_words(word):
                return i
        return min(len(self.words), len(new))
