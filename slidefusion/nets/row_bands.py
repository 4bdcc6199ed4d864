"""Compiled loops on as many threads as torch computes with."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

__all__ = ["in_bands"]


def in_bands(function: Callable[[int], None], tops: range) -> None:
    """Call ``function`` with each of ``tops``, on as many threads as torch computes with.

    For compiled functions that release the GIL: between torch's own operations, all cores are free.
    """
    threads = torch.get_num_threads()
    if threads == 1 or len(tops) == 1:
        for top in tops:
            function(top)
    else:
        for _ in _threads(threads).map(function, tops):
            pass


@functools.cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="slidefusion-bands")


if hasattr(os, "register_at_fork"):  # threads do not live on in a forked process
    os.register_at_fork(after_in_child=_threads.cache_clear)
