"""Errors as OpenAI's clients expect them: one shape over HTTP and in realtime `error` events. Pure."""

from __future__ import annotations

import msgspec

from streamer.errors import OverloadError, ProtocolError, StreamerError
from streamer.protocol.errors import wire_error


class RequestError(ProtocolError):
    """A request or event that cannot be carried out; `param` names the field that is to blame."""

    def __init__(self, code: str, message: str, param: str | None = None, status: int = 400) -> None:
        super().__init__(code, message)
        self.param = param
        self.status = status
        """Of the answer, over HTTP."""


class ErrorDetail(msgspec.Struct, frozen=True, kw_only=True):
    """What stands under `error`."""

    type: str
    code: str
    message: str
    param: str | None = None
    event_id: str | msgspec.UnsetType | None = msgspec.UNSET
    """Of the client's event that was wrong; realtime only."""


_WORDS: dict[str, tuple[str, str, str | None]] = {
    # our code: OpenAI's type and code, and the field to blame
    "bad_audio": ("invalid_request_error", "invalid_audio", "file"),
    "unauthorized": ("invalid_request_error", "invalid_api_key", None),
    "overloaded": ("server_error", "overloaded", None),
    "internal": ("server_error", "internal_error", None),
}
TOO_MANY_REQUESTS = 429
"""Says "overloaded": with it OpenAI's clients come back by themselves."""


def error_detail(error: StreamerError) -> ErrorDetail:
    """How an error is told to a client."""
    if isinstance(error, ProtocolError):
        param = error.param if isinstance(error, RequestError) else None
        return ErrorDetail(type="invalid_request_error", code=error.code, message=str(error), param=param)
    type_, code, param = _WORDS[wire_error(error).code]
    return ErrorDetail(type=type_, code=code, message=str(error), param=param)


def http_status(error: StreamerError) -> int:
    """The HTTP status of the response that tells of an error."""
    match error:
        case RequestError(status=status):
            return status
        case OverloadError():
            return TOO_MANY_REQUESTS
    return wire_error(error).http_status
