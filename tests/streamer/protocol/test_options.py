"""Tests of streamer/protocol/options.py: what a client may ask for."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from streamer.protocol.options import SessionOptions


def test_defaults_are_those_of_the_protocol() -> None:
    """Every field is optional, and the defaults are those the protocol shows."""
    assert msgspec.structs.asdict(SessionOptions()) == {
        "language": "auto",
        "languages": (),
        "task": "transcribe",
        "prompt": "",
        "keyterms": (),
        "endpoint_ms": None,
        "delay": "low",
        "partials": True,
        "words": True,
        "revise": False,
    }


@pytest.mark.parametrize(
    "asked",
    [
        {"endpoint_ms": 99},
        {"endpoint_ms": 5001},
        {"endpoint_ms": "500"},
        {"delay": "none"},
        {"task": "summarise"},
        {"keyterms": "Ray"},
        {"keyterms": [1]},
        {"words": "yes"},
        {"revise": 1},
        {"revise": ""},
        {"languages": "en"},
        {"languages": ["en"] * 129},
        {"langauge": "en"},
    ],
)
def test_out_of_range(asked: dict[str, Any]) -> None:
    """Values out of range, of another type, or under an unknown name are refused."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(asked, SessionOptions)


def test_limits_are_included() -> None:
    """Both ends of the endpoint's range are allowed, and null, which asks for sentences."""
    for endpoint_ms in (100, 5000, None):
        assert msgspec.convert({"endpoint_ms": endpoint_ms}, SessionOptions).endpoint_ms == endpoint_ms


def test_options_are_frozen() -> None:
    """Options change only by replacement."""
    options = SessionOptions()
    with pytest.raises(AttributeError):
        options.language = "de"  # type: ignore[misc]
    assert msgspec.structs.replace(options, language="de").language == "de"
