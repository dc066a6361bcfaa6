"""Tests of streamer/server/rooms/mirror.py: viewers of another process see what viewers of the room see."""

from __future__ import annotations

import asyncio

import pytest

from streamer.protocol.events import TurnEnd
from streamer.server.rooms.base_room import MAX_PENDING, Message, Viewer
from streamer.server.rooms.mirror import Mirror, RelayedViewer
from streamer.server.rooms.room import Past, Room
from tests.helpers.waiting import until_idle
from tests.streamer.server.rooms.test_room import caption, turn_end


class Pair:
    """A room, and its mirror in another process."""

    def __init__(self) -> None:
        self.room = Room("hall")
        self.mirror = Mirror("hall")
        self._relayed = self.room.join_as(RelayedViewer)

    async def relay(self) -> None:
        """Hand on what waits."""
        batch = await self._relayed.batch()
        assert batch is not None
        begins, messages = batch
        self.mirror.take(messages, run=self.room.run, begins=begins)


async def texts(viewer: Viewer) -> list[str]:
    """What waits for a viewer."""
    found: list[str] = []

    async def read() -> None:
        async for message in viewer:
            found.append(message.text)  # noqa: PERF401 - the iteration never ends

    reading = asyncio.create_task(read())
    await until_idle()
    reading.cancel()
    return found


def past() -> Past:
    """Two turns that were said before."""
    ended = [turn_end(turn, f"turn {turn}") for turn in range(2)]
    assert all(isinstance(each, TurnEnd) for each in ended)
    return Past(ended, 2)


async def test_a_viewer_here_and_one_there_see_the_same() -> None:
    """From before the speaker comes to after it has left, with a transcript that replaces another."""
    pair = Pair()
    await pair.relay()
    there, here = pair.room.join(), pair.mirror.join()
    with pair.room.speaking("s_1"):
        for event in (caption(0, "one"), turn_end(0, "one"), caption(1, "two")):
            pair.room.publish(event)
            await pair.relay()
        late_there, late_here = pair.room.join(), pair.mirror.join()
    with pair.room.speaking("s_2", past()):
        await pair.relay()
        pair.room.publish(caption(0, "more"))
        await pair.relay()
    await pair.relay()

    assert await texts(here) == await texts(there)
    assert await texts(late_here) == await texts(late_there)
    assert await texts(pair.mirror.join()) == await texts(pair.room.join())


async def test_a_viewer_goes_on_after_the_last_message_that_it_has() -> None:
    """The numbers of messages are those of the room, so it may come back to another process."""
    pair = Pair()
    with pair.room.speaking("s_1"):
        for turn in range(3):
            pair.room.publish(turn_end(turn, f"turn {turn}"))
    await pair.relay()
    numbers = [message.number for message in pair.room._turns.values()]

    assert await texts(pair.mirror.join(numbers[1])) == await texts(pair.room.join(numbers[1]))
    assert pair.mirror.run == pair.room.run


async def test_a_process_that_reads_too_slowly_is_cut() -> None:
    """It begins anew with all that is kept."""
    pair = Pair()
    await pair.relay()
    with pair.room.speaking("s_1"):
        for turn in range(MAX_PENDING + 1):
            pair.room.publish(turn_end(turn, f"turn {turn}"))
    assert await pair._relayed.batch() is None

    viewer = pair.mirror.join()
    pair.room.begin_again(pair._relayed)
    await pair.relay()
    assert await texts(viewer) == await texts(pair.room.join())


async def test_a_mirror_has_begun_with_its_first_messages() -> None:
    """Before that nobody can join."""
    pair = Pair()
    waiting = asyncio.create_task(pair.mirror.wait_begun())
    await until_idle()
    assert not waiting.done()
    await pair.relay()
    await waiting


@pytest.mark.parametrize("text", ['{"type":"bye"}', "{}"])
def test_other_messages_are_no_messages_of_a_room(text: str) -> None:
    """An error of the process that sends them."""
    with pytest.raises(ValueError, match=r"type|Invalid"):
        Mirror("hall").take([Message(1, None, text)], run="r", begins=True)
