"""Tests of streamer/scheduling/device_thread.py."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
import torch

from streamer.scheduling import device_thread
from streamer.scheduling.device_thread import DeviceThread
from tests.helpers.waiting import until


async def test_calls_run_one_after_another_on_one_thread() -> None:
    """In the order in which they were asked for, with the threads of matrix products that were chosen."""
    thread, met = DeviceThread(n_threads=1), list[tuple[int, str, int]]()

    def call(n: int) -> int:
        met.append((n, threading.current_thread().name, torch.get_num_threads()))
        return n

    assert await asyncio.gather(*(thread.run(lambda n=n: call(n)) for n in range(5))) == [*range(5)]
    thread.close()

    assert [n for n, _, _ in met] == [*range(5)]
    assert {name for _, name, _ in met} == {"device_0"}
    assert {n_threads for _, _, n_threads in met} == {1}


async def test_what_a_call_raises_is_raised_where_it_is_awaited() -> None:
    """And the next call runs."""
    thread = DeviceThread()

    with pytest.raises(ZeroDivisionError):
        await thread.run(lambda: 1 / 0)

    assert await thread.run(lambda: "next") == "next"
    thread.close()


async def test_a_call_that_takes_longer_than_it_may_hangs() -> None:
    """An idle thread never hangs."""
    thread, entered, leave = DeviceThread(liveness_s=-1.0), threading.Event(), threading.Event()
    assert not thread.is_hanging

    call = asyncio.create_task(thread.run(lambda: (entered.set(), leave.wait(60))))
    await asyncio.to_thread(entered.wait, 60)
    assert thread.is_hanging
    leave.set()
    await call

    assert not thread.is_hanging
    thread.close()


async def test_a_process_that_stands_still_makes_no_call_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that was paused in the middle of a step; the time for which the loop runs counts alone."""
    monkeypatch.setattr(device_thread, "LOOK_S", 0.01)
    thread, leave = DeviceThread(liveness_s=0.1), threading.Event()
    call = asyncio.create_task(thread.run(lambda: leave.wait(60)))
    await asyncio.sleep(0)
    time.sleep(0.2)  # noqa: ASYNC251 - the process stands still
    await asyncio.sleep(0)
    assert not thread.is_hanging

    await until(lambda: thread.is_hanging)
    leave.set()
    await call
    thread.close()
