"""Tests of benchmarks/lost_engines.py."""

from __future__ import annotations

import subprocess
import sys

import psutil

from benchmarks.lost_engines import cpu_s, gateways


def test_gateways_are_counted_with_their_parent() -> None:
    """By their command, in a daemon that has several; its other children are none."""
    wait = (sys.executable, "-c", "import sys; sys.stdin.read()")
    gateway, other = (
        subprocess.Popen([*wait, name], stdin=subprocess.PIPE)
        for name in ("streamer.gateways.process", "streamer.engine_process")
    )
    with gateway, other:  # ends both
        found = gateways(psutil.Process())
        spent = cpu_s(found)

    assert {each.pid for each in found} == spent.keys() == {psutil.Process().pid, gateway.pid}
    assert spent[psutil.Process().pid] > 0
