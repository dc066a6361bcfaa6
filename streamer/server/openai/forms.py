"""
Reads a multipart form with one file, bounded: fields, bytes of text, and bytes of the whole body.

Text is UTF-8, whatever charset the sender names: a codec of the sender's choice can take minutes for a megabyte. The
file goes to a temporary file, in memory up to SPOOL_BYTES. A body is parsed in pieces, between which other clients are
served.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from tempfile import SpooledTemporaryFile
from typing import IO
from urllib.parse import unquote_to_bytes

import structlog
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from streamer.dialects.openai.errors import RequestError
from streamer.errors import OverloadError

MAX_FIELDS = 200
"""Most fields of a form, the file included."""
MAX_TEXT_BYTES = 131_072
"""Names and texts of all fields together."""
PIECE_BYTES = 16_384
"""Body parsed at once, at most 800 empty fields: 5 ms."""
SPOOL_BYTES = 1_048_576
"""Largest file that is kept in memory."""
_EXTENDED_NAME = re.compile(rb";\s*filename\*\s*=\s*(?:[\w-]*'[^']*')?([^;\s]*)", re.IGNORECASE)
"""`filename*=utf-8''caf%C3%A9.wav`: how some clients name a file that is not ASCII, against the standard of forms."""

log = structlog.get_logger()


class UploadForm:
    """
    Fields and file of one form. Close it.

    Args:
        boundary: As the content type names it.
    """

    def __init__(self, boundary: bytes) -> None:
        self.fields: list[tuple[str, str]] = []
        """Names and texts, in order, without the file."""
        self.file: IO[bytes] | None = None
        self.file_name = ""
        self._n_fields = self._n_text_bytes = 0
        self._has_ended = False
        self._headers: dict[bytes, bytes] = {}
        self._header = self._value = b""
        self._name = ""
        self._text: bytearray | None = None
        """Of the field that is being read; None: it is the file."""
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._take_header,
                "on_header_value": self._take_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": self._take_data,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
        )

    def write(self, piece: bytes) -> None:
        """
        Parse a piece of the body, and write what it holds of the file.

        Raises:
            RequestError: The body is no such form, or beyond a bound.
            OverloadError: The temporary folder takes no more.
        """
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise _invalid(f"not a form that can be read: {str(error)[:200]}") from None
        except OSError as error:
            raise _no_room(error) from None

    def finish(self) -> None:
        """
        Rewind the file at the end of the body.

        Raises:
            RequestError: The form is incomplete.
            OverloadError: The temporary folder does not take the rest.
        """
        if not self._has_ended:
            raise _invalid("the form ends before its last boundary")
        try:
            if self.file is not None:
                self.file.seek(0)
        except OSError as error:
            raise _no_room(error) from None

    def close(self) -> None:
        """Delete the file, which may have more to write than its disk takes."""
        if self.file is not None:
            with contextlib.suppress(OSError):
                self.file.close()

    def _begin(self) -> None:
        self._headers, self._text = {}, bytearray()
        self._n_fields += 1
        if self._n_fields > MAX_FIELDS:
            raise _invalid(f"more than {MAX_FIELDS} fields")

    def _take_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _take_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header = self._value = b""

    def _end_headers(self) -> None:
        disposition = self._headers.get(b"content-disposition", b"")
        _, options = parse_options_header(disposition)
        if b"name" not in options:
            raise _invalid("a field without a name")
        self._count(len(options[b"name"]))
        self._name = _text(options[b"name"], "the name of a field")
        extended = _EXTENDED_NAME.search(disposition)
        name = options.get(b"filename", unquote_to_bytes(extended[1]) if extended else None)
        if name is not None:
            self._open(_text(name, "the name of the file"))

    def _open(self, name: str) -> None:
        if self.file is not None:
            raise _invalid("more than one file")
        if self._name != "file":
            raise RequestError("invalid_value", f"{self._name[:60]}: a file in this field, expected file", "file")
        self.file_name, self._text = name[:255], None
        # closed by `close`
        self.file = SpooledTemporaryFile(max_size=SPOOL_BYTES)  # noqa: SIM115

    def _take_data(self, data: bytes, start: int, end: int) -> None:
        if self._text is not None:
            self._count(end - start)
            self._text += data[start:end]
        elif self.file is not None:
            self.file.write(data[start:end])

    def _end_part(self) -> None:
        if self._text is not None:
            self.fields.append((self._name, _text(bytes(self._text), self._name[:60])))

    def _end(self) -> None:
        self._has_ended = True

    def _count(self, n_bytes: int) -> None:
        self._n_text_bytes += n_bytes
        if self._n_text_bytes > MAX_TEXT_BYTES:
            raise RequestError("invalid_form", f"text of more than {MAX_TEXT_BYTES} bytes in the fields", status=413)


async def read_upload(content_type: str, body: AsyncIterator[bytes]) -> UploadForm:
    """
    Read a form to its end; the caller closes it.

    Args:
        content_type: Header of the request.
        body: Parts of the body, of any length.

    Raises:
        RequestError: The body is no multipart form, or beyond a bound.
        OverloadError: The temporary folder takes no more.
    """
    kind, options = parse_options_header(content_type.encode("latin-1", "replace"))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise RequestError("invalid_form", "expected a body of multipart/form-data with a boundary")
    try:
        form = UploadForm(options[b"boundary"])
    except FormParserError:
        raise _invalid("a boundary that cannot be used") from None
    try:
        async for part in body:
            for at in range(0, len(part), PIECE_BYTES):
                await _write(form, part[at : at + PIECE_BYTES])
        form.finish()
    except BaseException:
        form.close()
        raise
    return form


async def store(file: IO[bytes]) -> None:
    """
    See to it that a file is on disk as a whole, from where another process reads it.

    Raises:
        OverloadError: The temporary folder takes no more.
    """

    def to_disk() -> None:
        file.fileno()  # a file in memory gets a descriptor, and so moves to the disk
        file.flush()

    try:
        await asyncio.to_thread(to_disk)
    except OSError as error:
        raise _no_room(error) from None


async def _write(form: UploadForm, piece: bytes) -> None:
    if form.file is None:
        form.write(piece)
        await asyncio.sleep(0)
    else:  # the disk may be slow
        await asyncio.to_thread(form.write, piece)


def _text(data: bytes, where: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise RequestError("invalid_value", f"{where}: not UTF-8, which forms are read as") from None


def _no_room(error: OSError) -> OverloadError:
    log.warning("upload_not_stored", error=error.strerror)
    return OverloadError("no room for the file; try again later", retry_after_s=30.0)


def _invalid(problem: str) -> RequestError:
    return RequestError("invalid_form", problem)
