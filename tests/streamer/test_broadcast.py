"""Tests of streamer/broadcast.py."""

from __future__ import annotations

from streamer.broadcast import MAX_PENDING, Broadcast, Viewer
from streamer.events import Caption, Event, Speech, TurnEnd
from tests.helpers.http_daemon import closing, receive, serving


def caption(turn: int, stable: str) -> Caption:
    """The open turn."""
    return Caption(turn=turn, rev=0, stable=stable, partial="", start_s=0.0, end_s=1.0)


def speech(at_s: float) -> Speech:
    """An event that may not be lost."""
    return Speech(state="started", at_s=at_s)


async def shown(viewer: Viewer, n_events: int) -> list[Event]:
    """The next events of a viewer."""
    events: list[Event] = []
    async for event in viewer:
        events.append(event)
        if len(events) == n_events:
            break
    return events


class TestBroadcast:
    """Queues of viewers."""

    async def test_a_caption_replaces_the_one_that_waits(self) -> None:
        """A slow viewer skips captions of the same turn, and nothing else."""
        broadcast = Broadcast()
        viewer = broadcast.join()
        events = [caption(0, "a"), speech(1.0), caption(0, "a b"), caption(1, "c")]
        for event in events:
            broadcast.publish(event)

        assert await shown(viewer, 3) == events[1:]

    async def test_who_comes_late_sees_the_open_turn(self) -> None:
        """The turn that is being spoken is there at once; one that has ended is not."""
        broadcast = Broadcast()
        broadcast.publish(caption(0, "a"))
        assert await shown(broadcast.join(), 1) == [caption(0, "a")]
        broadcast.publish(TurnEnd(turn=0, text="a", start_s=0.0, end_s=1.0, language="en", reason="silence"))
        late = broadcast.join()
        broadcast.publish(speech(2.0))

        assert await shown(late, 1) == [speech(2.0)]

    async def test_who_is_too_far_behind_is_cut(self) -> None:
        """Memory is bounded, and the others miss nothing."""
        broadcast = Broadcast()
        slow, quick = broadcast.join(), broadcast.join()
        for i in range(MAX_PENDING + 1):
            broadcast.publish(speech(float(i)))
            if i == 0:
                await shown(quick, 1)

        assert slow.is_cut
        assert await shown(slow, 1) == []
        assert not quick.is_cut

    async def test_who_has_left_gets_nothing(self) -> None:
        """A viewer that left is forgotten."""
        broadcast = Broadcast()
        viewer = broadcast.join()
        broadcast.leave(viewer)
        for i in range(MAX_PENDING + 1):
            broadcast.publish(speech(float(i)))

        assert not viewer.is_cut


class TestWatch:
    """The read-only feed."""

    async def test_viewers_see_what_is_published(self) -> None:
        """The open turn at once, then everything."""
        microphone = Broadcast()
        async with serving(microphone=microphone) as daemon:
            microphone.publish(caption(0, "so"))
            async with daemon.connect("/v1/watch") as viewer:
                first = await receive(viewer)
                microphone.publish(caption(0, "so the"))
                second = await receive(viewer)

        assert (first["stable"], second["stable"]) == ("so", "so the")

    async def test_a_viewer_cut_is_told_to_come_back(self) -> None:
        """1013 means later."""
        microphone = Broadcast()
        async with serving(microphone=microphone) as daemon, daemon.connect("/v1/watch") as viewer:
            microphone.publish(speech(0.0))
            await receive(viewer)
            for i in range(MAX_PENDING + 1):
                microphone.publish(speech(float(i)))
            _, code = await closing(viewer)

        assert code == 1013

    async def test_without_microphone(self) -> None:
        """The page can say why it shows nothing."""
        async with serving() as daemon, daemon.connect("/v1/watch") as viewer:
            messages, code = await closing(viewer)

        assert (messages[-1]["code"], code) == ("no_microphone", 1000)
