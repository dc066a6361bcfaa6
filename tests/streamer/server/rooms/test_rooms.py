"""Tests of streamer/server/rooms/rooms.py."""

from __future__ import annotations

import pytest

from streamer.config import Config, LimitsConfig, ServerConfig
from streamer.errors import OverloadError, ProtocolError
from streamer.server.rooms.room import Room
from streamer.server.rooms.rooms import Rooms


def rooms_of(microphone: Room | None = None, *, rooms: bool = True, max_viewers: int = 10) -> Rooms:
    """Rooms as configured."""
    config = Config(server=ServerConfig(rooms=rooms), limits=LimitsConfig(max_viewers=max_viewers))
    return Rooms(config, microphone)


@pytest.mark.parametrize("name", ["", "-a", "a b", "a/b", "../x", "ä", "a" * 65])
def test_a_bad_name_of_a_room_is_refused(name: str) -> None:
    """A name could be mistaken for a path, or not be readable aloud."""
    with pytest.raises(ProtocolError, match="letters, digits") as error, rooms_of().viewing(name):
        pass

    assert error.value.code == "bad_room"


def test_rooms_are_off_unless_enabled() -> None:
    """Neither speaking nor watching; the message says which key."""
    rooms = rooms_of(rooms=False)
    with pytest.raises(ProtocolError, match=r"server\.rooms"), rooms.viewing("stage"):
        pass
    with pytest.raises(ProtocolError, match=r"server\.rooms"), rooms.speaking("stage", "s_1"):
        pass


def test_no_session_speaks_in_the_room_of_the_microphone() -> None:
    """The room exists with --mic alone."""
    microphone = Room()
    with rooms_of(microphone, rooms=False).viewing("microphone") as (room, _):
        assert room is microphone
    with pytest.raises(ProtocolError, match="--mic"), rooms_of().viewing("microphone"):
        pass
    with pytest.raises(ProtocolError, match="own microphone"), rooms_of(microphone).speaking("microphone", "s_1"):
        pass


async def test_one_session_speaks_at_a_time() -> None:
    """Another one is told; the same one, coming back early, takes over."""
    rooms = rooms_of()
    with rooms.speaking("stage", "s_1"):
        with pytest.raises(ProtocolError, match="another session speaks"), rooms.speaking("stage", "s_2"):
            pass
        with rooms.speaking("stage", "s_1") as room:
            pass
        assert room.is_live
    with rooms.speaking("stage", "s_2"):
        pass


async def test_a_room_is_forgotten_when_the_last_one_leaves() -> None:
    """While a viewer stays, so does what was said; then nothing of it does."""
    rooms = rooms_of()
    with rooms.viewing("stage") as (waiting, _):
        with rooms.speaking("stage", "s_1") as room:
            assert room is waiting
        with rooms.viewing("stage") as (still, _):
            assert still is room
    with rooms.viewing("stage") as (new, _):
        assert new is not room
    assert rooms.n_viewers == 0


def test_no_more_viewers_join_than_allowed() -> None:
    """One more is told to come later."""
    rooms = rooms_of(max_viewers=1)
    with rooms.viewing("stage"), pytest.raises(OverloadError), rooms.viewing("stage"):
        pass
    with rooms.viewing("stage"):
        pass


def test_a_viewer_who_is_refused_leaves_no_room_behind() -> None:
    """Names asked for at the limit would be kept for ever."""
    rooms = Rooms(Config(server=ServerConfig(rooms=True), limits=LimitsConfig(max_viewers=1)))
    with rooms.viewing("a"):
        for n in range(10):
            with pytest.raises(OverloadError), rooms.viewing(f"room{n}"):
                pass
        assert rooms.names == ("a",)
    assert rooms.names == ()
