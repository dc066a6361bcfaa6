"""Where and why turns are to end. Pure."""

from __future__ import annotations

from streamer.protocol.events import TurnEndReason


class Closing:
    """
    Ends that were asked for and not reached yet, in order: none, one, or a pause and what came after it.

    A flush or the end of a stream closes everything heard so far. Where it comes while a pause still waits for its last
    step, and speech came in between, that is two turns.
    """

    def __init__(self) -> None:
        self._asked: list[tuple[TurnEndReason, int]] = []

    @property
    def is_asked(self) -> bool:
        """Whether the open turn is to end."""
        return bool(self._asked)

    @property
    def frame(self) -> int:
        """Where it is to end: one past its last frame. Only while `is_asked`."""
        return self._asked[0][1]

    def ask(self, reason: TurnEndReason, frame: int) -> None:
        """End the open turn at a frame, or, behind a pause that is being closed, the turn after it."""
        if reason != "silence":
            pauses = [end for end in self._asked[:1] if end[0] == "silence" and end[1] < frame]
            self._asked = [*pauses, (reason, frame)]
        elif not self._asked:
            self._asked = [(reason, frame)]

    def done(self) -> TurnEndReason:
        """The open turn has ended; why."""
        return self._asked.pop(0)[0]

    def withdraw(self) -> None:
        """There is nothing left to close."""
        self._asked = []
