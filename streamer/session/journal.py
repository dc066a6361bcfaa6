"""
The journal of one session: its inputs and its events, from which the session can be replayed. Pure: callers store it.

A session is deterministic: the same inputs give the same events. The grammar is `Opened`, then `Frames`, `Ask`,
`Answer`, `Failed`, `FlushEntry`, `Change`, `Revised` and `EndEntry` in the order of what happened, each followed by
`Said` if the session produced events.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from torch import Tensor

from streamer.protocol.events import Ack, Bye, Caption, Event, Flushed, Skipped, Speech, TurnEnd, TurnRevised
from streamer.protocol.options import SessionOptions, Update
from streamer.session.audio_window import WindowOptions
from streamer.session.session import Session, Step
from streamer.session.spec import ModelFacts, SessionSpec
from streamer.step import StepResult
from streamer.text.tokenizer import Tokenizer

VERSION = 1


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of all entries."""


class Opened(Entry, frozen=True, kw_only=True, tag="opened"):
    """How the session began."""

    version: int
    session: str
    model: str
    n_mels: int
    options: SessionOptions
    window: WindowOptions
    offset_s: float
    context: str

    @classmethod
    def of(cls, spec: SessionSpec) -> Opened:
        """The first entry of a session."""
        return cls(
            version=VERSION,
            session=spec.name,
            model=spec.model.name,
            n_mels=spec.model.n_mels,
            options=spec.options,
            window=spec.window,
            offset_s=spec.offset_s,
            context=spec.context,
        )

    def spec(self, tokenizer: Tokenizer) -> SessionSpec:
        """What the session was made from, given the tokenizer of its model."""
        return SessionSpec(
            name=self.session,
            options=self.options,
            window=self.window,
            model=ModelFacts(name=self.model, tokenizer=tokenizer, n_mels=self.n_mels),
            offset_s=self.offset_s,
            context=self.context,
        )


class Frames(Entry, frozen=True, kw_only=True, tag="hear"):
    """New mel frames, by their number only, and the voice probabilities that came with them."""

    n_frames: int
    voice: tuple[float, ...]


class Ask(Entry, frozen=True, kw_only=True, tag="ask"):
    """A step began."""


class Answer(Entry, frozen=True, kw_only=True, tag="answer"):
    """The result of the step."""

    result: StepResult


class Failed(Entry, frozen=True, kw_only=True, tag="failed"):
    """The step failed."""


class FlushEntry(Entry, frozen=True, kw_only=True, tag="flush"):
    """The client asked to make all text final."""

    id: int


class Change(Entry, frozen=True, kw_only=True, tag="change"):
    """The client changed options."""

    update: Update


class EndEntry(Entry, frozen=True, kw_only=True, tag="end"):
    """The audio ended."""

    audio_s: float | None
    continues_elsewhere: bool = msgspec.field(default=False, name="goes_on")


class Revised(Entry, frozen=True, kw_only=True, tag="revised"):
    """A turn has had its second pass, or will have none."""

    turn: int
    event: TurnRevised | None


class Said(Entry, frozen=True, kw_only=True, tag="said"):
    """The events that the entry before this one caused."""

    events: tuple[Speech | Caption | TurnEnd | TurnRevised | Ack | Flushed | Skipped | Bye, ...]


AnyEntry = Opened | Frames | Ask | Answer | Failed | FlushEntry | Change | EndEntry | Revised | Said


class JournalledSession(Session):
    """
    A session that writes its inputs and events to a journal.

    Args:
        spec: See `SessionSpec`.
        write: Takes each entry; must neither wait nor raise.
    """

    def __init__(self, spec: SessionSpec, write: Callable[[Entry], None]) -> None:
        super().__init__(spec)
        self._write = write
        write(Opened.of(spec))

    def push_frames(self, frames: Tensor, probabilities: Sequence[float]) -> list[Event]:
        """As `Session.push_frames`; frames are (n, n_mels)."""
        self._write(Frames(n_frames=frames.shape[0], voice=tuple(probabilities)))
        return self._said(super().push_frames(frames, probabilities))

    def flush(self, flush_id: int) -> list[Event]:
        """As `Session.flush`."""
        self._write(FlushEntry(id=flush_id))
        return self._said(super().flush(flush_id))

    def end(self, audio_s: float | None = None, *, continues_elsewhere: bool = False) -> list[Event]:
        """As `Session.end`."""
        self._write(EndEntry(audio_s=audio_s, continues_elsewhere=continues_elsewhere))
        return self._said(super().end(audio_s, continues_elsewhere=continues_elsewhere))

    def update(self, update: Update) -> None:
        """As `Session.update`."""
        self._write(Change(update=update))
        super().update(update)

    def next_step(self) -> Step:
        """As `Session.next_step`."""
        self._write(Ask())
        return super().next_step()

    def cancel_step(self) -> None:
        """As `Session.cancel_step`."""
        self._write(Failed())
        super().cancel_step()

    def apply(self, step: Step, result: StepResult) -> list[Event]:
        """As `Session.apply`."""
        self._write(Answer(result=result))
        return self._said(super().apply(step, result))

    def revised(self, turn: int, event: TurnRevised | None) -> list[Event]:
        """
        As `Session.revised`.

        Args:
            turn: See there.
            event: See there.
        """
        self._write(Revised(turn=turn, event=event))
        return self._said(super().revised(turn, event))

    def _said(self, events: list[Event]) -> list[Event]:
        if events:
            self._write(Said(events=tuple(events)))  # type: ignore[arg-type]  # every event of a session is one of these
        return events
