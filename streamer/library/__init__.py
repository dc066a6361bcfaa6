"""Whisper as a Python library: whole recordings and live streams in this process, without a daemon."""

from streamer.library.model import SpeechModel, load
from streamer.library.transcript import Segment, Transcript, Word

__all__ = ["Segment", "SpeechModel", "Transcript", "Word", "load"]
