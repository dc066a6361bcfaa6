"""Tests of streamer/gateways/wire.py: what crosses between a gateway and the hub, and what does not."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from streamer.config import Config
from streamer.engine_process import ready
from streamer.gateways import wire
from streamer.gateways.wire import HubWireError
from streamer.protocol.events import TurnEnd, Word
from streamer.remote.joined import Address
from streamer.scheduling.load import StepCosts
from tests.helpers.hosted_engines import facts

EVENT = TurnEnd(
    turn=1,
    text="a",
    start_s=0.0,
    end_s=1.0,
    language="en",
    reason="silence",
    words=(Word(text="a", start_s=0.0, end_s=1.0, confidence=0.9),),
)


def body(frame: bytes) -> bytes:
    """Of a frame."""
    assert wire.FRAMING.length_of(frame[: wire.LENGTH.size]) == len(frame) - wire.LENGTH.size
    return frame[wire.LENGTH.size :]


@pytest.mark.parametrize(
    "message",
    [
        wire.Take(id=1, place=1, session="s", token="r", caller="", capacity=3, resumed=("s_0", "r_0")),
        wire.Publish(speaker=1, event=EVENT),
        wire.Speak(id=1, speaker=1, room="hall", session="s", past=(EVENT,), first=2),
    ],
)
def test_messages_of_a_gateway_cross(message: wire.Message) -> None:
    """As they are."""
    assert wire.from_gateway(body(wire.pack(message))) == message


def test_what_a_gateway_is_to_serve_crosses() -> None:
    """The whole configuration, the vocabulary, and where engines are reached."""
    begin = wire.Begin(
        version=wire.VERSION,
        config=Config(),
        index=1,
        ready=(ready(facts(), StepCosts(0.1, 0.2), {"machine": "m"}, []),),
        engines=(Address(name="0", path=Path("/run/streamer/0")),),
        sockets=(3, 4),
    )
    assert wire.from_hub(body(wire.pack(begin))) == begin


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode({"type": "Take"}),
        msgspec.msgpack.encode({"type": "Stop"}),
        msgspec.msgpack.encode({"type": "Weigh", "place": "1", "weight": 0.0}),
        msgspec.msgpack.encode({"type": "Publish", "speaker": 1, "event": {"type": "bye"}}),
    ],
)
def test_anything_else_is_refused(sent: bytes) -> None:
    """With what is wrong with it."""
    with pytest.raises(HubWireError, match="no message of a gateway"):
        wire.from_gateway(sent)


def test_lengths_are_bounded() -> None:
    """Before anything is read."""
    with pytest.raises(HubWireError, match="expected at most"):
        wire.FRAMING.length_of(wire.LENGTH.pack(wire.MAX_BYTES + 1))
    with pytest.raises(HubWireError, match="expected at most"):
        wire.pack(wire.Answer(id=1, metrics=bytes(wire.MAX_BYTES)))
