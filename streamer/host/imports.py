"""Imports that take long: what happens to an interrupt and to garbage meanwhile."""

from __future__ import annotations

import contextlib
import gc
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def long_import() -> Iterator[None]:
    """
    For imports of modules that take long, and stay as long as the process.

    Ctrl-C ends the program by the signal itself, as it ends one that handles no signals: nothing has begun that would
    have to end well, and an import that an exception breaks off tells of it as it likes, a compiled module by another
    exception. Collections of garbage do not look through what is imported: one through 190,000 objects takes 0.1 s, in
    which no thread of Python runs, and an import makes several.
    """
    gc.disable()
    is_handled = _is_handled()
    if is_handled:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        if is_handled:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        gc.freeze()
        gc.enable()


def _is_handled() -> bool:
    """Whether Ctrl-C raises an exception; in the background of a script it is ignored."""
    is_main = threading.current_thread() is threading.main_thread()
    return is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
