"""Tests of streamer/scheduling/admission.py: who gets a place, and who gives one away."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from streamer.errors import OverloadError
from streamer.protocol.events import Bye
from streamer.scheduling.admission import WAITING_COST
from tests.helpers.scripted_engine import collect, recite, serving, spoken, story, texts


async def test_no_more_than_the_capacity() -> None:
    """One more is refused with the seconds after which to try again; a place that is left is given away."""
    async with serving(max_sessions=2) as service:
        first, _ = service.open(), service.open()
        with pytest.raises(OverloadError, match="2 of 2 sessions open") as refused:
            service.open()
        assert refused.value.retry_after_s > 0
        assert service.count("streamer_sessions") == 2
        assert service.count("streamer_sessions_refused_total") == 1

        first.end()
        await collect(first)
        service.open()


async def test_no_more_than_a_key_may_have() -> None:
    """Sessions without a connection count too; other callers, and callers without a name, are not concerned."""
    async with serving(max_sessions=8, max_per_caller=2, resume_s=3600) as service:
        first, second = service.open(caller="kitchen"), service.open(caller="kitchen")
        await second.feed(spoken("b"))
        second.detach()
        with pytest.raises(OverloadError, match="no free place for this API key: 2 sessions open"):
            service.open(caller="kitchen")
        service.open(caller="office")
        for _ in range(3):
            service.open()

        first.end()
        await collect(first)
        service.open(caller="kitchen")


async def test_a_session_without_sound_gives_way() -> None:
    """The oldest of those that only ever sent zeros, or nothing; with sound a session keeps its place."""
    async with serving(max_sessions=3, silent_s=0.0) as service:
        silent, muted, speaking = (service.open(caller="kitchen") for _ in range(3))
        await muted.feed(np.zeros(16_000, np.float32))
        await speaking.feed(spoken("b c d f"))
        newcomers = [service.open(), service.open()]
        for stream in (silent, muted):
            with pytest.raises(OverloadError, match="no sound came"):
                await collect(stream)
        for newcomer in newcomers:
            await newcomer.feed(spoken("g"))
        with pytest.raises(OverloadError, match="3 of 3 sessions open"):
            service.open()
        assert texts(await recite(speaking, "")) == ["b c d f"]


async def test_a_caller_makes_room_among_its_own() -> None:
    """At the bound of a key its own session without sound gives way, and no other's."""
    async with serving(max_per_caller=1, silent_s=0.0) as service:
        other, own = service.open(caller="office"), service.open(caller="kitchen")
        service.open(caller="kitchen")
        with pytest.raises(OverloadError, match="no sound came"):
            await collect(own)
        other.end()
        assert [type(event) for event in await collect(other)][-1] is Bye


async def test_who_has_most_makes_room_for_who_has_less() -> None:
    """A session without sound of the caller who has filled all places gives way at once; one with sound never does."""
    async with serving(max_sessions=4, greedy_s=0.0) as service:
        greedy = [service.open(caller="greedy") for _ in range(4)]
        await greedy[0].feed(spoken("b c d f"))
        modest = [service.open(caller="modest") for _ in range(2)]
        for stream in greedy[1:3]:
            with pytest.raises(OverloadError, match="no sound came"):
                await collect(stream)
        for caller in ("greedy", "modest"):
            with pytest.raises(OverloadError, match="4 of 4 sessions open"):
                service.open(caller=caller)
        assert texts(await recite(greedy[0], "")) == ["b c d f"]
        await modest[0].feed(spoken("g"))


async def test_a_new_session_has_time_to_begin() -> None:
    """Sound needs a moment to come: a session that was just opened does not give way."""
    async with serving(max_sessions=1, silent_s=3600.0) as service:
        service.open()
        with pytest.raises(OverloadError, match="1 of 1 sessions open"):
            service.open()


async def test_a_lost_client_that_never_had_sound_holds_no_place() -> None:
    """There is nothing to come back for."""
    async with serving(max_sessions=1, resume_s=3600) as service:
        stream = service.open()
        await stream.feed(np.zeros(16_000, np.float32))
        stream.detach()
        service.open()
        assert isinstance((await collect(stream))[-1], Bye)


async def test_a_client_that_does_not_come_back_frees_its_place_at_once() -> None:
    """Also while audio waits, which is dropped, and while a step runs; a place that another connection has is kept."""
    async with serving(max_sessions=1, resume_s=3600) as service:
        stream = service.open()
        await stream.feed(spoken("b c d f"))
        service.scheduler.resume(stream.id, stream.token)
        stream.detach(is_final=True)
        with pytest.raises(OverloadError):
            service.open()
        service.engine.hold()
        await service.held()
        await stream.feed(spoken(story(60)))
        stream.detach(is_final=True)
        again = service.open()
        assert stream.backlog_s < 1.0
        service.engine.release()
        assert isinstance((await collect(stream))[-1], Bye)
        assert texts(await recite(again, "g h")) == ["g h"]


async def test_a_session_that_waits_costs_a_part_of_a_measured_place() -> None:
    """It needs no steps; where the operator has set the number of sessions, it counts as one."""
    for max_sessions in (0, 8):
        async with serving(max_sessions=max_sessions, resume_s=3600) as service:
            capacity = service.scheduler.capacity
            for _ in range(capacity):
                stream = service.open()
                await stream.feed(spoken("b"))
                stream.detach()
            newcomers: list[object] = []
            with contextlib.suppress(OverloadError):
                newcomers += (service.open() for _ in range(capacity + 1))
            assert len(newcomers) == (0 if max_sessions else int(capacity * (1 - WAITING_COST)))


async def test_room_for_another_process_is_made_by_whom_it_names() -> None:
    """The oldest session without sound of a caller, or of anybody; one with sound, or too new, keeps its place."""
    async with serving(silent_s=3600.0, greedy_s=0.0) as service:
        make_room = service.scheduler.make_room
        office, kitchen, speaking = (service.open(caller=caller) for caller in ("office", "kitchen", "kitchen"))
        await speaking.feed(spoken("b c d f"))
        assert not make_room("kitchen"), "too new"
        assert not make_room("garden", is_greedy=True)

        assert make_room("kitchen", is_greedy=True)
        with pytest.raises(OverloadError, match="no sound came"):
            await collect(kitchen)
        assert make_room("", is_greedy=True)
        with pytest.raises(OverloadError, match="no sound came"):
            await collect(office)
        assert not make_room("", is_greedy=True)
        assert texts(await recite(speaking, "")) == ["b c d f"]
