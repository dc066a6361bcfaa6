"""Projection of session events to the options of a client, with or without words and partials, and to viewers."""

from __future__ import annotations

import msgspec
from msgspec import UNSET

from streamer.protocol.events import Caption, Event, TurnEnd, TurnRevised
from streamer.protocol.options import SessionOptions, Task


class Projection:
    """
    Removes words and partials that a client did not ask for, and renumbers `rev`.

    The event queue and `partials: false` drop captions, so `rev` is counted again here: within a turn it rises by one
    from caption to caption.

    Args:
        options: Options of the session; `words` and `partials` are read.
    """

    def __init__(self, options: SessionOptions) -> None:
        self._words = options.words
        self._partials = options.partials
        self._last: Caption | None = None

    def project(self, event: Event) -> Event | None:
        """Return the event to send, or None if the client must not see it."""
        if isinstance(event, TurnEnd | TurnRevised):
            return event if self._words else msgspec.structs.replace(event, words=UNSET)
        return self._project_caption(event) if isinstance(event, Caption) else event

    def _project_caption(self, caption: Caption) -> Caption | None:
        last = self._last if self._last is not None and self._last.turn == caption.turn else None
        if not self._partials:
            if caption.stable == (last.stable if last is not None else ""):
                return None
            caption = _without_partial(caption)
        if not self._words:
            caption = msgspec.structs.replace(caption, words=UNSET)
        if last is not None:
            caption = msgspec.structs.replace(caption, rev=last.rev + 1)
        self._last = caption
        return caption


def for_viewers(event: Event, task: Task) -> Event:
    """
    An event as the viewers of a room get it: its `language` is that of the text, which they read without the sound.

    Args:
        event: Of the session.
        task: Of the session.
    """
    if not isinstance(event, TurnEnd | TurnRevised):
        return event
    return msgspec.structs.replace(event, language=text_language(event.language, task))


def text_language(spoken: str, task: Task) -> str:
    """The language of the text of a turn that was spoken in another one, or in the same."""
    return "en" if task == "translate" else spoken


def _without_partial(caption: Caption) -> Caption:
    if caption.words is UNSET:
        return msgspec.structs.replace(caption, partial="")
    stable = tuple(word for word in caption.words if word.stable)
    end_s = stable[-1].end_s if stable else caption.end_s
    return msgspec.structs.replace(caption, partial="", words=stable, end_s=end_s)
