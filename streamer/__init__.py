"""Live speech to captions with Whisper weights."""

__version__ = "0.1.0"
