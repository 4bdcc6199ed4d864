"""Which ``dask.distributed.Client`` a call uses, also a call that is itself a task of a cluster."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from slidefusion.errors import ProcessingError

__all__ = ["active_client", "out_of_the_way"]


def active_client(client: Any | None) -> Any | None:
    """The client given, or else the one that Dask would use by itself, or None.

    That is the one that this process opened last and has not closed. Inside a task of a worker it
    is None: the worker may have a client that it made for another task, and to wait for the workers
    while one of them is kept busy is only right where it was asked for.
    """
    if client is not None:
        if not hasattr(client, "submit"):
            raise ProcessingError(
                f"client={client!r} is no dask.distributed.Client; give one, or None for threads"
            )
        if getattr(client, "status", "") == "closed":
            raise ProcessingError(
                f"client={client!r} is closed: open another one, or leave it out for threads"
            )
        return _synchronous(client)
    if "distributed" not in sys.modules or _inside_task():
        return None
    from distributed import default_client

    try:
        found = default_client()
    except ValueError:
        return None
    return None if found.status == "closed" else _synchronous(found)


def _synchronous(client: Any) -> Any:
    if getattr(client, "asynchronous", False):
        raise ProcessingError(
            f"{client!r} is asynchronous, and its answers cannot be waited for here: give a "
            "dask.distributed.Client that is not, for example Client(address)"
        )
    return client


def _inside_task() -> bool:
    """Whether a worker runs this, as a task."""
    from distributed import get_worker

    try:
        get_worker()
    except ValueError:
        return False
    return True


@contextlib.contextmanager
def out_of_the_way(client: Any | None) -> Iterator[None]:
    """Within it a task leaves its worker's thread to the tasks that it waits for.

    Otherwise those would wait for it, if their worker has no other thread.
    """
    if client is None or not _inside_task():
        yield
        return
    from distributed import rejoin, secede

    try:
        secede()
    except (AttributeError, KeyError):  # a thread of the task's own; one that has left already
        yield
        return
    try:
        yield
    finally:
        with contextlib.suppress(RuntimeError):  # the worker is being closed
            rejoin()
