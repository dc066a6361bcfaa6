"""
Thousands of connections at once, idle, half open and hostile, of strangers and of a key.

    python -m benchmarks.hostile.crowd N PORT SECONDS
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import Iterator

from benchmarks.hostile.attack import STRANGERS, Attack, attack_from
from benchmarks.hostile.requests import again, once, request, start, upgrade
from streamer.host.open_files import allow_all_files

KINDS = (
    Attack("idle", b"", once(), has_key=False),
    Attack("half a head", b"GET / HTTP/1.1\r\nHost: localhost\r\nX:", once(), has_key=False),
    Attack("head byte by byte", b"GET / HTTP/1.1\r\nHost: localhost\r\n", again(b"X"), has_key=False),
    Attack("an answered request", request("GET", "/healthz", key=False), once(), has_key=False),
    Attack(
        "a wrong key",
        upgrade("/v1/captions", "Authorization: Bearer wrong-wrong-wrong-wrong", key=False),
        once(),
        has_key=False,
        is_renewed=True,
    ),
    Attack("reads without pause", b"", again(request("GET", "/info", key=False) * 20), has_key=False),
    Attack(
        "a body after 401",
        request("POST", "/v1/tokens", "Content-Length: 99999", key=False),
        again(b"x"),
        has_key=False,
    ),
    Attack(
        "answers that are not taken",
        b"",
        once(request("GET", "/pages/page.css", key=False) * 100),
        has_key=False,
        is_read=False,
    ),
    Attack("idle, with a key", upgrade(), once()),
    Attack("half a frame, with a key", start() + b"\x82\xfe\x0f", once()),
)


def members(n: int) -> Iterator[tuple[Attack, str]]:
    """The connections of a crowd: of each kind as many, each stranger from the next address."""
    addresses = itertools.cycle(STRANGERS)
    for kind in itertools.islice(itertools.cycle(KINDS), n):
        yield kind, "127.0.0.1" if kind.has_key else next(addresses)


async def gather_crowd(n: int, port: int, seconds: float) -> None:
    """Open all connections and hold them, open those that are cut again."""
    allow_all_files()
    end_s = time.monotonic() + seconds
    await asyncio.gather(*(attack_from(source, kind, port, end_s) for kind, source in members(n)))


if __name__ == "__main__":
    how_many, to_port, for_s = sys.argv[1:]
    asyncio.run(gather_crowd(int(how_many), int(to_port), float(for_s)))
