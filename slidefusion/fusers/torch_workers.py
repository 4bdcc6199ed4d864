"""Threads that compute with torch, each on one processor of its own.

A convolution of few channels is too short to be shared by processors: they spend a fifth of the
time waiting for each other, and what lies between convolutions keeps one of them busy. Tiles need
nothing of each other, so each gets a thread, and as many are computed at once as there are
processors. Results are the same bytes.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import torch

__all__ = ["torch_workers"]

_BEGIN_SECONDS = 60.0  # then a thread could not begin, and the others must not wait for it
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


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _made(count: int) -> ThreadPoolExecutor:
    before = torch.get_num_threads()
    all_began = threading.Barrier(count)

    def begin() -> None:
        torch.get_num_threads()  # takes the default, which no later call then does
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
