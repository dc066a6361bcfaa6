"""Errors as OpenAI's clients expect them: one shape over HTTP and in realtime `error` events. Pure."""

from __future__ import annotations

import msgspec

from streamer.errors import AudioFormatError, KeyRefusedError, OverloadError, ProtocolError, StreamerError


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


def error_detail(error: StreamerError) -> ErrorDetail:
    """How an error is said to a client."""
    match error:
        case RequestError(code=code, param=param):
            return ErrorDetail(type="invalid_request_error", code=code, message=str(error), param=param)
        case ProtocolError(code=code):
            return ErrorDetail(type="invalid_request_error", code=code, message=str(error))
        case AudioFormatError():
            return ErrorDetail(type="invalid_request_error", code="invalid_audio", message=str(error), param="file")
        case KeyRefusedError():
            return ErrorDetail(type="invalid_request_error", code="invalid_api_key", message=str(error))
        case OverloadError():
            return ErrorDetail(type="server_error", code="overloaded", message=str(error))
    return ErrorDetail(type="server_error", code="internal_error", message=str(error))


def http_status(error: StreamerError) -> int:
    """The status of an HTTP answer that says `error`; 429 makes OpenAI's clients come back by themselves."""
    match error:
        case RequestError(status=status):
            return status
        case AudioFormatError():
            return 400
        case KeyRefusedError():
            return 401
        case OverloadError():
            return 429
    return 500
