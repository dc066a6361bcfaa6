"""What is remembered of each caller, of a bounded number of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

MAX_REMEMBERED = 4096
"""Callers of whom something is kept; a forgotten caller begins anew."""

T = TypeVar("T")


class Remembered(Generic[T]):
    """
    One thing for each caller.

    Args:
        make: Makes that of a new caller.
        max_callers: Those that are kept; beyond that the one asked for longest ago is forgotten.
    """

    def __init__(self, make: Callable[[], T], max_callers: int = MAX_REMEMBERED) -> None:
        self._make, self._max_callers = make, max_callers
        self._kept: dict[str, T] = {}

    def of(self, caller: str) -> T:
        """Return what belongs to a caller."""
        one = self._kept.pop(caller) if caller in self._kept else self._make()
        self._kept[caller] = one
        if len(self._kept) > self._max_callers:
            del self._kept[next(iter(self._kept))]
        return one
