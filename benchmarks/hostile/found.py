"""Attacks that were found by reading the daemon with the eyes of an attacker."""

from __future__ import annotations

import itertools
import json
import math
import struct
from collections.abc import Iterator

from benchmarks.hostile.attack import Attack
from benchmarks.hostile.bombs import chance, element, wav
from benchmarks.hostile.requests import (
    WEBM_HEADER,
    again,
    form,
    frame,
    once,
    request,
    start,
    upgrade,
    upload,
)

LONG_GET = request("GET", "/pages/page.css", key=False)
GET = request("GET", "/info", key=False)
SOUND = struct.pack("<1600h", *(round(8000 * math.sin(n * n / 900)) for n in range(1600)))
"""A tenth of a second that is no silence."""
TRACK = element(b"\x18\x53\x80\x67", element(b"\x16\x54\xae\x6b", element(b"\xae", element(b"\x86", b"A_OPUS"))))
LIVE = start(audio={"encoding": "container"})
FLOATS = {"encoding": "pcm_f32le", "rate": 16000}
OPUS_PACKET = b"\xa3\x87\x81\0\0\x80\xf8\xff\xfe"
"""A block of WebM with 20 ms of silence."""
CAF = b"caff\0\1\0\0desc" + struct.pack(">Qd4s5I", 32, 8000, b"lpcm", 0, 2, 1, 1, 16)
FTYP = struct.pack(">I4s4sI", 16, b"ftyp", b"isom", 0)
SOUNDLESS = {
    "CAF": CAF + (b"free" + bytes(8)) * 75_000,
    "AIFF": b"FORM\xff\xff\xff\xffAIFF" + b"ANNO\0\0\0\0" * 110_000,
    "MP4": FTYP + struct.pack(">I4s", 10**8, b"moov") + struct.pack(">I4s", 8, b"free") * 110_000,
    "FLV": b"FLV\1\4\0\0\0\x09\0\0\0\0" + (b"\x12" + bytes(13) + b"\x0b") * 60_000,
}
"""Recordings of empty parts, by their container."""
PAST = [{"turn": n, "text": "word " * 20} for n in range(2000)]
RESUME = {"session": "s", "token": "t", "turns": PAST}


def headers(n: int) -> bytes:
    """A request with so many headers without content."""
    return request("GET", "/info", *["a:"] * n, key=False)


def ogg_pages(n: int) -> bytes:
    """Pages of Ogg whose packets are no codec's, each of 255 bytes, with the checksum 0."""
    page = struct.pack("<4sBBQIII", b"OggS", 0, 0, 0, 7, 0, 0) + bytes([1, 255]) + bytes(255)
    return page * n


def wrong_forms() -> Iterator[bytes]:
    """Forms that end with a byte that may not stand there, each at another place."""
    for n in itertools.count():
        body = b"\r\n--x" + b"y" * (n % 4000) + b"?\0"
        kind = "Content-Type: multipart/form-data; boundary=x" + "y" * (n % 200)
        yield request("POST", "/v1/audio/transcriptions", kind, f"Content-Length: {len(body)}") + body


def odd_rates() -> Iterator[bytes]:
    """A session with another sample rate each time."""
    for n in itertools.count():
        yield start(audio={"encoding": "pcm_f32le", "rate": 8000 + (n * 7919) % 40_000, "channels": 8}) + frame(
            bytes(32_000)
        )


FOUND = (
    # what a peer begins and does not end, sends and does not take
    Attack("answers that are not taken", b"", once(LONG_GET * 400), 600, has_key=False, is_read=False),
    Attack("pongs that are not taken", start(), again(frame(b"x" * 125, 9) * 50), 16, is_read=False),
    Attack(
        "empty fragments of a viewer",
        upgrade("/v1/watch/room") + frame("", 1, is_last=False),
        again(frame(b"", 0, is_last=False) * 100),
        16,
    ),
    Attack("halves of messages of 2 MB", upgrade("/v1/watch/room") + frame(bytes(2_000_000))[:1_000_000], once(), 200),
    Attack("closes that are not answered", upgrade() + frame("x"), once(), 400),
    Attack(
        "a body that nobody asked for",
        request("GET", "/healthz", "Content-Length: 900000000", key=False),
        again(bytes(200_000)),
        16,
        has_key=False,
    ),
    Attack("connections opened and closed", GET, once(), 64, has_key=False, is_renewed=True),
    Attack("viewers over HTTP", request("GET", "/v1/watch/room"), once(), 1100),
    # heads of requests
    Attack("thousands of headers", headers(3500), once(), 32, has_key=False, is_renewed=True),
    Attack(
        "headers of 60 kB behind a body",
        request("POST", "/nowhere", "Content-Length: 200000", key=False) + bytes(200_000),
        again(headers(15_000)),
        16,
        has_key=False,
        is_renewed=True,
    ),
    Attack(
        "trailers of 60 kB",
        request(
            "POST",
            "/v1/audio/transcriptions",
            "Content-Type: multipart/form-data; boundary=x",
            "Transfer-Encoding: chunked",
        )
        + b"ff\r\n"
        + bytes(255)
        + b"\r\n",
        once(b"0\r\n" + b"a:\r\n" * 15_000 + b"\r\n"),
        16,
        is_renewed=True,
    ),
    Attack(
        "two thousand ranges",
        b"",
        again(
            request(
                "GET", "/pages/page.css", "Range: bytes=" + ",".join(f"{n}-{n}" for n in range(0, 4000, 2)), key=False
            )
            * 20
        ),
        8,
        has_key=False,
    ),
    # answers that cost more than their question
    Attack(
        "the schema without pause",
        b"",
        again(request("GET", "/v1/captions/schema.json", key=False) * 20),
        16,
        has_key=False,
    ),
    Attack("metrics without pause", b"", again(request("GET", "/metrics") * 20), 16),
    # lines of the log
    Attack("texts that are not UTF-8", upgrade() + frame(b"\xff", 1), once(), 8, is_renewed=True),
    Attack("forms that are wrong in other places", b"", wrong_forms, 8),
    # sessions
    Attack(
        "long texts with an emoji behind audio",
        start(),
        lambda: itertools.chain([frame(bytes(1_000_000))] * 3, itertools.repeat(frame("😀" + "x" * 1_000_000))),
        16,
    ),
    Attack("another sample rate each time", b"", odd_rates, 8, is_renewed=True),
    Attack(
        "sound too small for a number",
        start(audio={"encoding": "pcm_f32le", "rate": 16000}),
        again(frame(struct.pack("<f", 1e-40) * 16_000)),
    ),
    Attack("a flush after each piece of sound", start(), again((frame(SOUND) + frame('{"type":"flush","id":1}')) * 5)),
    Attack(
        "another prompt each time",
        start(),
        again(frame(SOUND) + frame(json.dumps({"type": "update", "prompt": "a b c " * 100}))),
    ),
    Attack(
        "commits without pause",
        upgrade("/v1/realtime"),
        again(
            frame(json.dumps({"type": "input_audio_buffer.append", "audio": "AAAA" * 800}))
            + frame('{"type":"input_audio_buffer.commit"}')
        ),
        8,
    ),
    Attack(
        "channels of a Deepgram client",
        upgrade("/v1/listen?encoding=linear16&sample_rate=48000&channels=8&multichannel=true"),
        again(frame(SOUND * 8)),
        4,
    ),
    Attack(
        "a speaker that begins again",
        upgrade("/v1/captions?room=room") + frame(json.dumps({"type": "start", "resume": RESUME})),
        once(),
        4,
        is_renewed=True,
        viewers=upgrade("/v1/watch/room"),
    ),
    # live recordings
    Attack("a megabyte of empty elements", LIVE + frame(WEBM_HEADER + TRACK), again(frame(b"\xec\x80" * 500_000))),
    Attack("a damaged live MP3", LIVE, again(frame(chance(b"ID3\x04\0\0\0\0\0\0", 900_000))), 8),
    Attack(
        "a live Ogg of no codec",
        LIVE,
        again(frame(b"OggS\0\x02" + bytes(20) + b"\x01\x13OpusHead\1\1" + bytes(9) + ogg_pages(3000))),
        8,
    ),
    Attack("a damaged live FLAC", LIVE, again(frame(chance(b"fLaC\0\0\0\x22" + bytes(34), 900_000))), 8),
    Attack(
        "a live transport stream of chance",
        LIVE,
        again(frame(b"".join(b"G" + chance(b"", 187) for _ in range(4000)))),
        8,
    ),
    Attack("a recording with each message", LIVE, again(frame(b"fLaC\0\0\0\x22" + bytes(34)) * 5), 8),
    Attack("an MP4 of boxes in boxes, live", LIVE, again(frame(struct.pack(">I4s", 8, b"ftyp") * 100_000)), 8),
    Attack(
        "an MP4 whose index does not come, live",
        LIVE + frame(FTYP + struct.pack(">I4s", 2**31, b"mdat")),
        again(frame(bytes(900_000))),
        16,
    ),
    Attack(
        "a live wav of empty chunks, byte by byte",
        LIVE + frame(b"RIFF\xff\xff\xff\xffWAVE" + b"junk\0\0\0\0" * 8000),
        again(frame(b"\0") * 10),
        8,
    ),
    Attack("a live wav of headers", LIVE, again(frame(wav(8000, 1, b"")[:44] * 20_000)), 8),
    Attack(
        "elements of WebM between packets",
        LIVE + frame(WEBM_HEADER + TRACK),
        again(frame((b"\xec\x80" * 190 + OPUS_PACKET) * 2000)),
    ),
    *(
        Attack(f"a live {name} without sound", LIVE, again(frame(recording)), 8)
        for name, recording in SOUNDLESS.items()
    ),
    Attack("floats that are no numbers", start(audio=FLOATS) + frame(b"\xff" * 64_000), once(), 16, is_renewed=True),
    # what nobody hears
    Attack("a flood behind the end", start() + frame('{"type":"end"}'), again(frame(bytes(900_000))), 8),
    Attack("a flood of a viewer", upgrade("/v1/watch/room"), again(frame(bytes(900_000))), 8),
    Attack("an endless form of preamble", form(b"x" * 900_000), again(b"y" * 200_000), 8),
    Attack("a form with 200 files", b"", again(upload(b"RIFF" * 10)), 8),
)
