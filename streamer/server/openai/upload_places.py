"""Places for uploads: no caller gets more than are left free, so that nobody can take them all. Pure."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator

from streamer.errors import OverloadError


class UploadPlaces:
    """
    Counts the uploads that are read or surveyed.

    Args:
        n_places: Of all callers together.
    """

    def __init__(self, n_places: int) -> None:
        self._n_places = n_places
        self._taken = Counter[str]()

    @contextlib.contextmanager
    def taken(self, caller: str) -> Iterator[None]:
        """
        Hold a place for the length of a block.

        Args:
            caller: Owner of the key, or the address.

        Raises:
            OverloadError: There are none left, or the caller has as many as are left.
        """
        n_free = self._n_places - self._taken.total()
        if self._taken[caller] >= n_free:
            raise OverloadError(
                f"{self._taken.total()} uploads are being read, {self._taken[caller]} of them yours; try again later",
                retry_after_s=5.0,
            )
        self._taken[caller] += 1
        try:
            yield
        finally:
            self._taken[caller] -= 1
            self._taken += Counter()  # forgets callers without any
