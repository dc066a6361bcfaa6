"""Errors in OpenAI's format, which HTTP responses and realtime `error` events share."""

from __future__ import annotations

import msgspec

from streamer.errors import OverloadError, ProtocolError, StreamerError
from streamer.protocol.errors import wire_error


class RequestError(ProtocolError):
    """
    A request or event that cannot be served.

    Args:
        code: OpenAI's word for the problem.
        message: For people: what was found, and what is allowed.
        param: Path of the wrong field; None if no field is to blame.
        status: Status of the HTTP response.
    """

    def __init__(self, code: str, message: str, param: str | None = None, status: int = 400) -> None:
        super().__init__(code, message)
        self.param = param
        self.status = status
        """Status of the HTTP response."""


class ErrorDetail(msgspec.Struct, frozen=True, kw_only=True):
    """The object under `error`."""

    type: str
    code: str
    message: str
    param: str | None = None
    event_id: str | msgspec.UnsetType | None = msgspec.UNSET
    """Id of the client event that was wrong; realtime only."""


_WORDS: dict[str, tuple[str, str, str | None]] = {
    # our code: OpenAI's type and code, and the field to blame
    "bad_audio": ("invalid_request_error", "invalid_audio", "file"),
    "forbidden": ("invalid_request_error", "insufficient_permissions", None),
    "unauthorized": ("invalid_request_error", "invalid_api_key", None),
    "overloaded": ("server_error", "overloaded", None),
    "internal": ("server_error", "internal_error", None),
}
TOO_MANY_REQUESTS = 429
"""HTTP status for an overload: OpenAI's clients retry after it by themselves."""


def error_detail(error: StreamerError) -> ErrorDetail:
    """Convert an error to OpenAI's format."""
    if isinstance(error, ProtocolError):
        param = error.param if isinstance(error, RequestError) else None
        return ErrorDetail(type="invalid_request_error", code=error.code, message=str(error), param=param)
    type_, code, param = _WORDS[wire_error(error).code]
    return ErrorDetail(type=type_, code=code, message=str(error), param=param)


def http_status(error: StreamerError) -> int:
    """Return the status of the HTTP response for an error."""
    match error:
        case RequestError(status=status):
            return status
        case OverloadError():
            return TOO_MANY_REQUESTS
    return wire_error(error).http_status
