"""Events without text, made by hand."""

from __future__ import annotations

from streamer.protocol.events import Ack, Bye, Caption, TurnEnd

BYE = Bye(reason="end", audio_s=0.0, turns=0)


def caption(turn: int, rev: int) -> Caption:
    """A caption without text."""
    return Caption(turn=turn, rev=rev, stable="", partial="", start_s=0.0, end_s=0.0)


def turn_end(turn: int) -> TurnEnd:
    """The end of a turn."""
    return TurnEnd(turn=turn, text="", start_s=0.0, end_s=0.0, language="en", reason="silence")


def ack(received_s: float) -> Ack:
    """An ack."""
    return Ack(received_s=received_s, stable_s=0.0, lag_s=0.0)
