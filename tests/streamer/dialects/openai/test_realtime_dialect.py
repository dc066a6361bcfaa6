"""Tests of streamer/dialects/openai/realtime_dialect.py."""

from __future__ import annotations

import base64
import json
from typing import Any

from streamer.dialects.actions import Action, EndSessions, HangUp, Open, To
from streamer.dialects.openai.realtime import MAX_ERRORS, RealtimeProtocol
from streamer.dialects.openai.realtime_dialect import RealtimeDialect
from streamer.dialects.openai.session import default_settings
from streamer.errors import EngineError
from streamer.protocol.events import Bye
from streamer.protocol.messages import Flush
from streamer.protocol.options import SessionOptions

AUDIO = bytes(4800)


def new_dialect() -> RealtimeDialect:
    """A client's first moment."""
    defaults = SessionOptions()
    return RealtimeDialect(RealtimeProtocol("sess_1", "tiny", ("en",), default_settings(defaults), defaults))


def send(dialect: RealtimeDialect, type_: str, **fields: Any) -> list[Action]:
    """One client event."""
    return dialect.receive(json.dumps({"type": type_, **fields}))


def append(dialect: RealtimeDialect) -> list[Action]:
    """Some audio."""
    return send(dialect, "input_audio_buffer.append", audio=base64.b64encode(AUDIO).decode())


def type_of(action: Action) -> str:
    """Of the server event that a text holds."""
    assert isinstance(action, str)
    return str(json.loads(action)["type"])


def test_the_first_audio_opens_a_session() -> None:
    """A client that only waits occupies none."""
    dialect = new_dialect()
    [created] = dialect.begin()
    opening, audio = append(dialect)

    assert type_of(created) == "session.created"
    assert isinstance(opening, Open)
    assert audio == To(0, AUDIO)


def test_server_events_come_before_what_may_have_to_wait() -> None:
    """A settings change is confirmed before the session is ended that it replaces."""
    dialect = new_dialect()
    append(dialect)
    session = {"type": "transcription", "audio": {"input": {"format": {"type": "audio/pcmu"}}}}
    confirmed, ended = send(dialect, "session.update", session=session)

    assert type_of(confirmed) == "session.updated"
    assert ended == EndSessions()
    assert isinstance(append(dialect)[0], Open)


def test_a_silent_client_loses_its_session_alone() -> None:
    """And no session twice."""
    dialect = new_dialect()
    assert dialect.idle(60.0) == []
    append(dialect)

    assert dialect.idle(60.0) == [EndSessions()]
    assert dialect.idle(60.0) == []


def test_a_commit_flushes_the_session() -> None:
    """Its events are told as texts."""
    dialect = new_dialect()
    append(dialect)
    *told, flush = send(dialect, "input_audio_buffer.commit")

    assert flush == To(0, Flush(id=1))
    assert type_of(told[0]) == "input_audio_buffer.committed"
    assert [type_of(text) for text in dialect.project(0, Bye(reason="end", audio_s=0.1, turns=0))] == [
        "conversation.item.input_audio_transcription.completed"
    ]
    assert dialect.finish() == []


def test_a_client_of_wrong_events_is_hung_up_on() -> None:
    """After so many in a row."""
    dialect = new_dialect()
    actions = [action for _ in range(MAX_ERRORS) for action in dialect.receive("{")]

    assert actions[-1] == HangUp(1008)
    assert type_of(dialect.fail(EngineError("broken"))[-1]) == "error"
