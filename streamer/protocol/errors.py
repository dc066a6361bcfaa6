"""Error codes for every transport: the code, WebSocket close code, HTTP status and Retry-After of each error."""

from __future__ import annotations

import math
from typing import NamedTuple

from streamer.errors import (
    AudioFormatError,
    ForbiddenError,
    KeyRefusedError,
    OverloadError,
    ProtocolError,
    StreamerError,
)


class WireError(NamedTuple):
    """Codes of one error, for every transport."""

    code: str
    """Machine-readable word, as in the `error` message of `captions.v1`."""
    close_code: int
    """Close code of the WebSocket."""
    http_status: int
    """Status of an HTTP response."""
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


ERROR_CODES = {
    # code: WebSocket close code, HTTP status
    "after_end": (1002, 400),
    "already_started": (1002, 400),
    "bad_audio": (1007, 400),
    "bad_json": (1002, 400),
    "bad_room": (1008, 404),
    "bad_value": (1002, 400),
    "draining": (1012, 503),
    "forbidden": (4403, 403),
    "frame_too_large": (1009, 413),
    "idle": (1000, 408),
    "internal": (1011, 500),
    "no_codecs": (1008, 500),
    "no_microphone": (1008, 404),
    "no_rooms": (1008, 404),
    "overloaded": (1013, 503),
    "room_taken": (1008, 409),
    "start_required": (1002, 400),
    "unauthorized": (4401, 401),
    "unknown_field": (1002, 400),
    "unknown_type": (1002, 400),
}
"""Every error code of `captions.v1`; `docs/protocol.md` says what a client does about each."""
_FOREIGN_CODES = {"INVALID_QUERY_PARAMETER": (1008, 400)}
"""Codes that only one dialect has: Deepgram's word for a wrong query."""
_BROKEN_PROTOCOL = (1002, 400)


def wire_error(error: StreamerError) -> WireError:
    """Return the codes of an error; a `ProtocolError` with a code that is in no table gets 1002 and 400."""
    match error:
        case ProtocolError(code=code):
            return WireError(code, *(ERROR_CODES | _FOREIGN_CODES).get(code, _BROKEN_PROTOCOL))
        case OverloadError(retry_after_s=retry_after_s):
            return WireError("overloaded", *ERROR_CODES["overloaded"], retry_after_s)
        case AudioFormatError():
            return WireError("bad_audio", *ERROR_CODES["bad_audio"])
        case KeyRefusedError():
            return WireError("unauthorized", *ERROR_CODES["unauthorized"])
        case ForbiddenError():
            return WireError("forbidden", *ERROR_CODES["forbidden"])
    return WireError("internal", *ERROR_CODES["internal"])
