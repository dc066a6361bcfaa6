"""Tests of streamer/dialects/openai/errors.py."""

from __future__ import annotations

import httpx
import openai
import pytest

from streamer.dialects.openai.errors import RequestError, error_detail, http_status
from streamer.errors import AudioFormatError, EngineError, KeyRefusedError, OverloadError, ProtocolError, StreamerError

CASES: list[tuple[StreamerError, int, str, str, str | None]] = [
    (RequestError("invalid_value", "x", "language"), 400, "invalid_request_error", "invalid_value", "language"),
    (RequestError("model_not_found", "x", "model", 404), 404, "invalid_request_error", "model_not_found", "model"),
    (AudioFormatError("x"), 400, "invalid_request_error", "invalid_audio", "file"),
    (KeyRefusedError("x"), 401, "invalid_request_error", "invalid_api_key", None),
    (OverloadError("x", 5.0), 429, "server_error", "overloaded", None),
    (EngineError("x"), 500, "server_error", "internal_error", None),
]


@pytest.mark.parametrize(("error", "status", "type_", "code", "param"), CASES, ids=lambda case: type(case).__name__)
def test_errors_have_a_status_and_name_what_is_to_blame(
    error: StreamerError, status: int, type_: str, code: str, param: str | None
) -> None:
    """The client's faults are requests to change, ours are to be tried again."""
    detail = error_detail(error)

    assert http_status(error) == status
    assert (detail.type, detail.code, detail.message, detail.param) == (type_, code, "x", param)


async def test_clients_try_again_what_may_work_later() -> None:
    """OpenAI's client comes back after an overload and after a fault of ours, and never with a bad request."""
    tries: dict[int, int] = {}
    for error, status, *_ in CASES:

        def answer(_: httpx.Request, status: int = status) -> httpx.Response:
            tries[status] = tries.get(status, 0) + 1
            return httpx.Response(status, headers={"retry-after-ms": "1"}, json={"error": {"message": "x"}})

        transport = httpx.AsyncClient(transport=httpx.MockTransport(answer))
        async with openai.AsyncOpenAI(api_key="x", base_url="http://x", max_retries=1, http_client=transport) as client:
            with pytest.raises(openai.APIStatusError):
                await client.models.list()
        assert (tries.pop(status) == 2) == (status in (429, 500)), error


def test_an_error_of_the_protocol_keeps_its_code() -> None:
    """What a realtime session says of a native error."""
    assert error_detail(ProtocolError("idle", "silent for 60 s")).code == "idle"
