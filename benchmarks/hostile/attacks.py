"""The attacks: what is sent, over how many connections, with or without a key. All end by themselves."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.hostile.bombs import BOMBS

STRANGERS = [f"127.0.0.{n}" for n in range(2, 10)]
"""Source addresses on loopback of those who have no key."""
KEY = "hostile-hostile-hostile"
"""The key of an attacker who has one."""
PAUSE_S = 0.02
"""Between two writes of a connection: what matters is the daemon's work, not how busy the attacker is."""


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack."""

    name: str
    opening: bytes
    """Sent once on each connection."""
    payload: Callable[[], Iterator[bytes]]
    """Sent after that, again and again; nothing: the connection is held."""
    n_connections: int = 4
    has_key: bool = True
    is_renewed: bool = False
    """Whether a connection is closed after its payload, and another one opened."""
    is_read: bool = True
    """Whether answers are read."""


def request(method: str, path: str, *headers: str, key: bool = True) -> bytes:
    """The head of a request."""
    shown = (f"Authorization: Bearer {KEY}",) if key else ()
    return "\r\n".join((f"{method} {path} HTTP/1.1", "Host: localhost", *shown, *headers, "", "")).encode("latin-1")


def upgrade(path: str = "/v1/captions", *headers: str, key: bool = True) -> bytes:
    """The handshake of a WebSocket."""
    nonce = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="
    names = ("Upgrade: websocket", "Connection: Upgrade", nonce, "Sec-WebSocket-Version: 13")
    return request("GET", path, *names, *headers, key=key)


def frame(payload: bytes | str = b"", opcode: int | None = None, *, is_last: bool = True) -> bytes:
    """A frame as a client sends it; the mask is 0."""
    data = payload.encode() if isinstance(payload, str) else payload
    kind = opcode if opcode is not None else 1 if isinstance(payload, str) else 2
    n = len(data)
    size = (
        bytes([0x80 | n])
        if n < 126
        else b"\xfe" + n.to_bytes(2, "big")
        if n < 65536
        else b"\xff" + n.to_bytes(8, "big")
    )
    return bytes([(0x80 if is_last else 0) | kind]) + size + bytes(4) + data


def start(**fields: object) -> bytes:
    """Open a session of captions.v1."""
    return upgrade() + frame(json.dumps({"type": "start", **fields}))


def again(*payloads: bytes) -> Callable[[], Iterator[bytes]]:
    """The same payloads for ever."""
    return lambda: itertools.cycle(payloads)


def once(*payloads: bytes) -> Callable[[], Iterator[bytes]]:
    """Some payloads, then nothing."""
    return lambda: iter(payloads)


def form(*parts: bytes, more: str = "") -> bytes:
    """An upload of parts; the body says that it is much longer."""
    head = request(
        "POST",
        "/v1/audio/transcriptions",
        f"Content-Type: multipart/form-data; boundary=x{more}",
        "Content-Length: 200000000",
    )
    return head + b"".join(parts)


def field(name: str, content: bytes = b"", more: str = "") -> bytes:
    """A field of a form."""
    return f'\r\n--x\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + content


def upload(data: bytes) -> bytes:
    """A whole form with a file."""
    body = FILE + data + b"\r\n--x--\r\n"
    kind = "Content-Type: multipart/form-data; boundary=x"
    return request("POST", "/v1/audio/transcriptions", kind, f"Content-Length: {len(body)}") + body


def rare_terms() -> Iterator[bytes]:
    """Key terms of letters that no token holds, other ones each time."""
    for n in itertools.count():
        terms = ["".join(chr(0x10400 + (n * 7 + i * j) % 80) for j in range(128)) for i in range(256)]
        yield frame(json.dumps({"type": "update", "keyterms": [term[:16] for term in terms[:120]]}))
        yield frame(json.dumps({"type": "update", "keyterms": terms}))


def resume(stable_s: str) -> bytes:
    """A start that resumes an unknown session at a stream time out of this world."""
    audio = '"audio":{"encoding":"webm_opus"}'
    return upgrade() + frame(f'{{"type":"start",{audio},"resume":{{"session":"s","token":"t","stable_s":{stable_s}}}}}')


FILE = field("file", more='; filename="a.wav"')
SECRET = request("POST", "/v1/realtime/client_secrets", "Content-Length: 2") + b"{}"
BIG_SECRET = json.dumps(
    {"session": {"audio": {"input": {"transcription": {"prompt": "é" * 4096, "keywords": ["x" * 120] * 64}}}}}
).encode()
WEBM = start(audio={"encoding": "webm_opus"}) + frame(b"\x1a\x45\xdf\xa3\x80")

ATTACKS = (
    # those of the first report
    Attack("a form in punycode", form(field("prompt"), more="; charset=punycode"), again(b"abc-" * 4000)),
    Attack("text fields of a megabyte", form(), again(field("prompt", "😀".encode() * 4000)), 16),
    Attack("rare key terms", start(), rare_terms),
    Attack(
        "a phrase list of 110,000",
        upgrade("/vosk"),
        again(frame(json.dumps({"config": {"phrase_list": ["ab"] * 110_000}}))),
    ),
    Attack("resume at 1e305 s", resume("1e305"), once(), 24, is_renewed=True),
    Attack("resume at 1e15 s", resume("1e15"), once(), 24, is_renewed=True),
    Attack("a byte of a second request", request("GET", "/healthz", key=False) + b"G", once(), 400, has_key=False),
    Attack(
        "a body after 401",
        request("POST", "/v1/tokens", "Content-Length: 999999", key=False),
        again(b"x"),
        400,
        has_key=False,
    ),
    Attack(
        "an upgrade that is refused", upgrade("/v1/captions", "X: " + "y" * 9000, key=False), once(), 400, has_key=False
    ),
    Attack("3,000 connections that say nothing", b"", once(), 3000, has_key=False),
    Attack("empty frames", start(), again(frame(b"") * 2000), 8),
    Attack("pings", upgrade(), again(frame(b"x" * 20, 9) * 500), 8),
    Attack("empty elements of WebM", WEBM, again(frame(b"\xec\x80" * 30_000)), 8),
    Attack("pipelined reads", b"", again(request("GET", "/info", key=False) * 300), 16, has_key=False),
    Attack("uploads of a byte", form(FILE), again(b"x"), 32),
    Attack("client secrets", b"", again(SECRET), 8),
    Attack(
        "wrong keys",
        request("POST", "/v1/tokens", "Authorization: Bearer wrong-wrong-wrong-wr", key=False),
        once(),
        8,
        has_key=False,
        is_renewed=True,
    ),
    Attack("rooms at the limit", upgrade("/v1/watch/room"), once(), 50, is_renewed=True),
    Attack(
        "a token that is not ASCII",
        upgrade() + frame('{"type":"start","resume":{"session":"s","token":"é😀"}}'),
        once(),
        8,
        is_renewed=True,
    ),
    Attack("a NUL in a query", upgrade("/v1/listen?encoding=%00&model=%00"), once(), 8, is_renewed=True),
    Attack("refused sockets", upgrade(key=False), once(), 8, has_key=False, is_renewed=True),
    # others
    Attack("fragments without end", start() + frame("", 1, is_last=False), again(frame(b"", 0, is_last=False) * 2000)),
    Attack("flushes", start(), again(frame('{"type":"flush","id":1}') * 200)),
    Attack("short updates", start(), again(frame('{"type":"update","keyterms":["a"]}') * 200)),
    Attack(
        "an integer of 60,000 digits",
        upgrade() + frame('{"type":"flush","id":' + "9" * 60_000 + "}"),
        once(),
        8,
        is_renewed=True,
    ),
    Attack("60,000 brackets", upgrade() + frame('{"type":' + "[" * 60_000), once(), 8, is_renewed=True),
    Attack("headers byte by byte", b"GET / HTTP/1.1\r\nHost: localhost\r\n", again(b"X"), 300, has_key=False),
    Attack(
        "headers without end",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n",
        again(b"X: y\r\n" * 2000),
        8,
        has_key=False,
        is_renewed=True,
    ),
    Attack(
        "an escaped path of 8 kB",
        request("GET", "/" + "%2e%2f" * 1300, key=False),
        once(),
        8,
        has_key=False,
        is_renewed=True,
    ),
    Attack("bytes of chance", bytes(range(256)) * 40, once(), 8, has_key=False, is_renewed=True),
    Attack(
        "chunks of one byte",
        request(
            "POST",
            "/v1/audio/transcriptions",
            "Content-Type: multipart/form-data; boundary=x",
            "Transfer-Encoding: chunked",
        ),
        again(b"1\r\nx\r\n" * 2000),
    ),
    Attack("fields without content", form(), again(field("a") * 1000), is_renewed=True),
    Attack("almost boundaries", form(FILE), again(b"\r\n--" * 8000)),
    Attack("half of a message of 1 MB", start() + frame(bytes(1_000_000))[:500_000], once(), 64),
    Attack("sessions that are left", start() + frame(bytes(3200)), once(), 16, is_renewed=True),
    Attack("packets of Opus of 3 bytes", WEBM, again(frame(b"\xa3\x84\x81\x00\x00\x80" * 5000))),
    Attack(
        "a minute of mu-law a message", start(audio={"encoding": "mulaw", "rate": 8000}), again(frame(bytes(480_000)))
    ),
    Attack(
        "events that are not read",
        start() + frame('{"type":"flush","id":1}') * 100,
        again(frame('{"type":"flush","id":1}')),
        8,
        is_read=False,
    ),
    Attack("viewers that read nothing", request("GET", "/v1/watch/room"), once(), 200, is_read=False),
    Attack(
        "secrets with long settings",
        b"",
        again(request("POST", "/v1/realtime/client_secrets", f"Content-Length: {len(BIG_SECRET)}") + BIG_SECRET),
        8,
    ),
    Attack("wrong events of a realtime client", upgrade("/v1/realtime"), again(frame('{"type":"x"}') * 100), 8),
    Attack(
        "wrong messages of a Deepgram client",
        upgrade("/v1/listen?encoding=mulaw"),
        again(frame('{"type":"Nothing"}') * 100),
        8,
    ),
    Attack(
        "a thousand subprotocols",
        upgrade("/v1/captions", "Sec-WebSocket-Protocol: " + ",".join(f"a{n}" for n in range(1000))),
        once(),
        8,
        is_renewed=True,
    ),
    Attack("uploads that are left", form(FILE, bytes(60_000)), once(), 8, is_renewed=True),
    *(Attack(name, b"", again(upload(bomb)), 4) for name, bomb in BOMBS.items()),
)


async def run(attack: Attack, port: int, seconds: float) -> None:
    """Attack a daemon on loopback for so many seconds."""
    end_s = time.monotonic() + seconds
    sources = ["127.0.0.1"] if attack.has_key else STRANGERS
    connections = [_attack(attack, port, sources[n % len(sources)], end_s) for n in range(attack.n_connections)]
    await asyncio.gather(*connections)


async def _attack(attack: Attack, port: int, source: str, end_s: float) -> None:
    while time.monotonic() < end_s:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(max(0.0, end_s - time.monotonic())):
                await _converse(attack, port, source)
        await asyncio.sleep(PAUSE_S)


async def _converse(attack: Attack, port: int, source: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    reading = asyncio.create_task(_drop(reader)) if attack.is_read else None
    try:
        writer.write(attack.opening)
        await writer.drain()
        for payload in attack.payload():
            writer.write(payload)
            await writer.drain()
            await asyncio.sleep(PAUSE_S)
        await asyncio.sleep(PAUSE_S if attack.is_renewed else 3600)
    finally:
        if reading is not None:
            reading.cancel()
        writer.transport.abort()


async def _drop(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(OSError):
        while await reader.read(65_536):
            pass


if __name__ == "__main__":
    name, to_port, for_s = sys.argv[1:]
    asyncio.run(run(next(attack for attack in ATTACKS if attack.name == name), int(to_port), float(for_s)))
