"""The Python client of `captions.v1`. Needs neither torch nor anything else of the daemon."""

from streamer.client.client import (
    Ack,
    AudioFormat,
    Bye,
    Caption,
    Captions,
    ConnectionLostError,
    Event,
    Flushed,
    Skipped,
    Speech,
    Start,
    TurnEnd,
    Word,
    connect,
)

__all__ = [
    "Ack",
    "AudioFormat",
    "Bye",
    "Caption",
    "Captions",
    "ConnectionLostError",
    "Event",
    "Flushed",
    "Skipped",
    "Speech",
    "Start",
    "TurnEnd",
    "Word",
    "connect",
]
