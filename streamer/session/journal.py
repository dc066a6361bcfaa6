"""
What happened to one session, entry by entry, so that it can happen again. Pure: entries go to whoever keeps them.

A session decides from what it is given and nothing else; given the same once more, it says the same. The grammar:
`Opened`, then `Hear`, `Ask`, `Answer`, `Failed`, `Flush`, `Change` and `End` in the order in which they happened, each
followed by `Said` where the session said something.
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


class Hear(Entry, frozen=True, kw_only=True, tag="hear"):
    """So many mel frames of the sound, and the voice probabilities that came with them."""

    n_frames: int
    voice: tuple[float, ...]


class Ask(Entry, frozen=True, kw_only=True, tag="ask"):
    """The session asked for a step."""


class Answer(Entry, frozen=True, kw_only=True, tag="answer"):
    """The step's result."""

    result: StepResult


class Failed(Entry, frozen=True, kw_only=True, tag="failed"):
    """The step came to nothing."""


class Flush(Entry, frozen=True, kw_only=True, tag="flush"):
    """The client wanted everything final."""

    id: int


class Change(Entry, frozen=True, kw_only=True, tag="change"):
    """The client changed options."""

    update: Update


class End(Entry, frozen=True, kw_only=True, tag="end"):
    """No more sound."""

    audio_s: float | None
    goes_on: bool = False


class Said(Entry, frozen=True, kw_only=True, tag="said"):
    """What the session said to the entry before."""

    events: tuple[Speech | Caption | TurnEnd | Ack | Flushed | Skipped | Bye, ...]


AnyEntry = Opened | Hear | Ask | Answer | Failed | Flush | Change | End | Said


class JournalledSession(Session):
    """
    A session that has everything that happens to it written down.

    Args:
        write: Takes each entry; must not wait and must not fail.
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

    def hear(self, frames: Tensor, probabilities: Sequence[float]) -> list[Event]:
        """As `Session.hear`."""
        self._write(Hear(n_frames=frames.shape[0], voice=tuple(probabilities)))
        return self._said(super().hear(frames, probabilities))

    def flush(self, flush_id: int) -> list[Event]:
        """As `Session.flush`."""
        self._write(Flush(id=flush_id))
        return self._said(super().flush(flush_id))

    def end(self, audio_s: float | None = None, *, goes_on: bool = False) -> list[Event]:
        """As `Session.end`."""
        self._write(End(audio_s=audio_s, goes_on=goes_on))
        return self._said(super().end(audio_s, goes_on=goes_on))

    def update(self, update: Update) -> None:
        """As `Session.update`."""
        self._write(Change(update=update))
        super().update(update)

    def next_step(self) -> Step:
        """As `Session.next_step`."""
        self._write(Ask())
        return super().next_step()

    def failed(self) -> None:
        """As `Session.failed`."""
        self._write(Failed())
        super().failed()

    def apply(self, step: Step, result: StepResult) -> list[Event]:
        """As `Session.apply`."""
        self._write(Answer(result=result))
        return self._said(super().apply(step, result))

    def _said(self, events: list[Event]) -> list[Event]:
        if events:
            self._write(Said(events=tuple(events)))  # type: ignore[arg-type]  # every event of a session is one of these
        return events
