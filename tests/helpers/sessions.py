"""Sessions for tests: in English, with the real English tokenizer, unless told otherwise."""

from __future__ import annotations

from typing import Any

from streamer.protocol.options import SessionOptions
from streamer.session.audio_window import WindowOptions
from streamer.session.session import Session
from streamer.session.spec import ModelFacts, SessionSpec
from streamer.text.tokenizer import Tokenizer
from tests.helpers.words import TOKENIZER

MODEL = ModelFacts(name="toy", tokenizer=TOKENIZER, n_mels=2)


def new_session(name: str = "s_1", *, model: ModelFacts = MODEL, **fields: Any) -> Session:
    """A session with these fields of its `SessionSpec`."""
    defaults = {"options": SessionOptions(language="en"), "window": WindowOptions(max_window_s=15.0)}
    return Session(SessionSpec(name=name, model=model, **(defaults | fields)))


def model_of(tokenizer: Tokenizer, n_mels: int = 80) -> ModelFacts:
    """A model with this vocabulary."""
    return ModelFacts(name="toy", tokenizer=tokenizer, n_mels=n_mels)
