"""
Memory of this process: how much it is; free memory goes back to the system, and what stays for good is not searched for
garbage.

Steps of many sizes leave free blocks between those that sessions hold. The C library uses them again but returns only
those at the end of its heap: a daemon of 16 busy streams keeps half a gigabyte of free memory when it is idle.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import platform
from pathlib import Path

INTERVAL_S = 60.0
"""A call takes 40 ms on a thread of its own; a returned page that is needed again has to be zeroed."""
MOST_SEARCHED = 20_000
"""Objects among which garbage is searched for while anybody waits: up to two microseconds each, on a slow machine."""
PATIENCE = 10
"""Searches among more objects that are left out before one is made all the same."""


def resident_bytes() -> int:
    """Memory of this process that is in RAM; 0 where the system does not tell."""
    path = Path("/proc/self/statm")
    return int(path.read_text().split()[1]) * os.sysconf("SC_PAGESIZE") if path.exists() else 0


def give_back() -> bool:
    """Return every free page of the heaps to the system; False if the C library is not glibc, or nothing was free."""
    if platform.libc_ver()[0] != "glibc":
        return False
    return bool(ctypes.CDLL(None).malloc_trim(0))


def keep_for_good() -> None:
    """
    Take everything that is loaded out of later searches for garbage.

    A search goes through all objects, 200,000 of them from torch and the model's code alone, and holds every thread for
    0.2 s meanwhile. Enough new connections at once cause one.
    """
    gc.collect()
    gc.freeze()


async def collect_forever(interval_s: float = INTERVAL_S) -> None:
    """
    Search all that is not kept for good every `interval_s` seconds for garbage, and at no other time, until cancelled.

    Thousands of connections at once have a hundred thousand objects. Python would search them when there are a quarter
    more of them, just while they come. Young objects are searched as always.
    """
    thresholds, n_left_out = gc.get_threshold(), 0
    gc.set_threshold(*thresholds[:2], 10**9)
    try:
        while True:
            await asyncio.sleep(interval_s)
            is_calm = len(gc.get_objects(generation=2)) <= MOST_SEARCHED
            n_left_out = 0 if is_calm or n_left_out >= PATIENCE else n_left_out + 1
            if not n_left_out:
                gc.collect()
    finally:
        gc.set_threshold(*thresholds)


async def give_back_forever(interval_s: float = INTERVAL_S) -> None:
    """Call `give_back` now and every `interval_s` seconds, on a thread, until cancelled."""
    while True:
        await asyncio.to_thread(give_back)
        await asyncio.sleep(interval_s)
