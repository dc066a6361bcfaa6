"""HTTP responses that refuse a request: JSON as the `error` message of `captions.v1`, with the headers that help."""

from __future__ import annotations

from starlette.responses import Response

from streamer.errors import KeyRefusedError, StreamerError
from streamer.protocol.errors import wire_error
from streamer.protocol.messages import encode, error_message

CHALLENGE = {"WWW-Authenticate": "Bearer"}
"""Header of a response that asks for a key."""


def refusal_headers(error: StreamerError) -> dict[str, str]:
    """`WWW-Authenticate` for a missing or wrong key, `Retry-After` where a later try may succeed."""
    challenge = CHALLENGE if isinstance(error, KeyRefusedError) else {}
    return {**challenge, **wire_error(error).retry_after}


def refusal(error: StreamerError, status: int | None = None) -> Response:
    """The response to a refused request; `status` replaces the HTTP status of the error."""
    body = encode(error_message(error))
    status = wire_error(error).http_status if status is None else status
    return Response(body, status, refusal_headers(error), "application/json")
