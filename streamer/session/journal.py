"""
The journal of one session: its inputs and its events, from which the session can be replayed. Pure: callers store it.

A session is deterministic: the same inputs give the same events. The grammar is `Opened`, then `Frames`, `Ask`,
`Answer`, `Failed`, `Flush`, `Change` and `End` in the order in which they happened, each followed by `Said` if the
session produced events.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from torch import Tensor

from streamer.protocol.events import Ack, Bye, Caption, Event, Flushed, Skipped, Speech, TurnEnd
from streamer.protocol.options import SessionOptions, Update
from streamer.session.audio_window import WindowOptions
from streamer.session.session import Session, Step
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


class Flush(Entry, frozen=True, kw_only=True, tag="flush"):
    """The client asked to make all text final."""

    id: int


class Change(Entry, frozen=True, kw_only=True, tag="change"):
    """The client changed options."""

    update: Update


class End(Entry, frozen=True, kw_only=True, tag="end"):
    """The audio ended."""

    audio_s: float | None
    continues_elsewhere: bool = msgspec.field(default=False, name="goes_on")


class Said(Entry, frozen=True, kw_only=True, tag="said"):
    """The events that the entry before this one caused."""

    events: tuple[Speech | Caption | TurnEnd | Ack | Flushed | Skipped | Bye, ...]


AnyEntry = Opened | Frames | Ask | Answer | Failed | Flush | Change | End | Said


class JournalledSession(Session):
    """
    A session that writes its inputs and events to a journal.

    Args:
        write: Takes each entry; must neither wait nor raise.
        model: Name of the model.
        Others: See `Session`.
    """

    def __init__(
        self,
        session_id: str,
        options: SessionOptions,
        window: WindowOptions,
        tokenizer: Tokenizer,
        n_mels: int,
        *,
        write: Callable[[Entry], None],
        model: str,
        offset_s: float = 0.0,
        context: str = "",
    ) -> None:
        super().__init__(session_id, options, window, tokenizer, n_mels, offset_s=offset_s, context=context)
        self._write = write
        write(
            Opened(
                version=VERSION,
                session=session_id,
                model=model,
                n_mels=n_mels,
                options=options,
                window=window,
                offset_s=offset_s,
                context=context,
            )
        )

    def push_frames(self, frames: Tensor, probabilities: Sequence[float]) -> list[Event]:
        """As `Session.push_frames`."""
        self._write(Frames(n_frames=frames.shape[0], voice=tuple(probabilities)))
        return self._said(super().push_frames(frames, probabilities))

    def flush(self, flush_id: int) -> list[Event]:
        """As `Session.flush`."""
        self._write(Flush(id=flush_id))
        return self._said(super().flush(flush_id))

    def end(self, audio_s: float | None = None, *, continues_elsewhere: bool = False) -> list[Event]:
        """As `Session.end`."""
        self._write(End(audio_s=audio_s, continues_elsewhere=continues_elsewhere))
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

    def _said(self, events: list[Event]) -> list[Event]:
        if events:
            self._write(Said(events=tuple(events)))  # type: ignore[arg-type]  # every event of a session is one of these
        return events
