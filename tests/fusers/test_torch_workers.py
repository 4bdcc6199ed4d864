"""Threads with one processor each."""

from __future__ import annotations

import multiprocessing
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

torch = pytest.importorskip("torch")

from slidefusion.fusers import torch_workers as module  # noqa: E402
from slidefusion.fusers.torch_workers import torch_workers  # noqa: E402


def threads_of_torch(_: object = None) -> int:
    time.sleep(0.05)  # so that each thread of a pool gets one
    return int(torch.get_num_threads())


def test_each_has_one_thread_of_torch_and_nobody_else_is_changed() -> None:
    pool = module._made(4)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with pool, module._made(2) as second, ThreadPoolExecutor(2) as others:
            assert list(pool.map(threads_of_torch, range(8))) == [1] * 8
            assert list(second.map(threads_of_torch, range(4))) == [1] * 4
            assert list(others.map(threads_of_torch, range(4))) == [3] * 4
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_there_is_one_pool_whoever_asks_first() -> None:
    found: list[object] = []
    askers = [threading.Thread(target=lambda: found.append(torch_workers())) for _ in range(8)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert len({id(pool) for pool in found}) == 1


def _in_child(answers: multiprocessing.Queue[int]) -> None:
    answers.put(torch_workers().submit(threads_of_torch).result(timeout=30))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_makes_its_own() -> None:
    torch_workers()
    fork = multiprocessing.get_context("fork")
    answers: multiprocessing.Queue[int] = fork.Queue()
    child = fork.Process(target=_in_child, args=(answers,))
    child.start()
    assert answers.get(timeout=60) == 1
    child.join()
