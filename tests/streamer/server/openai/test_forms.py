"""Tests of streamer/server/openai/forms.py: forms that no well-meaning client sends, and those that all send."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from typing import IO

import pytest

from streamer.dialects.openai.errors import RequestError
from streamer.errors import OverloadError
from streamer.server.openai.forms import MAX_FIELDS, MAX_TEXT_BYTES, UploadForm, read_upload

TYPE = "multipart/form-data; boundary=x"


def form(*parts: tuple[str, bytes]) -> bytes:
    """A form of parts, each its headers and its content."""
    body = b"".join(b"--x\r\n" + head.encode() + b"\r\n\r\n" + content + b"\r\n" for head, content in parts)
    return body + b"--x--\r\n"


def field(name: str, content: bytes, more: str = "") -> tuple[str, bytes]:
    """A part that is text."""
    return f'Content-Disposition: form-data; name="{name}"{more}', content


FILE = field("file", b"RIFF\r\n--\r\n\x00\xff", '; filename="a.wav"\r\nContent-Type: audio/wav')


async def read(body: bytes, content_type: str = TYPE, cuts: Sequence[int] = ()) -> UploadForm:
    """The form of a body that comes in parts."""

    async def parts() -> AsyncIterator[bytes]:
        for start, end in zip((0, *cuts), (*cuts, len(body)), strict=True):
            yield body[start:end]

    return await read_upload(content_type, parts())


@pytest.mark.parametrize("seed", range(20))
async def test_a_form_may_be_cut_anywhere(seed: int) -> None:
    """Fields keep their order, the file its bytes."""
    body = form(field("prompt", "café ☕".encode()), FILE, field("keywords[]", b"a"), field("keywords[]", b""))
    random_ = random.Random(seed)

    found = await read(body, cuts=sorted(random_.sample(range(len(body)), random_.randrange(8))))

    assert found.fields == [("prompt", "café ☕"), ("keywords[]", "a"), ("keywords[]", "")]
    assert found.file is not None
    assert (found.file.read(), found.file_name) == (FILE[1], "a.wav")
    found.close()


@pytest.mark.parametrize(
    ("names", "name"),
    [
        ("filename*=utf-8''caf%C3%A9.wav", "café.wav"),
        ("FileName* = UTF-8'en'a.wav", "a.wav"),
        ('filename="b.wav"; filename*=utf-8caf%C3%A9.wav', "b.wav"),
    ],
)
async def test_a_file_may_be_named_in_the_extended_form(names: str, name: str) -> None:
    """As some clients do where its name is not ASCII; the plain form counts first."""
    found = await read(form(field("file", b"RIFF", f"; {names}")))
    assert found.file is not None
    assert (found.file.read(), found.file_name) == (b"RIFF", name)
    found.close()


@pytest.mark.parametrize(
    "charset", ["punycode", "unicode_escape", "undefined", "utf-7", "idna", "rot13", "zip", "\xff"]
)
async def test_text_is_utf_8_whatever_the_sender_names(charset: str) -> None:
    """A codec of the sender's choice is never used: one of them needs a minute for a megabyte."""
    found = await read(form(field("prompt", b"\\u0041-xyz"), FILE), f"{TYPE}; charset={charset}")
    assert found.fields == [("prompt", "\\u0041-xyz")]
    found.close()


@pytest.mark.parametrize(
    "parts",
    [
        [field("prompt", b"\xff\xfe")],
        [field("prompt", b"x" * (MAX_TEXT_BYTES + 1))],
        [field("a", b"x" * (MAX_TEXT_BYTES // 3))] * 4,
        [field("n" * 600, b"")] * (MAX_TEXT_BYTES // 600 + 1),
        [field("a", b"")] * (MAX_FIELDS + 1),
        [FILE, FILE],
        [field("other", b"RIFF", '; filename="b.wav"')],
        [("X-Nothing: y", b"")],
        [("Content-Disposition: form-data", b"")],
        [field("a", b"", "\r\nX: " + "y" * 100_000)],
        [field("a", b"", "".join(f"\r\nX{n}: y" for n in range(1000)))],
    ],
    ids=lambda parts: parts[0][0][:40],
)
async def test_forms_beyond_a_bound_are_refused(parts: list[tuple[str, bytes]]) -> None:
    """With a reason that is short."""
    with pytest.raises(RequestError) as refused:
        await read(form(*parts))
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        f"{TYPE}{'y' * 5000}",
        "multipart/mixed; boundary=x",
    ],
)
async def test_bodies_that_are_no_such_form_are_refused(content_type: str) -> None:
    """Whatever the type of the content claims."""
    with pytest.raises(RequestError):
        await read(form(FILE), content_type)


@pytest.mark.parametrize("seed", range(40))
async def test_a_damaged_form_is_refused_or_read(seed: int) -> None:
    """Bytes may be flipped, cut or doubled: nothing else is raised."""
    random_ = random.Random(seed)
    body = bytearray(form(field("prompt", b"hello"), FILE))
    for _ in range(random_.randrange(1, 6)):
        at = random_.randrange(len(body))
        body[at : at + random_.randrange(3)] = random_.randbytes(random_.randrange(4))

    try:
        (await read(bytes(body))).close()
    except RequestError:
        assert body


@pytest.mark.parametrize("n_buffered", [8, 64])
async def test_a_full_temporary_folder_is_an_answer(monkeypatch: pytest.MonkeyPatch, n_buffered: int) -> None:
    """
    The client is told to come again, since room may be made; it is no fault of the program.

    A file that keeps something back fails at the end of the body, and once more when it is closed.
    """

    def full(max_size: int) -> IO[bytes]:
        return open("/dev/full", "wb", buffering=n_buffered)

    monkeypatch.setattr("streamer.server.openai.forms.SpooledTemporaryFile", full)
    with pytest.raises(OverloadError, match="no room"):
        await read(form(FILE))


def test_a_file_that_fails_at_the_end_is_closed() -> None:
    """Its descriptor is free, and nobody hears of it."""
    upload = UploadForm(b"x")
    upload.file = open("/dev/full", "wb")  # noqa: SIM115 - the form closes it
    upload.file.write(b"sound")

    upload.close()

    assert upload.file.closed
