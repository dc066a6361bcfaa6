"""The text of `/statz`: the state of the daemon for a person, one line for each session."""

from __future__ import annotations

from streamer.telemetry.statistics import EngineStatistics, SchedulerStatistics, SessionStatistics

_COLUMNS = ("session", "caller", "audio s", "behind s", "turns", "words", "commit s", "steps", "unread", "state")


def render(version: str, model: str, uptime_s: float, n_connections: int, statistics: SchedulerStatistics) -> str:
    """
    Render lines on the daemon, one on each engine, then a table of the sessions, the longest first.

    Args:
        version: Of this package.
        model: Name of the model.
        uptime_s: Seconds since the start.
        n_connections: Open connections of `captions.v1`.
        statistics: Of the scheduler, now.
    """
    s = statistics
    days, rest_s = divmod(int(uptime_s), 86400)
    lines = [
        f"streamer {version}, model {model}, up {days} d {rest_s // 3600:02}:{rest_s // 60 % 60:02}:{rest_s % 60:02}",
        "",
        f"sessions       {s.n_sessions} of {s.capacity}, {s.n_speaking} speaking; {n_connections} connections",
        f"step interval  {s.interval_s * 1e3:.0f} ms; a row of a step costs {s.row_cost_s * 1e3:.1f} ms; "
        f"{s.n_steps} steps",
        f"worst lag      {s.worst_lag_s:.1f} s",
        *map(_engine, s.engines),
        "",
        *_table([_COLUMNS, *map(_cells, sorted(s.sessions, key=lambda session: -session.audio_s))]),
    ]
    return "\n".join(lines) + "\n"


def _engine(engine: EngineStatistics) -> str:
    state = "alive" if engine.is_alive else "lost"
    return (
        f"engine {engine.name} pid {engine.pid} rows {engine.n_rows} row_cost_ms {engine.row_cost_s * 1e3:.1f} "
        f"restarts {engine.n_restarts} {state}"
    )


def _cells(session: SessionStatistics) -> tuple[str, ...]:
    state = "stalled" if session.is_stalled else "speaking" if session.is_speaking else "silent"
    return (
        session.id,
        session.caller or "-",
        f"{session.audio_s:.0f}",
        f"{session.lag_s:.1f}",
        str(session.n_turns),
        str(session.n_words),
        f"{session.mean_commit_s:.1f}",
        str(session.n_steps),
        str(session.n_unread),
        state if session.is_attached else f"{state}, no connection",
    )


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
