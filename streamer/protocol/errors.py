"""One table for every transport: the code, WebSocket close code, HTTP status and Retry-After of each error. Pure."""

from __future__ import annotations

import math
from typing import NamedTuple

from streamer.errors import AudioFormatError, KeyRefusedError, OverloadError, ProtocolError, StreamerError


class WireError(NamedTuple):
    """What a client is told of an error beside its message."""

    code: str
    """Machine-readable word, as in the `error` message of `captions.v1`."""
    close_code: int
    """Of the WebSocket."""
    http_status: int
    """Of an HTTP response."""
    retry_after_s: float | None = None
    """Seconds after which another try may succeed; None: unknown."""

    @property
    def fault_close_code(self) -> int:
        """The close code for foreign protocols: 1013 (try again later) for an overload, otherwise 1011 (fault)."""
        return 1013 if self.close_code == 1013 else 1011

    @property
    def retry_after(self) -> dict[str, str]:
        """The `Retry-After` header in whole seconds, rounded up; empty if the time is unknown."""
        return {} if self.retry_after_s is None else {"Retry-After": str(math.ceil(self.retry_after_s))}


_TABLE = {
    # code: WebSocket close code, HTTP status
    "bad_audio": (1007, 400),
    "bad_room": (1008, 404),
    "draining": (1012, 503),
    "frame_too_large": (1009, 413),
    "idle": (1000, 408),
    "internal": (1011, 500),
    "no_codecs": (1008, 500),
    "no_microphone": (1008, 404),
    "no_rooms": (1008, 404),
    "overloaded": (1013, 503),
    "room_taken": (1008, 409),
    "unauthorized": (4401, 401),
    # the dialect of Deepgram has words of its own
    "INVALID_QUERY_PARAMETER": (1008, 400),
}
_BROKEN_PROTOCOL = (1002, 400)


def wire_error(error: StreamerError) -> WireError:
    """Look an error up; a `ProtocolError` whose code is not in the table is a broken protocol (1002, 400)."""
    match error:
        case ProtocolError(code=code):
            return WireError(code, *_TABLE.get(code, _BROKEN_PROTOCOL))
        case OverloadError(retry_after_s=retry_after_s):
            return WireError("overloaded", *_TABLE["overloaded"], retry_after_s)
        case AudioFormatError():
            return WireError("bad_audio", *_TABLE["bad_audio"])
        case KeyRefusedError():
            return WireError("unauthorized", *_TABLE["unauthorized"])
    return WireError("internal", *_TABLE["internal"])
