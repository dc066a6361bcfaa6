"""The queue of requested turn ends: at which frame and why. Pure."""

from __future__ import annotations

from streamer.protocol.events import TurnEndReason


class PendingTurnEnds:
    """
    Turn ends that were requested and not reached yet, in order: none, one, or a pause and a later end.

    A flush or the end of the audio ends everything received so far. If it comes while a pause still waits for its last
    step and speech came in between, the speech before and after the pause are two turns.
    """

    def __init__(self) -> None:
        self._ends: list[tuple[TurnEndReason, int]] = []

    def __bool__(self) -> bool:
        return bool(self._ends)

    @property
    def is_pause(self) -> bool:
        """Whether the first end is a pause; False without any end."""
        return bool(self._ends) and self._ends[0][0] == "silence"

    @property
    def frame(self) -> int:
        """One past the last mel frame of the open turn; valid only while an end is pending."""
        return self._ends[0][1]

    def request(self, reason: TurnEndReason, frame: int) -> None:
        """
        End the open turn at a frame; behind a pending pause, end the turn after it.

        Args:
            reason: Why; a pause ("silence") gives way to every pending end.
            frame: One past the last mel frame of the turn.
        """
        if reason != "silence":
            pauses = [end for end in self._ends[:1] if end[0] == "silence" and end[1] < frame]
            self._ends = [*pauses, (reason, frame)]
        elif not self._ends:
            self._ends = [(reason, frame)]

    def pop(self) -> TurnEndReason:
        """Remove the first end, which was reached, and return its reason."""
        return self._ends.pop(0)[0]

    def clear(self) -> None:
        """Remove every end: no speech is left to end."""
        self._ends = []
