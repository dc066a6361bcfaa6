"""
Memory of this process: free memory goes back to the system, and what stays for good is not searched for garbage.

Steps of many sizes leave free blocks between those that sessions hold. The C library uses them again but returns only
those at the end of its heap: a daemon of 16 busy streams keeps half a gigabyte of free memory when it is idle.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import platform

INTERVAL_S = 60.0
"""A call takes 40 ms on a thread of its own; a returned page that is needed again has to be zeroed."""


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


async def give_back_forever(interval_s: float = INTERVAL_S) -> None:
    """Call `give_back` now and every `interval_s` seconds, on a thread, until cancelled."""
    while True:
        await asyncio.to_thread(give_back)
        await asyncio.sleep(interval_s)
