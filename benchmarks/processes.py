"""Processes for a measurement, and what the kernel says of their memory and processor time."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any


def resident_mb(pid: int) -> float:
    """Memory of a process now."""
    return _status_mb(pid, "VmRSS")


def peak_mb(pid: int) -> float:
    """The most memory that a process has had."""
    return _status_mb(pid, "VmHWM")


def _status_mb(pid: int, name: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024 / 1e6


def processor_seconds(pid: int) -> float:
    """Seconds that all threads of a process have computed."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call it in a new process that ends then."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


@contextmanager
def cluster_of(workers: int, folder: Path) -> Iterator[tuple[Any, float]]:
    """A cluster of that many processes, and the seconds that it took to start."""
    from distributed import LocalCluster

    clock = time.perf_counter()
    with LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        dashboard_address=":0",
        silence_logs=logging.ERROR,
        local_directory=str(folder / "dask"),
    ) as cluster:
        yield cluster, time.perf_counter() - clock
