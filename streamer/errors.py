"""
Every error this package raises on purpose.

    StreamerError
    ├── ConfigError            a configuration key, flag or environment variable
    ├── ModelNotFoundError     a model name that resolves to nothing on this machine
    ├── CheckpointError        a checkpoint file: truncated, foreign, wrong hash, wrong shapes
    ├── AudioFormatError       audio bytes that are not what was announced
    ├── CaptureError           the microphone
    │   ├── PortAudioMissingError
    │   └── DeviceNotFoundError
    ├── KeyRefusedError        no API key, or one that is unknown or expired
    ├── ProtocolError          a client message; carries the wire code
    ├── OverloadError          no capacity left; carries the seconds after which to try again
    ├── EngineError            a step that failed
    │   └── DeviceError        the device failed in it
    └── DeviceLostError        the device does not come back; the daemon ends

Messages are lower case and say what was found, what is allowed, and the remedy. What goes to a client is
the message alone, never a traceback.
"""

from __future__ import annotations


class StreamerError(Exception):
    """Base of all errors raised on purpose."""


class ConfigError(StreamerError):
    """A configuration value is unknown, of the wrong type, or out of range."""


class ModelNotFoundError(StreamerError):
    """A model name resolves to nothing: no path, no stored copy, no installed package, no known source."""


class CheckpointError(StreamerError):
    """A checkpoint cannot be used: truncated, of another format, wrong hash, or wrong tensors."""


class AudioFormatError(StreamerError):
    """Audio is not what was announced: unsupported encoding or rate, odd byte count, not a number."""


class CaptureError(StreamerError):
    """The microphone cannot be read."""


class PortAudioMissingError(CaptureError):
    """The PortAudio library is not installed."""


class DeviceNotFoundError(CaptureError):
    """The named input device does not exist, or there is none at all."""


class KeyRefusedError(StreamerError):
    """A caller shows no API key, or one that is unknown or has expired."""


class ProtocolError(StreamerError):
    """A client broke the protocol; `code` is the machine-readable word sent to it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class OverloadError(StreamerError):
    """The daemon is at its measured capacity."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class EngineError(StreamerError):
    """A step failed; the sessions in it are intact."""


class DeviceError(EngineError):
    """The device failed in a step: out of memory, a broken context, a fault of its driver."""


class DeviceLostError(StreamerError):
    """The device fails whatever is tried: only a new process may help."""
