"""
Every error this package raises on purpose.

    StreamerError
    ├── ConfigError            a configuration key, flag or environment variable
    │   └── UnreadableFileError    a key file or certificate that cannot be read now
    ├── ModelNotFoundError     a model name that is found nowhere
    ├── CheckpointError        a checkpoint file: truncated, unknown format, wrong hash, wrong shapes
    ├── AudioFormatError       audio bytes that are not as announced
    ├── CaptureError           the microphone
    │   ├── PortAudioMissingError
    │   └── DeviceNotFoundError
    ├── KeyRefusedError        an API key that is missing, unknown or expired
    ├── ForbiddenError         a key or token without the right to do what was asked
    ├── ProtocolError          a client message; carries the error code
    ├── OverloadError          no capacity left; carries the seconds after which to try again
    ├── EngineError            a step that failed
    │   ├── DeviceError        the device failed in the step
    └── DeviceLostError        the device did not recover; the daemon ends

Messages are lower case and say what was found, what is allowed, and the remedy. A client gets the message alone, never
a traceback. `streamer.protocol.errors` maps errors to codes, close codes and HTTP statuses.
"""

from __future__ import annotations


class StreamerError(Exception):
    """Base of all errors raised on purpose."""


class ConfigError(StreamerError):
    """A configuration value is unknown, of the wrong type, or out of range."""


class UnreadableFileError(ConfigError):
    """A key file or certificate cannot be read: unlike after other mistakes, another try may succeed."""


class ModelNotFoundError(StreamerError):
    """A model name is found nowhere: no path, no stored copy, no installed package, no known source."""


class CheckpointError(StreamerError):
    """A checkpoint cannot be used: truncated, unknown format, wrong hash, or wrong tensors."""


class AudioFormatError(StreamerError):
    """Audio is not as announced: unsupported encoding or rate, nothing that can be decoded, or NaN."""


class CaptureError(StreamerError):
    """The microphone cannot be read."""


class PortAudioMissingError(CaptureError):
    """The PortAudio library is not installed."""


class DeviceNotFoundError(CaptureError):
    """The named input device does not exist, or the machine has no input device."""


class KeyRefusedError(StreamerError):
    """An API key is missing, unknown or expired."""


class ForbiddenError(StreamerError):
    """A key or token is valid, but does not carry the right to do what was asked."""


class ProtocolError(StreamerError):
    """A client broke the protocol; `code` is the machine-readable error code sent to it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class OverloadError(StreamerError):
    """No capacity is left; `retry_after_s` is the number of seconds after which to try again."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class EngineError(StreamerError):
    """A step failed; the sessions of its batch are intact."""


class DeviceError(EngineError):
    """The device failed in a step: out of memory, a broken context, or a driver fault."""


class DeviceLostError(StreamerError):
    """The device failed after every retry; only a new process may help."""


def reason_of(error: OSError) -> str:
    """Why the system refused something, in the words of the system, for the end of a message."""
    return (error.strerror or str(error)).lower()
