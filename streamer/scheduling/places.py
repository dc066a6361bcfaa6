"""The places of all processes of a daemon, as one of them takes its part; a daemon of one process has no such thing."""

from __future__ import annotations

from typing import Protocol


class Place(Protocol):
    """A place that a session takes."""

    def weigh(self, weight: float) -> None:
        """
        Tell what the session takes from now on.

        Args:
            weight: In places: 1 with a connection, less without one, 0 once it is over.
        """


class Places(Protocol):
    """All places."""

    async def take(
        self, session: str, token: str, caller: str, capacity: int, resumed: tuple[str, str] | None
    ) -> Place:
        """
        Take a place. Cancelling is safe: no place is taken then.

        Args:
            session: Name of the session that is to have it.
            token: Its secret, with which its client may go on in another process.
            caller: Name of the API key, or empty.
            capacity: Places of all processes together, as this one has measured them.
            resumed: Name and secret of a session that it goes on with, perhaps in another process: that one ends.

        Raises:
            OverloadError: There is none, or the caller has as many as it may have, or nobody can tell.
        """
        ...
