"""Tests of streamer/scheduling/inbox.py: samples and commands in order, bounded, and counted rightly."""

from __future__ import annotations

import asyncio

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from streamer.audio.pcm import SAMPLE_RATE
from streamer.errors import OverloadError
from streamer.protocol.events import Event
from streamer.scheduling.inbox import MAX_BLOCKS, MAX_COMMANDS, Inbox
from streamer.session.session import Session
from tests.helpers.waiting import is_waiting


def nothing(_: Session) -> list[Event]:
    """A command without effect."""
    return []


@given(
    puts=st.lists(st.one_of(st.integers(1, 50), st.just("command")), max_size=20),
    bites=st.lists(st.integers(1, 60), max_size=60),
)
def test_nothing_is_lost_or_moved(puts: list[int | str], bites: list[int]) -> None:
    """However it is taken: the same samples in order, and each command behind those that were put before it."""
    inbox, fed = Inbox(100.0), list[float | None]()
    for item in puts:
        if isinstance(item, int):
            fed += map(float, range(len(fed), len(fed) + item))
            inbox.put_samples(torch.tensor(fed[-item:]))
        else:
            fed.append(None)
            inbox.put_command(nothing)
    taken: list[float | None] = []
    for bite in [*bites, *[10**6] * 30]:
        samples = inbox.take_samples(bite)
        assert samples.shape[0] <= bite
        taken += samples.tolist()
        taken += [None for _ in inbox.take_commands()]
        inbox.check_integrity()

    assert taken == fed
    assert not inbox
    assert inbox.backlog_s == 0.0


async def test_samples_wait_for_room() -> None:
    """From the bound on, until something was taken."""
    inbox = Inbox(1.0)
    inbox.put_samples(torch.zeros(SAMPLE_RATE))
    waiting = asyncio.create_task(inbox.wait_for_room())
    assert await is_waiting(waiting)

    inbox.take_samples(1)

    assert not await is_waiting(waiting)


async def test_tiny_blocks_need_room_too() -> None:
    """A sender of single samples is slowed down by their number: each block has a cost of its own."""
    inbox = Inbox(600.0)
    for _ in range(MAX_BLOCKS):
        inbox.put_samples(torch.zeros(1))
    waiting = asyncio.create_task(inbox.wait_for_room())
    assert await is_waiting(waiting)
    inbox.check_integrity()

    inbox.take_samples(10)

    assert not await is_waiting(waiting)


def test_one_command_too_many() -> None:
    """It is refused; those that wait stay."""
    inbox = Inbox(1.0)
    for _ in range(MAX_COMMANDS):
        inbox.put_command(nothing)

    with pytest.raises(OverloadError, match="send fewer"):
        inbox.put_command(nothing)

    inbox.check_integrity()
    assert len(inbox.take_commands()) == MAX_COMMANDS


async def test_nobody_waits_for_a_closed_inbox() -> None:
    """However full it is; what waits can still be taken, unless it is cleared."""
    inbox = Inbox(1.0)
    inbox.put_samples(torch.zeros(2 * SAMPLE_RATE))
    inbox.close()
    await inbox.wait_for_room()
    inbox.check_integrity()
    assert inbox.take_samples(10**6).shape == (2 * SAMPLE_RATE,)

    inbox.put_samples(torch.zeros(2 * SAMPLE_RATE))
    inbox.clear()
    await inbox.wait_for_room()
    inbox.check_integrity()
    assert not inbox
    assert inbox.backlog_s == 0.0


def test_a_wrong_count_is_found() -> None:
    """A counter that drifts from what waits would slow a sender down for ever."""
    inbox = Inbox(1.0)
    samples = torch.zeros(100)
    inbox.put_samples(samples)
    samples.resize_(50)  # as if half of a block had been lost

    with pytest.raises(AssertionError, match="counts 100 samples and 0 commands, but holds 50 and 0"):
        inbox.check_integrity()
