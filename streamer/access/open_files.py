"""How the open files that the system allows are shared out, where they are fewer than the limits ask for. Pure."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from streamer.access.open_sockets import MAX_WAITING
from streamer.config import LimitsConfig

RESERVED = 192
"""For everything but connections: libraries, engine processes, and three for each of 32 uploads."""
MIN_WAITING = 32
"""Connections that may wait for their peer at least."""


class Shares(NamedTuple):
    """What fits."""

    limits: LimitsConfig
    """With fewer connections and viewers where they do not fit."""
    max_waiting: int
    """Connections beside them that wait for their peer."""


def needed_files(limits: LimitsConfig) -> int:
    """Open files that these limits ask for."""
    return limits.max_connections + limits.max_viewers + MAX_WAITING + RESERVED


def shared_out(limits: LimitsConfig, n_files: int) -> Shares:
    """
    Share the open files out: a quarter of those for connections to peers that are waited for, the rest as configured.

    Args:
        limits: As configured.
        n_files: Open files that the system allows.
    """
    if n_files >= needed_files(limits):
        return Shares(limits, MAX_WAITING)
    n_free = max(4 * MIN_WAITING, n_files - RESERVED)
    max_waiting = min(MAX_WAITING, n_free // 4)
    part = (n_free - max_waiting) / (limits.max_connections + limits.max_viewers)
    fitting = msgspec.structs.replace(
        limits,
        max_connections=max(1, int(limits.max_connections * min(1.0, part))),
        max_viewers=int(limits.max_viewers * min(1.0, part)),
    )
    return Shares(fitting, max_waiting)
