"""The turns of one session as a transcript holds them: each as it ended, or as its second pass has revised it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from streamer.protocol.events import Event, TurnEnd, TurnRevised, words_of


@dataclass(slots=True)
class FinalTurns:
    """Collects the turns of a session by their numbers; a turn or a revision that comes again replaces the older."""

    _turns: dict[int, TurnEnd] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._turns)

    def __iter__(self) -> Iterator[TurnEnd]:
        return iter(self._turns.values())

    def take(self, event: Event) -> TurnEnd | None:
        """
        Take the next event of the session.

        Returns:
            The turn that it has ended or changed, as it is now. None: there is none, or none of its number to revise.
        """
        match event:
            case TurnEnd(turn=number):
                self._turns[number] = event
            case TurnRevised(turn=number) if number in self._turns:
                self._turns[number] = revised(self._turns[number], event)
            case _:
                return None
        return self._turns[number]


def revised(turn: TurnEnd, revision: TurnRevised) -> TurnEnd:
    """Return a turn with the text, the words and the language of its revision, and the times of those words."""
    words = words_of(revision)
    return msgspec.structs.replace(
        turn,
        text=revision.text,
        language=revision.language,
        words=revision.words,
        start_s=words[0].start_s if words else turn.start_s,
        end_s=words[-1].end_s if words else turn.end_s,
    )
