"""
One room: the captions of one speaker at a time, for any number of read-only viewers.

Each event is encoded once for all viewers; `base_room` has their queues.
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from msgspec import UNSET, structs

from streamer.protocol.events import Caption, Event, TurnEnd, TurnRevised
from streamer.protocol.messages import Resume, RoomState, encode
from streamer.protocol.options import Task
from streamer.protocol.projection import text_language
from streamer.server.rooms.base_room import HISTORY, BaseRoom, Message


class Past(NamedTuple):
    """What the speaker of a session has said before, as its client tells it."""

    turns: Sequence[TurnEnd] = ()
    """With rising numbers."""
    first: int = 0
    """Number in the room of the session's own turn 0."""


NOTHING_SAID = Past()


def past_of(resume: Resume | None, session: str, task: Task = "transcribe") -> Past:
    """
    The past turns that a client tells when it resumes.

    Args:
        resume: Of its `start`; None: nothing was said.
        session: Name of the session that it got: the one of `resume`, or a new one that follows on the past turns.
        task: Of the session.
    """
    if resume is None:
        return NOTHING_SAID
    is_known = session == resume.session
    turns = [
        TurnEnd(
            turn=t.turn,
            text=t.text,
            start_s=t.start_s,
            end_s=t.end_s,
            language=text_language(t.language, task),
            reason="limit",
        )
        for t in resume.turns
        if not (t.open and is_known)
    ]
    next_turn = max((turn.turn + 1 for turn in turns), default=0)
    return Past(turns, resume.first_turn if is_known else next_turn)


class Room(BaseRoom):
    """
    A room: takes the events of a speaker and gives each viewer its messages.

    Args:
        room: Name that viewers know.
    """

    def __init__(self, room: str = "microphone") -> None:
        super().__init__(room, run=secrets.token_hex(4))
        self._numbers = itertools.count(1)
        self._first = 0
        """Number of the present session's own turn 0."""
        self._speaker = 0
        self.session = ""
        """Session that speaks, or spoke last."""
        self._n_speaking = 0

    @property
    def is_live(self) -> bool:
        """Whether a session speaks in the room now."""
        return self._n_speaking > 0

    @contextlib.contextmanager
    def speaking(self, session: str, past: Past = NOTHING_SAID) -> Iterator[None]:
        """
        Let a session speak for the duration of the block; a new session clears the transcript of the one before.

        Two blocks of the same session may overlap: a client resumes before its lost connection is noticed.

        Args:
            session: Name of the session.
            past: Replaces the transcript, where the session is new to the room.
        """
        self._n_speaking += 1
        if session != self.session:
            self.session = session
            self._recall(past)
        else:
            self._send(self._state())
        try:
            yield
        finally:
            self._n_speaking -= 1
            self._send(self._state())

    def publish(self, event: Event) -> None:
        """Queue a caption, or the end or revision of a turn, for every viewer, without words; ignore other events."""
        if not isinstance(event, Caption | TurnEnd | TurnRevised):
            return
        event = structs.replace(event, words=UNSET, turn=self._first + event.turn)
        message = self._message(event)
        if isinstance(event, Caption):
            self._open_turn = message
        else:
            kept = self._revisions if isinstance(event, TurnRevised) else self._turns
            self._open_turn = self._open_turn if isinstance(event, TurnRevised) else None
            if event.turn in kept and kept[event.turn].text == message.text:
                return  # said again after a resume
            self._keep(kept, event.turn, message)
        self._send(message)

    def _recall(self, past: Past) -> None:
        """Begin the transcript of a new speaker, with what it has said before."""
        self._speaker, self._open_turn, self._first = self._speaker + 1, None, past.first
        self._turns.clear()
        self._revisions.clear()
        for turn in past.turns[-HISTORY:]:
            self._keep(self._turns, turn.turn, self._message(turn))
        if not past.turns:
            self._send(self._state())
            return
        self._begin()

    def _state(self, n_turns: int = 0) -> Message:
        return self._message(RoomState(room=self._room, speaker=self._speaker, live=self.is_live, turns=n_turns))

    def _message(self, event: Event | RoomState) -> Message:
        return Message(next(self._numbers), event.turn if isinstance(event, Caption) else None, encode(event))
