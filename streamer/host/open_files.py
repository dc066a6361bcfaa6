"""The bound that the system sets on the open files of this process."""

from __future__ import annotations

import contextlib
import resource


def allow_all_files() -> int:
    """Raise the bound on open files as far as the system lets a program by itself; returns it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):  # macOS names a bound that it does not accept
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else 2**31
