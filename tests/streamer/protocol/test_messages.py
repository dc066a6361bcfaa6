"""Tests of streamer/protocol/messages.py."""

from __future__ import annotations

import json

import msgspec

from streamer.protocol.events import Ack
from streamer.protocol.messages import (
    AudioFormat,
    Draining,
    Error,
    Hello,
    Limits,
    Started,
    encode,
)
from streamer.protocol.options import SessionOptions


class TestEncode:
    """Messages to text frames, as the contract writes them."""

    def test_hello(self) -> None:
        """All fields of the contract."""
        hello = Hello(session="s_1", resume="r_1", model="tiny.en", limits=Limits(max_frame_bytes=1048576, idle_s=60))

        assert json.loads(encode(hello)) == {
            "type": "hello",
            "protocol": "captions.v1",
            "session": "s_1",
            "resume": "r_1",
            "model": "tiny.en",
            "limits": {"max_frame_bytes": 1048576, "idle_s": 60},
        }

    def test_started_repeats_the_effective_settings(self) -> None:
        """Defaults too, so that a client need not know them."""
        options = msgspec.structs.asdict(SessionOptions(language="en"))
        started = Started(session="s_1", resume="r_1", audio=AudioFormat(), resume_from_s=0.0, **options)

        assert json.loads(encode(started)) == {
            "type": "started",
            "session": "s_1",
            "resume": "r_1",
            "audio": {"encoding": "pcm_s16le", "rate": 16000, "channels": 1},
            "resume_from_s": 0.0,
            "language": "en",
            "languages": [],
            "task": "transcribe",
            "prompt": "",
            "keyterms": [],
            "endpoint_ms": None,
            "delay": "low",
            "partials": True,
            "words": True,
            "revise": False,
        }

    def test_errors_leave_out_what_is_not_known(self) -> None:
        """`retry_after_s` is there only for an overload."""
        assert json.loads(encode(Error(code="idle", message="m"))) == {
            "type": "error",
            "code": "idle",
            "message": "m",
            "fatal": True,
        }
        assert json.loads(encode(Error(code="overloaded", message="m", retry_after_s=5)))["retry_after_s"] == 5

    def test_draining_and_events(self) -> None:
        """Events are encoded like the messages of the connection."""
        assert encode(Draining(deadline_s=20.0)) == '{"type":"draining","deadline_s":20.0}'
        ack = Ack(received_s=12.0, stable_s=10.4, lag_s=0.2)
        assert encode(ack) == '{"type":"ack","received_s":12.0,"stable_s":10.4,"lag_s":0.2}'
