"""Whether the clock of this machine is kept right: certificates and tokens are valid by it."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

UNKNOWN, NOT_SYNCHRONISED = -1, 5
"""Answers of adjtimex(2): it may not be asked, as in some containers; TIME_ERROR."""
TIMEX_BYTES = 512
"""More than a `struct timex` has; of zeros it asks and changes nothing."""


def is_synchronised(ask: Callable[[], int] | None = None) -> bool | None:
    """
    Whether something corrects the clock, as far as the kernel knows; None where it does not tell.

    Args:
        ask: Answers as adjtimex(2); None: the kernel does.
    """
    state = (ask or _adjtimex)()
    return None if state == UNKNOWN else state != NOT_SYNCHRONISED


def _adjtimex() -> int:
    if sys.platform != "linux":
        return UNKNOWN
    return int(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(TIMEX_BYTES)))
