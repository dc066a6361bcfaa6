"""Tests of streamer/remote/wire.py: what is sent arrives, and what is no message is refused."""

from __future__ import annotations

from typing import get_type_hints

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.config import Config
from streamer.protocol.options import Task
from streamer.remote import wire
from streamer.step import StepRequest, StepResult
from streamer.telemetry.metrics import DecoderPass, StepTimes

N_MELS = 5
TOKENS = st.lists(st.integers(0, 60_000), max_size=8).map(tuple)
TEXT = st.text(max_size=12)


OF_TYPE = {
    bool: st.booleans(),
    int: st.integers(0, 10**9),
    float: st.floats(0, 30),
    str: TEXT,
    int | None: st.none() | st.integers(0, 10**9),
    str | None: st.none() | TEXT,
    tuple[int, ...]: TOKENS,
    tuple[float, ...]: st.lists(st.floats(0, 3), max_size=3).map(tuple),
    tuple[str, ...]: st.lists(TEXT, max_size=3).map(tuple),
    Task: st.sampled_from(["transcribe", "translate"]),
}
"""Values of the fields of a request: a field that is added crosses too."""
HINTS = {name: hint for name, hint in get_type_hints(StepRequest).items() if name != "log_mel"}


@st.composite
def requests(draw: st.DrawFn) -> StepRequest:
    """Requests of any session."""
    n_frames, seed = draw(st.integers(1, 40)), draw(st.integers(0, 1000))
    log_mel = torch.randn(N_MELS, n_frames, generator=torch.Generator().manual_seed(seed)) * 4 - 3
    return StepRequest(log_mel=log_mel, **{name: draw(OF_TYPE[hint]) for name, hint in HINTS.items()})


def call(*rows: wire.Row) -> wire.Call:
    """A call of these rows."""
    return wire.Call(id=1, fingerprint="f", deadline_s=2.5, most_rows=4, rows=rows)


def arrived(message: wire.Message) -> wire.FromGateway:
    """A message of a gateway as the engine gets it."""
    frame = wire.pack(message)
    body = frame[wire.LENGTH.size :]
    assert wire.FRAMING.length_of(frame[: wire.LENGTH.size]) == len(body)
    return wire.from_gateway(body)


@settings(max_examples=60)
@given(st.lists(requests(), max_size=4), st.data())
def test_requests_arrive_with_the_frames_that_were_sent(sent: list[StepRequest], data: st.DataObject) -> None:
    """Every field is the same; frames cross in float16, and those left out are taken from what is held."""
    firsts = [data.draw(st.integers(0, each.log_mel.shape[1])) for each in sent]

    message = arrived(call(*map(wire.row_of, sent, firsts)))

    assert isinstance(message, wire.Call)
    for request, first, row in zip(sent, firsts, message.rows, strict=True):
        held = request.log_mel[:, : data.draw(st.integers(first, request.log_mel.shape[1]))].half()
        found = wire.request_of(row, N_MELS, held)
        assert row.request.log_mel.numel() == N_MELS * (request.log_mel.shape[1] - first)
        assert torch.equal(found.log_mel, request.log_mel.half().float())
        assert all(getattr(found, name) == getattr(request, name) for name in HINTS)


def test_a_second_of_new_audio_takes_sixteen_kilobytes_of_eighty_bands() -> None:
    """As many bytes as float16 needs, and a few hundred for the rest of the request."""
    request = StepRequest(session="s_123456789", log_mel=torch.zeros(80, 1000), prefix=(50000,) * 30, window_start=0)

    assert 100 * 80 * 2 < len(wire.pack(call(wire.row_of(request, 900)))) < 100 * 80 * 2 + 600


@settings(max_examples=60)
@given(TOKENS, st.booleans(), st.floats(0, 10), TEXT)
def test_replies_arrive(tokens: tuple[int, ...], ended: bool, seconds: float, error: str) -> None:
    """Results, errors and the times of steps."""
    result = StepResult(
        tokens=tokens,
        logprobs=(-0.5,) * len(tokens),
        starts_s=(0.5,) * (len(tokens) + 1),
        n_verified=len(tokens),
        ended=ended,
        no_speech_prob=0.25,
        language="en",
    )
    step = StepTimes(
        encode_s=seconds,
        detect_s=None,
        passes=[DecoderPass(kind="verify", seconds=seconds, n_rows=2)],
        align_s=0.5,
        rows=[(seconds, 3)],
    )
    rows = (wire.RowAnswer(result=result), wire.RowAnswer(error=error), wire.RowAnswer(needs_all=True))
    reply = wire.Reply(id=3, rows=rows, seconds=seconds, n_rows=5, times=(step,))

    assert wire.from_engine(wire.pack(reply)[wire.LENGTH.size :]) == reply


def test_the_configuration_arrives() -> None:
    """An engine process is told all of it."""
    begin = wire.Begin(version=1, config=Config(), name="0")

    assert arrived(begin) == begin


@given(st.binary(max_size=200))
def test_bytes_that_are_no_message_are_refused(body: bytes) -> None:
    """With one kind of error, whatever they are."""
    for decode in (wire.from_gateway, wire.from_engine):
        with pytest.raises(wire.WireError):
            decode(body)


@settings(max_examples=60)
@given(requests(), st.data())
def test_a_message_that_was_cut_or_changed_is_refused_or_still_a_message(
    request: StepRequest, data: st.DataObject
) -> None:
    """Nothing else happens to the one who decodes it."""
    body = bytearray(wire.pack(call(wire.row_of(request, 0)))[wire.LENGTH.size :])
    body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))

    try:
        message = wire.from_gateway(bytes(body[: data.draw(st.integers(0, len(body)))]))
        for row in message.rows if isinstance(message, wire.Call) else ():
            wire.request_of(row, N_MELS)
    except wire.WireError:
        pass


@pytest.mark.parametrize(
    ("first", "n_frames"), [(-1, 10), (10, 10), (0, 9), (0, 11), (5, 2**40), (5, 15), (6, 16), (0, 0), (0, -10)]
)
def test_a_row_must_hold_the_frames_that_it_announces(first: int, n_frames: int) -> None:
    """Behind those that are held, and no shape that a peer names makes the engine take memory for it."""
    held = torch.zeros(N_MELS, 4)
    row = wire.row_of(StepRequest(session="s", log_mel=torch.zeros(N_MELS, 10)), 0)
    received = arrived(call(wire.Row(request=row.request, first=first, n_frames=n_frames)))
    assert isinstance(received, wire.Call)

    with pytest.raises(wire.WireError, match="frames"):
        wire.request_of(received.rows[0], N_MELS, held)


def test_a_longer_message_than_allowed_is_refused() -> None:
    """Before any memory is taken for it."""
    with pytest.raises(wire.WireError, match="expected at most"):
        wire.FRAMING.length_of(wire.LENGTH.pack(wire.MAX_BYTES + 1))


def test_a_newer_side_may_add_fields() -> None:
    """They are ignored, so a gateway of the next version can use an engine of this one."""

    class Newer(wire.Message, tag="Forget"):
        sessions: tuple[str, ...]
        because: str

    assert arrived(Newer(sessions=("a",), because="it is over")) == wire.Forget(sessions=("a",))
