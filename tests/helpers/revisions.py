"""Turns that wait for their second pass, made by hand."""

from __future__ import annotations

import torch

from streamer.protocol.events import TurnEnd
from streamer.session.second_pass import Part, Revision


def revision(turn: int = 0, language: str = "en", model: str = "") -> Revision:
    """A turn of one word, b."""
    ended = TurnEnd(turn=turn, text="b", start_s=0.0, end_s=0.3, language=language, reason="silence")
    part = Part(log_mel=torch.full((5, 30), 0.1), gains=(), start_s=0.0, voiced=((0.0, 0.3),), text=" b")
    return Revision(
        turn=ended,
        parts=(part,),
        model=model,
        prompt="",
        keyterms=(),
        task="transcribe",
        has_words=True,
        begins_sentence=True,
    )
