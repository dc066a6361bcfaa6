"""
The log: structlog events on standard error, one line each.

Readable on a terminal, JSON elsewhere; under systemd each line begins with its priority, which the journal
takes off. Events of libraries that use `logging` go the same way. Event names are constant `snake_case`;
what varies is in the values. Transcripts are private: they are removed above level `debug`. Control characters
are escaped, so a value cannot end its line and forge another one.
"""

from __future__ import annotations

import io
import logging
import os
import re
from collections.abc import Callable, Mapping
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from streamer.config import LogConfig

PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""Priorities of syslog by level."""
TRANSCRIPT_KEYS = ("text", "stable", "partial", "prompt", "keyterms", "words", "context")
"""Keys whose values are transcripts or hints of what will be said."""

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
    logging.basicConfig(level=config.level.upper(), handlers=[handler], force=True)


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
