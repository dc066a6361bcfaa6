"""What clients send, byte by byte: requests, handshakes, frames, forms, and endless sequences of them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator

KEY = "hostile-hostile-hostile"
"""The key of an attacker who has one."""


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
WEBM_HEADER = b"\x1a\x45\xdf\xa3\x80"
WEBM = start(audio={"encoding": "webm_opus"}) + frame(WEBM_HEADER)
