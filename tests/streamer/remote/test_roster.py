"""Tests of streamer/remote/roster.py: what a gateway and its keeper say to each other."""

from __future__ import annotations

import pytest

from streamer.config import Config
from streamer.remote import roster, wire

BEGIN = wire.Begin(version=wire.VERSION, config=Config(), random_weights=False, name="0")
KEEP = roster.Keep(address="", family="f", begin=BEGIN, build="a:b", count=1, most=2)
ADDRESS = roster.Address(index=0, host="192.0.2.7", port=4000, secret="ab", pid=17)


@pytest.mark.parametrize("message", [KEEP, roster.Number(n=3)])
def test_a_gateway_is_understood(message: roster.FromGateway) -> None:
    """One message a line."""
    line = roster.line(message)

    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert roster.from_gateway(line) == message


@pytest.mark.parametrize(
    "message",
    [
        roster.Bounds(count=1, most=2),
        roster.Roster(n=2, ready=(ADDRESS,), failures=("no such model\nand more",)),
        wire.Failed(kind="DeviceError", message="the device failed"),
    ],
)
def test_a_keeper_is_understood(message: roster.FromKeeper) -> None:
    """Also where the text of a failure has lines."""
    line = roster.line(message)

    assert line.count(b"\n") == 1
    assert roster.from_keeper(line) == message


@pytest.mark.parametrize("line", [b"", b"{", b'{"type":"Other"}', roster.line(roster.Bounds(count=1, most=2))])
def test_what_no_gateway_says_is_an_error(line: bytes) -> None:
    """What a keeper says is among it."""
    with pytest.raises(wire.WireError, match="no line of a gateway"):
        roster.from_gateway(line)


@pytest.mark.parametrize("line", [b"", b"{", b'{"type":"Other"}', roster.line(roster.Number(n=3))])
def test_what_no_keeper_says_is_an_error(line: bytes) -> None:
    """What a gateway says is among it."""
    with pytest.raises(wire.WireError, match="no line of a keeper"):
        roster.from_keeper(line)
