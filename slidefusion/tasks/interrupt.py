"""Ctrl-C for work in other threads: Python raises it in the main thread alone.

A thread that works for another one says which event stops it, and its work looks at that event
where it waits and between its steps. An exception thrown into the thread from outside
(``PyThreadState_SetAsyncExc``) is no way: it may land in the midst of a lock or, since the thread's
number is also that of a thread it has just begun, in that one before it runs.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

__all__ = ["check_stop", "stopped_by"]


class _Here(threading.local):
    """What stops the current thread; threads that it begins do not inherit it."""

    stop: threading.Event | None = None


_HERE = _Here()


@contextlib.contextmanager
def stopped_by(stop: threading.Event) -> Iterator[None]:
    """Within it, setting ``stop`` ends this thread's work as Ctrl-C ends that of the main thread.

    >>> stop = threading.Event()
    >>> try:
    ...     with stopped_by(stop):
    ...         check_stop()
    ...         stop.set()
    ...         check_stop()
    ... except KeyboardInterrupt as error:
    ...     print(error)
    the work in this thread was stopped
    """
    before, _HERE.stop = _HERE.stop, stop
    try:
        yield
    finally:
        _HERE.stop = before


def check_stop() -> None:
    """Called where it is safe to end.

    Raises
    ------
    KeyboardInterrupt
        When this thread's work is to stop.
    """
    if _HERE.stop is not None and _HERE.stop.is_set():
        raise KeyboardInterrupt("the work in this thread was stopped")
