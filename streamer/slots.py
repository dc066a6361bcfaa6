"""Which session sits in which cache slot, and which tokens it still holds. Soft state: losing it costs a prefill."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence


class SlotTable:
    """
    Slots 0 to n_slots - 1, given to sessions.

    Args:
        n_slots: As the cache has.
    """

    def __init__(self, n_slots: int) -> None:
        self.n_slots = n_slots
        self._slot_of: OrderedDict[str, int] = OrderedDict()  # least recently used first
        self._tokens: list[tuple[int, ...]] = [()] * n_slots

    def assign(self, sessions: Sequence[str], *, sticky: bool) -> list[int]:
        """
        A slot for each session.

        Args:
            sessions: Distinct, at most n_slots.
            sticky: Give a remembered session its old slot, taking others from whoever was used least recently.
                Otherwise the slots are 0, 1, 2, …, which lets the cache be read without copies.

        Raises:
            ValueError: A session is named twice, or there are more sessions than slots.
        """
        if len(set(sessions)) != len(sessions) or len(sessions) > self.n_slots:
            raise ValueError(f"{len(sessions)} sessions for {self.n_slots} slots: expected distinct ones, no more")
        if not sticky:
            return list(range(len(sessions)))
        for session in sessions:
            if session in self._slot_of:
                self._slot_of.move_to_end(session)
        return [self._slot_of.get(session, -1) if session in self._slot_of else self._take(session, sessions)
                for session in sessions]  # fmt: skip

    def _take(self, session: str, batch: Sequence[str]) -> int:
        if len(self._slot_of) < self.n_slots:
            slot = min(set(range(self.n_slots)) - set(self._slot_of.values()))
        else:
            slot = self._slot_of.pop(next(old for old in self._slot_of if old not in batch))
        self._slot_of[session] = slot
        self._tokens[slot] = ()
        return slot

    def held(self, slot: int) -> tuple[int, ...]:
        """Tokens whose keys and values stand in `slot`."""
        return self._tokens[slot]

    def remember(self, slot: int, tokens: Sequence[int]) -> None:
        """State which tokens stand in `slot` now."""
        self._tokens[slot] = tuple(tokens)

    def release(self, session: str) -> None:
        """The session is over; its slot is free."""
        slot = self._slot_of.pop(session, None)
        if slot is not None:
            self._tokens[slot] = ()
