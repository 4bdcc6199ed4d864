"""Threads that compute with torch, each on one processor of its own.

A convolution of few channels takes too little time to be shared by several processors: they spend a
fifth of it waiting for each other, and the work between convolutions keeps only one of them busy.
Tiles do not depend on each other, so each is computed by one thread, and as many at once as there
are processors. The results are the same bytes.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

__all__ = ["in_order", "torch_workers"]

Item = TypeVar("Item")
Result = TypeVar("Result")

_BEGIN_SECONDS = 60.0  # after this a thread counts as unable to begin, and none waits for it
_LOCK = threading.Lock()
_POOL: ThreadPoolExecutor | None = None


def torch_workers() -> ThreadPoolExecutor:
    """The threads of this process, one for each processor that it may use, made at first use.

    In each of them torch computes without further threads; in all others as it did before.

    >>> torch_workers().submit(torch.get_num_threads).result()
    1
    """
    global _POOL
    with _LOCK:
        if _POOL is None:
            _POOL = _made(_processors())
        return _POOL


def in_order(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """What ``function`` makes of each item, computed by these threads, in the order of the items.

    As many are computed at once as torch has threads here, while the caller goes on with those
    before and gets the next item. A worker of a cluster has one thread: its other processors are
    the other workers'.

    >>> list(in_order(abs, [-1, 2]))
    [1, 2]
    """
    workers, most = torch_workers(), torch.get_num_threads()
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            made = [waiting.popleft().result()] if len(waiting) == most else []
            waiting.append(workers.submit(function, item))
            yield from made
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _made(count: int) -> ThreadPoolExecutor:
    before = torch.get_num_threads()
    all_began = threading.Barrier(count)

    def begin() -> None:
        torch.get_num_threads()  # the first call in a thread takes the default: here, not later
        torch.set_num_threads(1)
        all_began.wait(_BEGIN_SECONDS)

    pool = ThreadPoolExecutor(count, "slidefusion-torch", initializer=begin)
    for ready in [pool.submit(all_began.wait, _BEGIN_SECONDS) for _ in range(count)]:
        ready.result()
    # Each has also set the default of threads that are yet to begin.
    torch.set_num_threads(before)
    return pool


def _forget() -> None:
    global _POOL, _LOCK
    _POOL, _LOCK = None, threading.Lock()


if hasattr(os, "register_at_fork"):  # threads do not live on in a forked process
    os.register_at_fork(after_in_child=_forget)
