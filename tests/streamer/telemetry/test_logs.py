"""Tests of streamer.telemetry.logs."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import structlog

from streamer.config import LogConfig
from streamer.telemetry import logs
from tests.helpers.process_log import restored_log


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """Logging is one thing per process: put it back as it was."""
    with restored_log():
        yield


def configured(stream: io.StringIO, **options: str) -> structlog.stdlib.BoundLogger:
    config = LogConfig(**options)  # type: ignore[arg-type]
    logs.configure(config, stream, {})
    logger: structlog.stdlib.BoundLogger = structlog.get_logger()
    return logger


def test_json_unless_on_a_terminal() -> None:
    """Each event is one JSON object with its name, level, time and values."""
    stream = io.StringIO()
    configured(stream).info("session_ended", session="s_1", audio_s=61.2)
    entry = json.loads(stream.getvalue())
    assert entry.pop("timestamp").endswith("Z")
    assert entry == {"event": "session_ended", "level": "info", "session": "s_1", "audio_s": 61.2}


def test_readable_on_a_terminal() -> None:
    """On a terminal an event is a line for people, unless JSON is asked for."""
    stream = Terminal()
    configured(stream).info("daemon_ready")
    assert not stream.getvalue().startswith("{")
    assert "daemon_ready" in stream.getvalue()
    stream = Terminal()
    configured(stream, format="json").info("daemon_ready")
    assert json.loads(stream.getvalue())["event"] == "daemon_ready"


def test_the_level_is_kept() -> None:
    """Events below the configured level are not written."""
    stream = io.StringIO()
    logger = configured(stream, level="warning")
    logger.info("step_done")
    logger.warning("capture_overrun")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["capture_overrun"]


def test_context_and_exceptions_are_written() -> None:
    """The session bound as context and the traceback of an error are part of the event."""
    stream = io.StringIO()
    logger = configured(stream)
    with structlog.contextvars.bound_contextvars(session="s_7"):
        try:
            raise ValueError("boom")
        except ValueError:
            logger.exception("step_failed")
    entry = json.loads(stream.getvalue())
    assert (entry["session"], entry["level"]) == ("s_7", "error")
    assert "ValueError: boom" in entry["exception"]


def test_libraries_log_the_same_way() -> None:
    """A record of the `logging` module becomes an event."""
    stream = io.StringIO()
    configured(stream)
    logging.getLogger("uvicorn.error").warning("closing %d sockets", 3)
    entry = json.loads(stream.getvalue())
    assert (entry["event"], entry["level"]) == ("closing 3 sockets", "warning")


INTERRUPTED = """
import logging, sys
from streamer.config import LogConfig
from streamer.telemetry import logs
logs.configure(LogConfig(level=sys.argv[1]), sys.stderr, {})
log = logging.getLogger("torch._subclasses.fake_tensor")
log.info("FakeTensor cache stats:")
log.warning("a device is old")
"""


@pytest.mark.parametrize(("level", "told"), [("debug", 1), ("error", 0)])
def test_torch_tells_what_is_wrong_and_no_statistics(level: str, told: int) -> None:
    """Ctrl-C while it is imported leaves its log as it finds it; at the end it tells its caches, which helps nobody."""
    command = [sys.executable, "-c", INTERRUPTED, level]
    run = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=True, timeout=60)
    assert run.stderr.count("\n") == told


@pytest.mark.parametrize("key", logs.TRANSCRIPT_KEYS)
def test_transcripts_are_written_at_debug_only(key: str) -> None:
    """What was said does not leave the process above `debug`, even if an event carries it."""
    stream = io.StringIO()
    logger = configured(stream, level="debug")
    logger.info("turn_ended", **{key: "secret"})
    assert "secret" not in stream.getvalue()
    logger.debug("turn_ended", **{key: "secret"})
    assert "secret" in stream.getvalue()


LOG = """
import os, sys
import structlog
from streamer.telemetry import logs
from streamer.config import LogConfig
status = os.fstat(sys.stderr.fileno())
journal = f"{status.st_dev}:{status.st_ino + int(sys.argv[1])}"
logs.configure(LogConfig(), sys.stderr, {"JOURNAL_STREAM": journal})
logger = structlog.get_logger()
logger.info("daemon_ready")
logger.error("step_failed")
"""


@pytest.mark.parametrize(("other", "prefixes"), [(0, ["<6>{", "<3>{"]), (1, ['{"ev', '{"ev'])])
def test_priorities_in_the_journal_alone(other: int, prefixes: list[str]) -> None:
    """Lines carry a priority exactly when standard error is the stream that JOURNAL_STREAM names."""
    result = subprocess.run(
        [sys.executable, "-c", LOG, str(other)], env=os.environ, capture_output=True, text=True, check=True
    )
    assert [line[:4] for line in result.stderr.splitlines()] == prefixes


def test_a_stream_without_a_descriptor_is_not_the_journal() -> None:
    """JOURNAL_STREAM is inherited by programs whose standard error goes elsewhere."""
    assert not logs.is_journal(io.StringIO(), {"JOURNAL_STREAM": "1:2"})


@pytest.mark.parametrize("format_", ["json", "console"])
def test_one_event_is_one_line(format_: str) -> None:
    """A value with line ends, escapes of a terminal or Unicode's own line ends cannot forge an event."""
    stream = io.StringIO()
    logger = configured(stream, format=format_)
    logger.info("not_reloaded", error="first\nsecond\r\x1b[2Jthird\x85fourth\u2028fifth")
    logging.getLogger("uvicorn.error").warning("path %s", "/\nforged")

    assert len(stream.getvalue().splitlines()) == 2
    assert "\x1b[2J" not in stream.getvalue()


def test_a_traceback_shows_no_values() -> None:
    """What variables hold may be what was said, or a key."""
    stream = io.StringIO()
    logger = configured(stream, format="console")
    said = "nobody's " + "business"
    try:
        raise ValueError
    except ValueError:
        logger.exception("fault")

    assert "ValueError" in stream.getvalue()
    assert said not in stream.getvalue()


def test_a_kind_of_line_that_comes_too_often_is_counted_instead() -> None:
    """Others are written all the while; the first one after a pause says how many were dropped."""
    now_s = 0.0
    limit = logs.RateLimit(burst=3, rate=1.0, clock=lambda: now_s)

    def written(event: str) -> dict[str, object] | None:
        record = logging.LogRecord("streamer", logging.WARNING, "", 0, {"event": event}, (), None)
        assert isinstance(record.msg, dict)
        return record.msg if limit.filter(record) else None

    assert sum(written("flood") is not None for _ in range(1000)) == 3
    assert written("other") is not None
    now_s = 1.5
    assert written("flood") == {"event": "flood", "dropped": 997}
    assert written("flood") is None


def test_lines_of_a_library_are_of_one_kind_wherever_numbers_stand_in_them() -> None:
    """A form that is wrong at another place each time must not fill the disk."""
    stream = io.StringIO()
    configured(stream)
    for n in range(500):
        logging.getLogger("library").warning(f"odd at {n}")  # noqa: G004 - as a careless library does

    assert stream.getvalue().count("odd at") == logs.BURST


def test_the_kinds_that_are_counted_are_bounded() -> None:
    """An event that is not constant makes kinds of its own, and no memory is kept for all of them."""
    limit = logs.RateLimit()
    for n in range(3 * logs.MAX_KINDS):
        limit.filter(logging.LogRecord("streamer", logging.WARNING, "", 0, {"event": f"odd {n}"}, (), None))

    assert limit.n_kinds <= logs.MAX_KINDS
