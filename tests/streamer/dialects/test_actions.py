"""Tests of streamer/dialects/actions.py: what every dialect promises to its carrier, whatever a client sends."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.dialects.actions import Action, Dialect, EndAndClose, HangUp, Open, To
from streamer.dialects.deepgram.protocol import DeepgramProtocol
from streamer.dialects.deepgram.request import parse_query
from streamer.dialects.vosk import VoskProtocol
from streamer.dialects.wyoming import WyomingProtocol, encode
from streamer.errors import ProtocolError

LANGUAGES = ("en", "de")


def deepgram(query: str) -> Callable[[], Dialect]:
    """Dialects of clients that ask so."""
    fields = [tuple(field.split("=")) for field in query.split("&")]
    return lambda: DeepgramProtocol(parse_query(fields, LANGUAGES), "r1", "tiny.en", "2026-01-01T00:00:00.000Z")


DIALECTS: dict[str, Callable[[], Dialect]] = {
    "deepgram": deepgram("encoding=linear16&sample_rate=16000"),
    "deepgram, two channels": deepgram("encoding=linear16&sample_rate=16000&channels=2&multichannel=true"),
    "deepgram, wav": deepgram("model=any"),
    "vosk": VoskProtocol,
    "wyoming": lambda: WyomingProtocol("tiny.en", LANGUAGES, 1000),
}
TEXTS = [
    '{"type":"Finalize"}',
    '{"type":"KeepAlive"}',
    '{"type":"CloseStream"}',
    '{"config":{"sample_rate":8000}}',
    '{"eof":1}',
    encode("transcribe", {"language": "de"}),
    encode("audio-start", {"rate": 16000, "channels": 1, "width": 2}),
    encode("audio-stop", {}),
    encode("describe", {}),
    "{}",
    "[1",
]
CHUNK = '{"type":"audio-chunk","data":{"rate":16000,"channels":1,"width":2},"payload_length":4}\nabcd'
FRAMES = st.one_of(st.sampled_from([*TEXTS, CHUNK]), st.text(max_size=20), st.binary(max_size=40))


@pytest.mark.parametrize("name", DIALECTS)
@given(frames=st.lists(FRAMES, max_size=8))
def test_any_frames_lead_to_actions_in_a_legal_order(name: str, frames: list[str | bytes]) -> None:
    """Nothing is raised; sessions are opened once, before anything is sent to them; nothing follows the end."""
    dialect = DIALECTS[name]()
    taken: list[Action] = dialect.begin()
    for frame in frames:
        taken += dialect.receive(frame)
        if any(isinstance(action, HangUp | EndAndClose) for action in taken):
            break  # the carrier reads no more
    opened = [i for i, action in enumerate(taken) if isinstance(action, Open)]
    ended = [i for i, action in enumerate(taken) if isinstance(action, EndAndClose)]

    assert len(opened) <= 1
    n_sessions = sum(action.n_sessions for action in taken if isinstance(action, Open))
    for i, action in enumerate(taken):
        if isinstance(action, To):
            assert opened
            assert i > opened[0]
            assert action.session is None or action.session < n_sessions
            assert not ended or i < ended[0]


@pytest.mark.parametrize("name", DIALECTS)
def test_an_error_can_be_told_at_any_time(name: str) -> None:
    """Also to a client that has said nothing yet."""
    texts = DIALECTS[name]().fail(ProtocolError("idle", "silent for 60 s"))

    assert all("silent for 60 s" in text for text in texts)
