"""Tests of streamer/server/pieces.py: whose turn it is, and what waits meanwhile."""

from __future__ import annotations

import asyncio

from streamer.server.pieces import MAX_PIECE_BYTES, MIN_PIECE_BYTES, Pieces, Turns
from tests.helpers.waiting import until_idle


class Reading(asyncio.Transport):
    """Notes whether it is read."""

    is_read = True

    def pause_reading(self) -> None:
        """Read nothing."""
        self.is_read = False

    def resume_reading(self) -> None:
        """Read on."""
        self.is_read = True


async def test_who_comes_first_is_served_first() -> None:
    """However many others wait, and the others get their turn as well."""
    turns, served = Turns(asyncio.get_running_loop()), list[str]()
    for n in range(3):
        turns.queue(lambda n=n: served.append(f"stranger {n}"))  # type: ignore[misc]
    turns.queue(lambda: served.append("stream"), is_first=True)
    await until_idle()

    assert served == ["stream", "stranger 0", "stranger 1", "stranger 2"]


async def test_what_fails_keeps_no_turn_from_others() -> None:
    """The error goes to the loop."""
    loop, served, errors = asyncio.get_running_loop(), list[str](), list[object]()
    loop.set_exception_handler(lambda _, context: errors.append(context["exception"]))
    turns = Turns(loop)
    turns.queue(lambda: [][0], is_first=True)
    turns.queue(lambda: served.append("other"))
    await until_idle()

    assert served == ["other"]
    assert len(errors) == 1


async def test_a_peer_whose_turn_is_far_is_not_read_further() -> None:
    """What it sends meanwhile stays in the kernel; once all is parsed it is read again."""
    transport, parsed = Reading(), list[bytes]()

    def parse(piece: bytes) -> float:
        parsed.append(piece)
        return 0.0

    pieces = Pieces(Turns(asyncio.get_running_loop()), transport, parse, lambda: True)
    pieces.add(bytes(MAX_PIECE_BYTES + 1))
    assert not transport.is_read
    await until_idle()

    assert transport.is_read
    assert b"".join(parsed) == bytes(MAX_PIECE_BYTES + 1)


async def test_a_piece_is_as_long_as_its_connection_allows() -> None:
    """A head of a request is read in short ones."""
    parsed = list[int]()

    def parse(piece: bytes) -> float:
        parsed.append(len(piece))
        return 0.0

    turns = Turns(asyncio.get_running_loop())
    pieces = Pieces(turns, Reading(), parse, lambda: True, most_bytes=lambda: MIN_PIECE_BYTES)
    pieces.add(bytes(10 * MIN_PIECE_BYTES))
    await until_idle()

    assert parsed == [MIN_PIECE_BYTES] * 10
