"""The places of all gateways: who has how many. Pure."""

from __future__ import annotations

import hmac
from collections.abc import Hashable
from dataclasses import dataclass, replace

from streamer.access import places


@dataclass(frozen=True, slots=True)
class Held:
    """A place that a session has."""

    gateway: Hashable
    session: str
    token: str
    """Secret of the session; empty: nobody has it."""
    caller: str
    weight: float
    """Places that it takes: less than 1 while no connection is attached."""
    resumed: tuple[str, str] | None = None
    """Name and secret of the session that it goes on with; its client may not know yet of any other."""

    def is_of(self, session: str, token: str) -> bool:
        """
        Whether a client that shows a name and a secret may have it: its own, or those of `resumed`.

        Args:
            session: Name.
            token: Secret.
        """
        known = filter(None, ((self.session, self.token), self.resumed))
        return any(name == session and secret and _is_same(secret, token) for name, secret in known)


@dataclass(frozen=True, slots=True)
class NoPlace:
    """Why there is no place."""

    message: str
    of_caller: str
    """Whose sessions have taken it: those of a caller, or of anybody if empty."""


class PlaceTable:
    """
    All places that are taken.

    Args:
        max_per_caller: Sessions of one API key at once; 0: only the bound of all sessions applies.
    """

    def __init__(self, max_per_caller: int) -> None:
        self._max_per_caller = max_per_caller
        self._held: dict[tuple[Hashable, int], Held] = {}

    def __len__(self) -> int:
        return len(self._held)

    @property
    def taken(self) -> float:
        """Places that are taken."""
        return sum(held.weight for held in self._held.values())

    def refusal(self, caller: str, capacity: int) -> NoPlace | None:
        """
        Why a session cannot have a place; None: it can.

        Args:
            caller: Name of its API key, or empty.
            capacity: Places that there are.
        """
        n_own = sum(held.caller == caller for held in self._held.values())
        if caller and 0 < self._max_per_caller <= n_own:
            message = f"no free place for this API key: {n_own} sessions open, as many as it may have"
            return NoPlace(message, caller)
        if self.taken > capacity - 1:
            return NoPlace(f"no free place: {len(self)} of {capacity} sessions open; try again later", "")
        return None

    def greediest(self, caller: str) -> str:
        """Name of whoever has more places than a caller; empty: nobody, see `access.places.greediest`."""
        return places.greediest((held.caller for held in self._held.values()), caller)

    def add(
        self,
        gateway: Hashable,
        place: int,
        session: str,
        token: str,
        caller: str,
        resumed: tuple[str, str] | None = None,
    ) -> None:
        """
        Give a place to a session.

        Args:
            gateway: Where it is.
            place: Name of the place there.
            session: Name of the session.
            token: Its secret.
            caller: Name of its API key, or empty.
            resumed: Name and secret of the session that it goes on with.
        """
        self._held[gateway, place] = Held(gateway, session, token, caller, 1.0, resumed)

    def weigh(self, gateway: Hashable, place: int, weight: float) -> None:
        """
        Note what a session takes from now on; a place that is not known is ignored.

        Args:
            gateway: As in `add`.
            place: As in `add`.
            weight: In places; 0: the session is over.
        """
        held = self._held.pop((gateway, place), None)
        if held and weight > 0:
            self._held[gateway, place] = replace(held, weight=weight)

    def give_up(self, session: str, token: str) -> Held | None:
        """
        Take back the place of a session whose client goes on elsewhere.

        Args:
            session: Its name, or that of the session that it goes on with.
            token: The secret of that one.

        Returns:
            What it was; None: there is no such session, or the secret is wrong.
        """
        for key, held in self._held.items():
            if held.is_of(session, token):
                return self._held.pop(key)
        return None

    def drop(self, gateway: Hashable) -> None:
        """Take back all places of a gateway that is gone."""
        self._held = {key: held for key, held in self._held.items() if held.gateway != gateway}


def _is_same(secret: str, shown: str) -> bool:
    # as bytes: text that is not ASCII cannot be compared in constant time
    return hmac.compare_digest(*(text.encode(errors="surrogatepass") for text in (secret, shown)))
