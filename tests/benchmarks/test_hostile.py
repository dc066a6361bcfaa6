"""Tests of benchmarks/hostile: attacks are well formed, bounded, and stay on this machine."""

from __future__ import annotations

import asyncio
import itertools
import time

import pytest

from benchmarks.hostile.attack import STRANGERS, Attack, run
from benchmarks.hostile.attacks import ATTACKS
from benchmarks.hostile.crowd import members
from benchmarks.hostile.honest import State, longest
from benchmarks.hostile.requests import again, frame
from tests.helpers.http_daemon import serving
from tests.helpers.unheld_loop import unheld_loop


def test_attacks_have_names_of_their_own() -> None:
    """A row of the table is found by its name; there are those of the first report and fifteen others."""
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS) >= 80


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_what_is_sent_is_bounded(attack: Attack) -> None:
    """A payload is no longer than what a client may send at once."""
    for payload in itertools.islice(attack.payload(), 3):
        assert 0 < len(payload) < 2_000_000
    assert len(attack.opening) < 1_100_000


def test_strangers_are_on_loopback() -> None:
    """Nobody else is attacked."""
    assert all(source.startswith("127.0.0.") for source in STRANGERS)


@pytest.mark.parametrize("n", [0, 125, 126, 65_535, 65_536])
def test_frames_have_their_length(n: int) -> None:
    """In each of the three forms that a length has."""
    assert frame(bytes(n)).endswith(bytes(4) + bytes(n))


def test_a_hold_is_told_by_its_bucket() -> None:
    """Only holds between the two moments count."""

    def at(**held: float) -> State:
        edges = {edge.replace("e", "").replace("inf", "+Inf"): count for edge, count in held.items()}
        return State(memory_mb=1, n_sessions=0, n_log_bytes=0, n_tracebacks=0, late={"held": edges})

    assert longest(at(inf=3), at(inf=3), "held") == "< 0.05"
    assert longest(at(e1=1, e2=1, inf=1), at(e1=1, e2=2, inf=2), "held") == "< 2"
    assert longest(at(e1=0, e2=0, inf=0), at(e1=0, e2=0, inf=1), "held") == "> 2"


def test_a_crowd_is_of_every_kind() -> None:
    """Strangers come from several addresses, who has a key from one; the first ones are all different."""
    crowd = list(members(3000))
    assert len(crowd) == 3000
    assert len({attack.name for attack, _ in crowd[:10]}) == 10
    assert {source for attack, source in crowd if not attack.has_key} == set(STRANGERS)
    assert all(source == "127.0.0.1" for attack, source in crowd if attack.has_key)


async def test_an_attack_ends_by_itself() -> None:
    """After the time that it was given, whatever the daemon does; the loop that serves is held by none."""
    attack = Attack("reads", b"", again(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"), 3, has_key=False)
    async with serving() as daemon, unheld_loop():
        began_s = time.monotonic()
        async with asyncio.timeout(120):
            await run(attack, daemon.port, 0.2)

    assert time.monotonic() - began_s >= 0.2
