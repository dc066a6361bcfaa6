"""
The log: structlog events on standard error, one line each.

Readable on a terminal, JSON elsewhere; under systemd each line begins with its priority, which the journal
takes off. Events of libraries that use `logging` go the same way. Event names are constant `snake_case`;
what varies is in the values. Transcripts are private: they are removed above level `debug`. Control characters
are escaped, so a value cannot end its line and forge another one. A kind of line that comes too often is dropped and
counted, so no client can fill the disk.
"""

from __future__ import annotations

import io
import logging
import os
import re
import time
from collections.abc import Callable, Mapping
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from streamer.config import LogConfig

PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""Priorities of syslog by level."""
TRANSCRIPT_KEYS = ("text", "stable", "partial", "prompt", "keyterms", "words", "context")
"""Keys whose values are transcripts or hints of what will be said."""

BURST = 50
"""Lines of one kind (logger, level and event) that are written at once."""
LINES_PER_S = 1.0
"""Lines of one kind each second after that; the next one written tells how many were dropped."""
MAX_KINDS = 1000
"""Kinds of lines that are counted; beyond that the oldest count is forgotten."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def configure(config: LogConfig, stream: TextIO, environment: Mapping[str, str]) -> None:
    """
    Send every event of this process to `stream`.

    Args:
        config: Level and format.
        stream: Standard error.
        environment: `os.environ`; `JOURNAL_STREAM` tells whether `stream` is the journal.
    """
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_common(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(config, stream, environment),
            ],
            foreign_pre_chain=_common(),
        )
    )
    handler.addFilter(RateLimit())
    logging.basicConfig(level=config.level.upper(), handlers=[handler], force=True)
    # interrupted while it is imported, it tells the statistics of its caches at the end
    logging.getLogger("torch").setLevel(max(logging.WARNING, logging.getLogger().level))


class RateLimit(logging.Filter):
    """
    Drops lines of a kind that comes too often; `dropped` of the next line says how many.

    Args:
        burst: Lines of one kind at once.
        rate: Lines of one kind each second after that.
        clock: Monotonic time, seconds.
    """

    def __init__(
        self, burst: float = BURST, rate: float = LINES_PER_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._burst, self._rate, self._clock = burst, rate, clock
        self._kinds: dict[tuple[str, int, str], tuple[float, float, int]] = {}  # lines left, when, dropped since

    @property
    def n_kinds(self) -> int:
        """Kinds of lines that are counted."""
        return len(self._kinds)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line is written."""
        kind = (record.name, record.levelno, _event(record))
        now_s = self._clock()
        left, then_s, n_dropped = self._kinds.pop(kind, (self._burst, now_s, 0))
        left = min(self._burst, left + (now_s - then_s) * self._rate)
        if is_written := left >= 1:
            if n_dropped and isinstance(record.msg, dict):
                record.msg["dropped"] = n_dropped
            left, n_dropped = left - 1, 0
        else:
            n_dropped += 1
        self._kinds[kind] = (left, now_s, n_dropped)
        if len(self._kinds) > MAX_KINDS:
            del self._kinds[next(iter(self._kinds))]
        return is_written


def _event(record: logging.LogRecord) -> str:
    """
    Return what is constant in lines of one kind: structlog's event, or the place in a library that writes them.

    Not a library's text: some put numbers and addresses into it, so each line would be a kind of its own.
    """
    if isinstance(record.msg, dict):
        return str(record.msg.get("event", ""))
    return f"{record.pathname}:{record.lineno}"


def is_journal(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether `stream` is the connection to the journal that systemd made."""
    if "JOURNAL_STREAM" not in environment:
        return False
    try:
        status = os.fstat(stream.fileno())
    except io.UnsupportedOperation:
        return False
    return environment["JOURNAL_STREAM"] == f"{status.st_dev}:{status.st_ino}"


def _common() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        without_transcripts,
        without_controls,
    ]


def _renderers(config: LogConfig, stream: TextIO, environment: Mapping[str, str]) -> list[Processor]:
    if config.format == "console" or (config.format == "auto" and stream.isatty()):
        # the default shows the variables of every frame: words, prompts, keys
        plain = structlog.dev.plain_traceback
        return [structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=plain)]
    line = structlog.processors.JSONRenderer(ensure_ascii=False)
    return [
        structlog.processors.format_exc_info,
        WithPriority(line) if is_journal(stream, environment) else line,
    ]


def without_transcripts(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """
    Remove transcripts from every event above level `debug`: a processor of structlog.

    Args:
        _logger: Unused.
        _method: Unused.
        event: Keys and values of the event.
    """
    if event["level"] == "debug":
        return event
    return {key: value for key, value in event.items() if key not in TRANSCRIPT_KEYS}


def without_controls(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """
    Escape control characters in every text: a processor of structlog.

    Args:
        _logger: Unused.
        _method: Unused.
        event: Keys and values of the event.
    """
    return {key: _escaped(value) if isinstance(value, str) else value for key, value in event.items()}


def _escaped(text: str) -> str:
    return _CONTROL.sub(lambda match: repr(match.group())[1:-1], text)


class WithPriority:
    """
    A renderer that puts the syslog priority before the line of another renderer, as the journal reads it.

    Args:
        render: Makes the line.
    """

    def __init__(self, render: Callable[[WrappedLogger, str, EventDict], str | bytes]) -> None:
        self._render = render

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> str:
        priority = PRIORITIES[event["level"]]
        return f"<{priority}>{self._render(logger, method, event)!s}"
