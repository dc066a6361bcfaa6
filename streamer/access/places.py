"""A bounded number of places, of which no caller can take all. Pure."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator

from streamer.errors import OverloadError


class Places:
    """
    Counts who holds places.

    Args:
        n_places: Of all callers together.
        kind: What holds a place, in the plural, for the refusal.
        retry_after_s: When a refused caller may try again, seconds.
    """

    def __init__(self, n_places: int, kind: str, retry_after_s: float = 5.0) -> None:
        self._n_places, self._kind, self._retry_after_s = n_places, kind, retry_after_s
        self._taken = Counter[str | None]()

    @property
    def n_taken(self) -> int:
        """Places that are held."""
        return self._taken.total()

    @contextlib.contextmanager
    def taken(self, caller: str | None) -> Iterator[None]:
        """
        Hold a place for the length of a block.

        Args:
            caller: Owner of the key, or the address; None: one who may have all.

        Raises:
            OverloadError: There are none left, or the caller has as many as are left.
        """
        n_free, n_own = self._n_places - self.n_taken, self._taken[caller]
        if n_free <= 0 or (caller is not None and n_own >= n_free):
            raise OverloadError(
                f"{self.n_taken} {self._kind}, {n_own} of them yours; try again later",
                retry_after_s=self._retry_after_s,
            )
        self._taken[caller] += 1
        try:
            yield
        finally:
            self._taken[caller] -= 1
            self._taken += Counter()  # forgets callers without any


def greediest(holders: Iterable[str], caller: str) -> str:
    """
    Return the caller with most places, if it would have no fewer than another caller after giving one to it.

    Empty: nobody has so many, or callers have no names.

    Args:
        holders: The caller of each place that is held.
        caller: The other one.
    """
    held = Counter(holders)
    name, n_held = max(held.items(), key=lambda item: item[1], default=("", 0))
    return name if n_held >= held[caller] + 2 else ""
