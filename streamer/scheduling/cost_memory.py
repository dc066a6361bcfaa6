"""Remembers between starts what a step costs on the idle machine: a small JSON file for each machine and model."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import msgspec
import structlog

from streamer.scheduling.load import StepCosts, least

STALE_S = 30 * 86_400.0
"""Age from which on a file is ignored, seconds since a measurement last came near it."""
NEAR = 1.15
"""Factor within which a measurement confirms what is remembered."""
FRESH_S = 86_400.0
"""A file that only needs a newer date is written after this many seconds."""
LESS = 0.97
"""Factor by which costs must fall to be written at once."""

log = structlog.get_logger()

Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e4)]


class CostsFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Content of the file."""

    key: dict[str, str]
    """Machine, model, dtype and versions that the costs hold for."""
    fixed_s: Seconds
    row_s: Annotated[float, msgspec.Meta(gt=0, le=1e4)]
    confirmed_at: float
    """Seconds since 1970 of the newest measurement that came near these costs."""


class CostMemory:
    """
    The least costs that were measured on this machine, on disk. Not thread-safe.

    What cannot be read or written is ignored with one line in the log: the daemon then measures as on its first start.

    Args:
        folder: Of the files of all machines and models; made when it is needed. None remembers nothing.
        key: What the costs depend on: machine, model, dtype, versions.
        n_rows: Rows of the step by which costs are compared.
        now: Seconds since 1970.
    """

    def __init__(
        self, folder: Path | None, key: Mapping[str, str], n_rows: int, now: Callable[[], float] = time.time
    ) -> None:
        self._key, self._n_rows, self._now = dict(key), n_rows, now
        digest = hashlib.sha256(repr(sorted(key.items())).encode()).hexdigest()
        self._path = folder / f"{digest[:32]}.json" if folder else None
        self._known: StepCosts | None = None
        self._confirmed_at = 0.0
        self._can_write = True

    def recall(self) -> StepCosts | None:
        """The costs of an earlier start; None if there are none that hold for this machine and model."""
        if self._path is None or not self._path.exists():
            return None
        try:
            held = msgspec.json.decode(self._path.read_bytes(), type=CostsFile)
            reason = self._unusable(held)
        except (OSError, ValueError, RecursionError) as error:  # msgspec's own among them
            reason = str(error)
        if reason:
            log.warning("costs_ignored", file=str(self._path), reason=reason)
            return None
        self._known, self._confirmed_at = StepCosts(held.fixed_s, held.row_s), held.confirmed_at
        return self._known

    def _unusable(self, held: CostsFile) -> str:
        """Why costs that could be read do not hold; empty if they do."""
        age_s = self._now() - held.confirmed_at
        if held.key != self._key:
            return f"written for {held.key}"
        if not -FRESH_S <= age_s <= STALE_S:  # a clock that was set right may leave a time that is to come
            return f"confirmed {age_s / 86_400:.0f} days ago, expected at most {STALE_S / 86_400:.0f}"
        return ""

    def note(self, measured: StepCosts) -> None:
        """Remember a measurement, if it is cheaper than what is known or comes near it."""
        known, n = self._known or measured, self._n_rows
        if measured.step_s(n) > NEAR * known.step_s(n):
            return
        lesser = least(known, measured, n)
        fell = self._known is None or any(lesser.step_s(rows) < LESS * known.step_s(rows) for rows in (1, n))
        if fell or self._now() - self._confirmed_at > FRESH_S:
            self._known, self._confirmed_at = lesser, self._now()
            self._write(lesser)

    def _write(self, costs: StepCosts) -> None:
        if self._path is None or not self._can_write:
            return
        held = CostsFile(
            key=self._key, fixed_s=costs.fixed_s, row_s=costs.row_s, confirmed_at=round(self._confirmed_at)
        )
        partial = self._path.with_suffix(f".{secrets.token_hex(4)}.partial")  # other processes write theirs meanwhile
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(msgspec.json.format(msgspec.json.encode(held)))
            partial.replace(self._path)
        except OSError as error:
            self._can_write = False
            log.warning("costs_not_remembered", file=str(self._path), reason=str(error))
