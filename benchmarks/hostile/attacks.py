"""
The attacks: those of the first report, others of the same kinds, and those that were found by reading.

    python -m benchmarks.hostile.attacks NAME PORT SECONDS
"""

from __future__ import annotations

import asyncio
import json
import sys

from benchmarks.hostile.attack import Attack, run
from benchmarks.hostile.bombs import BOMBS
from benchmarks.hostile.found import FOUND
from benchmarks.hostile.requests import (
    BIG_SECRET,
    FILE,
    SECRET,
    WEBM,
    again,
    field,
    form,
    frame,
    once,
    rare_terms,
    request,
    resume,
    start,
    upgrade,
    upload,
)

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
    *FOUND,
)


if __name__ == "__main__":
    name, to_port, for_s = sys.argv[1:]
    asyncio.run(run(next(attack for attack in ATTACKS if attack.name == name), int(to_port), float(for_s)))
