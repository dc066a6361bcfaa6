"""The Python client of `captions.v1`. Needs neither torch nor anything else of the daemon."""

from streamer.client.client import Captions, ConnectionLostError, connect
from streamer.protocol.events import Ack, Bye, Caption, Event, Flushed, Skipped, Speech, TurnEnd, TurnRevised, Word
from streamer.protocol.messages import AudioFormat, Start

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
    "TurnRevised",
    "Word",
    "connect",
]
