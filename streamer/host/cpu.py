"""What this machine can do, read from the system and never measured: measurements at start-up are hostage to load."""

from __future__ import annotations

import os
from pathlib import Path

BFLOAT16_FLAGS = ("amx_bf16", "avx512_bf16", "bf16")
"""Names in /proc/cpuinfo of instructions that multiply bfloat16: tiles, vectors, Arm."""


def cpuinfo() -> str:
    """The text of /proc/cpuinfo, empty where there is none."""
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""


def bfloat16_features(text: str) -> list[str]:
    """Which of `BFLOAT16_FLAGS` a text of /proc/cpuinfo names."""
    words = set(text.split())
    return [flag for flag in BFLOAT16_FLAGS if flag in words]


def physical_cores() -> int:
    """Cores this process may use, hyper-threads counted once where the system tells."""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    siblings = set()
    for cpu in usable:
        path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        siblings.add(path.read_text() if path.exists() else str(cpu))
    return max(1, len(siblings))
