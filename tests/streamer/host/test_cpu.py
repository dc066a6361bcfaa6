"""Tests of streamer.host.cpu, on machines that are described to it."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from streamer.host import cpu

XEON = "processor\t: 0\nflags\t\t: fpu avx512f avx512_bf16 amx_bf16 amx_tile\nbugs\t\t: none\n"
OLDER = "processor\t: 0\nflags\t\t: fpu avx2 avx512f\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd bf16 i8mm\n"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is taken for the root of the file system."""
    monkeypatch.setattr(cpu, "Path", lambda name: tmp_path / name.lstrip("/"))
    return tmp_path


def wire(root: Path, siblings: dict[int, str]) -> None:
    """Describe which hyper-threads share a core."""
    for number, text in siblings.items():
        topology = root / f"sys/devices/system/cpu/cpu{number}/topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(text)


@pytest.mark.parametrize(
    ("text", "features"), [(XEON, ["amx_bf16", "avx512_bf16"]), (OLDER, []), (ARM, ["bf16"]), ("", [])]
)
def test_native_bfloat16_is_told_from_flags(text: str, features: list[str]) -> None:
    """Whole words of /proc/cpuinfo count: `bf16` is not found inside another name."""
    assert cpu.bfloat16_features(text) == features


def test_cpuinfo_is_empty_where_there_is_none(root: Path) -> None:
    """On Linux it is the text of the file."""
    assert cpu.cpuinfo() == ""
    (root / "proc").mkdir()
    (root / "proc/cpuinfo").write_text(OLDER)
    assert cpu.cpuinfo() == OLDER


def test_hyper_threads_share_a_core(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the processors that this process may use, those of one core count once."""
    wire(root, {0: "0,2\n", 1: "1,3\n", 2: "0,2\n", 3: "1,3\n"})
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    assert cpu.physical_cores() == 2

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2})
    assert cpu.physical_cores() == 1


def test_cores_of_a_system_that_does_not_tell(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without topology each processor is a core; without affinity all of them are usable, and one there always is."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 5})
    assert cpu.physical_cores() == 3

    monkeypatch.delattr(os, "sched_getaffinity")
    for count, cores in ((6, 6), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        assert cpu.physical_cores() == cores


@pytest.mark.parametrize(
    ("group", "bound", "cores"),
    [
        ("/", "200000 100000\n", 2),
        ("/system.slice/streamer.service", "150000 100000\n", 2),
        ("/", "50000 100000\n", 1),
        ("/", "900000 100000\n", 4),
        ("/", "max 100000\n", 4),
    ],
)
def test_a_container_has_the_cores_that_it_may_fill(
    root: Path, monkeypatch: pytest.MonkeyPatch, group: str, bound: str, cores: int
) -> None:
    """However many the machine has; a part of one counts as one."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(f"0::{group}\n")
    folder = root / f"sys/fs/cgroup{group}"
    folder.mkdir(parents=True)
    (folder / "cpu.max").write_text(bound)
    assert cpu.physical_cores() == cores


def test_this_machine_has_a_core() -> None:
    """And no more cores than processors."""
    assert 1 <= cpu.physical_cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nmodel name\t: other\n", "Some CPU @ 2 GHz"),
        ("", platform.machine()),
    ],
)
def test_name_of_the_processor(text: str, name: str) -> None:
    """As /proc/cpuinfo gives it; systems without it give their architecture."""
    assert cpu.cpu_name(text) == name
