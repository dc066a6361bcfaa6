"""Cores and instructions of the CPU, as the system tells them."""

from __future__ import annotations

import math
import os
import platform
from pathlib import Path

BFLOAT16_FLAGS = ("amx_bf16", "avx512_bf16", "bf16")
"""Flags of /proc/cpuinfo for instructions that multiply bfloat16: AMX, AVX-512, Arm."""


def cpuinfo() -> str:
    """The text of /proc/cpuinfo; empty on systems without it."""
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""


def bfloat16_features(text: str) -> list[str]:
    """The `BFLOAT16_FLAGS` in a text of /proc/cpuinfo."""
    words = set(text.split())
    return [flag for flag in BFLOAT16_FLAGS if flag in words]


def cpu_name(text: str) -> str:
    """Name of the first processor in a text of /proc/cpuinfo; the machine's architecture where it gives none."""
    names = (
        line.partition(":")[2].strip() for line in text.splitlines() if line.startswith(("model name", "CPU part"))
    )
    return next(names, platform.machine())


def physical_cores() -> int:
    """
    Number of cores that this process may use, at least 1.

    On Linux the hyper-threads of a core count once, and no more count than a container or a unit may fill.
    """
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    siblings = set()
    for cpu in usable:
        path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        siblings.add(path.read_text() if path.exists() else str(cpu))
    return max(1, int(min(len(siblings), _quota())))


def _quota() -> float:
    """Cores that the control group (version 2) of this process may fill, rounded up; infinite where it has no bound."""
    groups = Path("/proc/self/cgroup")
    lines = groups.read_text().splitlines() if groups.exists() else []
    own = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "/")
    path = Path(f"/sys/fs/cgroup{own}/cpu.max")
    quota, _, period = path.read_text().partition(" ") if path.exists() else ("max", "", "")
    return math.ceil(int(quota) / int(period)) if quota.isdecimal() else math.inf
