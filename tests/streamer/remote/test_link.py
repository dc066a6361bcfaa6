"""Tests of streamer/remote/link.py: when an engine counts as silent, as well again, and as lost."""

from __future__ import annotations

import asyncio
import errno

import pytest

from streamer.remote import wire
from streamer.remote.link import HANGING, SILENT, STEADY, EngineAwayError, EngineLink, EngineLostError, run_link
from tests.helpers.waiting import until_idle


class Peer:
    """An engine that answers pings as a test says."""

    def __init__(self) -> None:
        self.sent: list[wire.FromGateway] = []
        self.changes = 0
        self.link = EngineLink("0", self._send)
        self.link.on_change = self._changed

    def _changed(self) -> None:
        self.changes += 1

    def _send(self, frame: bytes) -> None:
        self.sent.append(wire.from_gateway(frame[wire.LENGTH.size :]))

    def pong(self, *, is_alive: bool = True, n_rebuilt: int = 0) -> None:
        """Answer a ping."""
        self.link.take(wire.Pong(is_alive=is_alive, text_bytes=1, audio_bytes=2, n_rebuilt=n_rebuilt))

    def call(self) -> asyncio.Future[wire.Reply]:
        """A call without rows."""
        return self.link.begin(wire.Call(fingerprint="f", deadline_s=1.0, most_rows=1, rows=()))[0]


def reply(number: int) -> wire.Reply:
    """To a call without rows."""
    return wire.Reply(id=number, rows=(), seconds=0.1, n_rows=0)


async def test_a_connection_that_times_out_is_lost() -> None:
    """As that of a machine without power; it is an error of the network, and ends no gateway."""
    peer, reader = Peer(), asyncio.StreamReader()
    running = asyncio.create_task(run_link(peer.link, reader))
    await until_idle()
    reader.set_exception(TimeoutError(errno.ETIMEDOUT, "Connection timed out"))
    await running
    assert not peer.link.is_answering


async def test_answers_go_to_their_calls_whatever_their_order() -> None:
    """An answer that comes twice counts once, one that nobody waits for is dropped."""
    peer = Peer()
    first, second = peer.call(), peer.call()
    for number in (1, 0, 1, 7):
        peer.link.take(reply(number))

    assert ((await first).id, (await second).id) == (0, 1)
    await asyncio.sleep(0)
    assert peer.link.n_calls == 0


async def test_an_engine_without_answers_is_silent_and_its_calls_are_given_up() -> None:
    """It takes no call then; one answer makes it take calls again, several in time make it well."""
    peer = Peer()
    given_up = peer.call()
    for _ in range(SILENT):
        assert peer.link.is_answering
        peer.link.tick()
    assert not peer.link.is_answering
    with pytest.raises(EngineAwayError, match="engine 0 is silent"):
        await given_up
    with pytest.raises(EngineAwayError, match="does not answer"):
        peer.call()

    peer.pong()
    assert peer.link.is_answering
    for n in range(STEADY):
        assert not peer.link.is_steady, n
        peer.link.tick()
        peer.pong()
    peer.link.tick()
    assert peer.link.is_steady
    assert peer.changes >= 3


async def test_a_burst_of_answers_to_old_pings_is_no_proof_of_health() -> None:
    """A process that stood still answers everything at once; what it does from then on counts."""
    peer = Peer()
    for _ in range(2 * SILENT):
        peer.link.tick()
    for _ in range(2 * SILENT):
        peer.pong()

    assert peer.link.is_answering
    assert not peer.link.is_steady


async def test_an_engine_that_is_silent_for_long_is_replaced() -> None:
    """And so is one whose device hangs, or which has other weights."""
    peer = Peer()
    for _ in range(HANGING):
        assert not peer.link.is_hanging
        peer.link.tick()
    assert peer.link.is_hanging

    broken = Peer()
    broken.pong(is_alive=False)
    assert broken.link.is_hanging
    assert not broken.link.is_answering

    foreign = Peer()
    refused = foreign.call()
    foreign.link.take(wire.Refused(id=0, reason="fingerprint"))
    assert foreign.link.is_hanging
    with pytest.raises(EngineAwayError, match="refuses a call: fingerprint"):
        await refused


async def test_an_engine_that_was_too_slow_is_trusted_again_with_its_next_answer() -> None:
    """Pings alone are no sign that its device works."""
    peer = Peer()
    peer.call().cancel()
    peer.link.doubt()
    for _ in range(2 * STEADY):
        peer.link.tick()
        peer.pong()
    assert peer.link.is_answering
    assert not peer.link.is_steady

    peer.link.take(reply(0))
    assert peer.link.is_steady


async def test_a_lost_connection_gives_up_all_calls() -> None:
    """At once."""
    peer = Peer()
    calls = [peer.call(), peer.call()]
    peer.link.lose()

    assert [type(each) for each in await asyncio.gather(*calls, return_exceptions=True)] == [EngineLostError] * 2
    peer.link.forget(("a",))
    assert not any(isinstance(message, wire.Forget) for message in peer.sent)


async def test_engines_built_again_are_counted_once() -> None:
    """Every answer tells the number since the process began."""
    peer, counted = Peer(), list[int]()
    peer.link.on_rebuilt = counted.append
    for n_rebuilt in (0, 1, 1, 3):
        peer.pong(n_rebuilt=n_rebuilt)

    assert counted == [1, 2]


async def test_engines_built_again_before_a_connection_are_not_counted_with_it() -> None:
    """It may be made again, and other gateways come later: the process lives on."""
    peer, counted = Peer(), list[int]()
    peer.link.on_rebuilt = counted.append
    for n_rebuilt in (3, 4):
        peer.pong(n_rebuilt=n_rebuilt)

    assert counted == [1]


def told(link: EngineLink, clock_s: float, busy_s: float = 0.0) -> None:
    """An answer to a ping, with the clock of the engine and the time of its device."""
    pong = wire.Pong(is_alive=True, text_bytes=0, audio_bytes=0, n_rebuilt=0, clock_s=clock_s, busy_s=busy_s)
    link.take(pong)


async def test_how_far_another_clock_is_ahead_is_never_told_too_much() -> None:
    """The answer that was the fastest counts; one that waited for seconds in a process that stood still does not."""
    now_s = 0.0
    link = EngineLink("0", lambda _: None, ahead_s=90.0, clock=lambda: now_s)
    for late_s in (0.5, 0.01, 20.0, 0.2):
        now_s += 1.0
        told(link, now_s + 100.0 - late_s)

    assert link.ahead_s == pytest.approx(99.99)


async def test_a_clock_that_drifts_is_followed() -> None:
    """What was told long ago does not count any more."""
    now_s = 0.0
    link = EngineLink("0", lambda _: None, ahead_s=100.0, clock=lambda: now_s)
    for _ in range(1000):
        now_s += 0.5
        told(link, now_s + 99.0)

    assert link.ahead_s == pytest.approx(99.0)


async def test_the_share_of_the_device_is_that_of_the_last_seconds() -> None:
    """Nothing is known before two answers."""
    link = EngineLink("0", lambda _: None)
    assert link.share == 0.0
    for n in range(100):
        told(link, 0.5 * n, 0.1 * n)
        assert link.share == (pytest.approx(0.2) if n else 0.0)
    for n in range(100, 120):
        told(link, 0.5 * n, 9.9)

    assert link.share == pytest.approx(0.0)
