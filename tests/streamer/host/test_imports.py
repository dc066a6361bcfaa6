"""Tests of streamer/host/imports.py: what happens to an interrupt and to garbage while modules are loaded."""

from __future__ import annotations

import gc
import importlib
import signal
import threading
from collections.abc import Iterator

import pytest

from streamer.host.imports import long_import


@pytest.fixture(autouse=True)
def python_handles_interrupts() -> Iterator[None]:
    """As in a program in a terminal, whatever started these tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def load(module: str) -> tuple[object, bool]:
    """Import a module; the handler of interrupts meanwhile, and whether garbage was looked for."""
    with long_import():
        seen = signal.getsignal(signal.SIGINT), gc.isenabled()
        importlib.import_module(module)
    return seen


def test_an_interrupt_ends_the_process_meanwhile_and_raises_afterwards() -> None:
    """Also after an import that failed."""
    assert load("string") == (signal.SIG_DFL, False)
    with pytest.raises(ModuleNotFoundError):
        load("there_is_no_such_module")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert gc.isenabled()


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda _number, _frame: None])
def test_what_a_program_has_chosen_stays(handler: signal.Handlers) -> None:
    """It ignores interrupts, or handles them itself."""
    signal.signal(signal.SIGINT, handler)
    with long_import():
        assert signal.getsignal(signal.SIGINT) is handler
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_thread_may_import_too() -> None:
    """It has no say in signals."""
    seen: list[object] = []
    thread = threading.Thread(target=lambda: seen.append(load("string")))
    thread.start()
    thread.join()
    assert seen == [(signal.default_int_handler, False)]
