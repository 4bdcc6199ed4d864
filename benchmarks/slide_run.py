"""One slide fused on a new cluster by a new process, and what each part of it took."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from processes import apart, cluster_of, peak_mb, processor_seconds
from repeated_stack import make_linked_stack

import slidefusion as sf
from slidefusion import region_run
from slidefusion.plan import make_plan
from slidefusion.tasks.report import RunReport


@dataclass(frozen=True)
class Run:
    """One slide fused; seconds are of the wall clock, the lists are one number a worker."""

    side: int
    megapixel_planes: float
    regions: int
    read_times: float
    """How often a pixel is read, since the windows of regions overlap."""
    cluster_s: float
    first_use_s: float
    planning_s: float
    other_start_s: float
    regions_s: float
    finishing_s: float
    call_s: float
    workers_busy_s: tuple[float, ...]
    client_busy_s: float
    scheduler_busy_s: float
    workers_peak_mb: tuple[float, ...]
    client_peak_mb: float
    stored_mb: float

    @property
    def steady_s(self) -> float:
        """From the first region to the complete slide."""
        return self.regions_s + self.finishing_s

    @property
    def whole_s(self) -> float:
        """From nothing to the complete slide."""
        return self.cluster_s + self.first_use_s + self.call_s

    @property
    def busy_s(self) -> float:
        """Processor seconds of all processes, from the first region on."""
        return sum(self.workers_busy_s) + self.client_busy_s + self.scheduler_busy_s


class _Clock(logging.Handler):
    """Notes when regions begin, and when the last of them was done, of which the log tells."""

    def __init__(self, pids: list[int]) -> None:
        super().__init__()
        self.pids = pids
        self.begun = self.last_region = 0.0
        self.busy: list[float] = []

    def begin(self) -> None:
        self.busy = [processor_seconds(pid) for pid in self.pids]
        self.begun = time.perf_counter()

    def emit(self, record: logging.LogRecord) -> None:
        if str(record.msg).startswith("task=%s region="):
            self.last_region = time.perf_counter()


@contextmanager
def clock_of(pids: list[int]) -> Iterator[_Clock]:
    """A clock that is told of regions; those of a run begin when its report does."""
    clock, log = _Clock(pids), logging.getLogger("slidefusion")

    class Report(RunReport):
        def __init__(self, *arguments: Any) -> None:
            clock.begin()
            super().__init__(*arguments)

    log.addHandler(clock)
    log.setLevel(logging.DEBUG)
    log.propagate = False
    region_run.RunReport = Report  # type: ignore[misc]
    yield clock
    region_run.RunReport = RunReport  # type: ignore[misc]
    log.removeHandler(clock)


def fuse_slide(
    address: str, scheduler: int, cluster_s: float, source: Path, out: Path, fuser: str
) -> Run:
    """In a process of its own: one fusion, and what it took."""
    from distributed import Client

    _, planes, side, _ = sf.open_stack(source).shape
    report = out.with_name("report.json")
    with Client(address, set_as_default=False) as client:
        pids = [*client.run(os.getpid).values(), os.getpid(), scheduler]
        start = time.perf_counter()
        # Loads, compiles and asks the system for memory on all workers: a whole region for each.
        small, wide = out.with_name("small.zarr"), min(side, 2048 * (len(pids) - 2))
        sf.fuse(
            source, fuser, out=small, crop=(0, 0, 2048, wide), chunks=2048, client=client,
            progress=False,
        )  # fmt: skip
        shutil.rmtree(small)
        first_use_s = time.perf_counter() - start
        start = time.perf_counter()
        make_plan(source, fuser, None, None, "auto", client, "auto", None, {})
        planning_s = time.perf_counter() - start
        os.sync()  # what earlier runs left to write
        with clock_of(pids) as clock:
            start = time.perf_counter()
            sf.fuse(source, fuser, out=out, client=client, progress=False, report=report)
            end = time.perf_counter()
        busy = [processor_seconds(pid) - b for pid, b in zip(pids, clock.busy, strict=True)]
        *workers_mb, client_mb, _ = (peak_mb(pid) for pid in pids)
    said = json.loads(report.read_text())
    report.unlink()
    return Run(
        side=side,
        megapixel_planes=side**2 * planes / 1e6,
        regions=said["regions"]["total"],
        read_times=said["bytes"]["read"] / (3 * side**2 * planes),
        cluster_s=cluster_s,
        first_use_s=first_use_s,
        planning_s=planning_s,
        other_start_s=max(0.0, clock.begun - start - planning_s),
        regions_s=clock.last_region - clock.begun,
        finishing_s=end - clock.last_region,
        call_s=end - start,
        workers_busy_s=tuple(busy[:-2]),
        client_busy_s=busy[-2],
        scheduler_busy_s=busy[-1],
        workers_peak_mb=tuple(workers_mb),
        client_peak_mb=client_mb,
        stored_mb=said["bytes"]["stored"] / 1e6,
    )


def fuse_on(workers: int, source: Path, out: Path, fuser: str) -> Run:
    """One fusion on a new cluster."""
    with cluster_of(workers, out.parent) as (cluster, cluster_s):
        found: Run = apart(
            fuse_slide, cluster.scheduler_address, os.getpid(), cluster_s, source, out, fuser
        )
    return found


def median_run(runs: list[Run]) -> Run:
    """The medians of the times, the highest of the peaks."""
    names = [name for name in Run.__dataclass_fields__ if name.endswith("_s")]
    medians: dict[str, Any] = {
        name: statistics.median(getattr(run, name) for run in runs)
        for name in names
        if name != "workers_busy_s"
    }
    for name, merge in (("workers_busy_s", statistics.median), ("workers_peak_mb", max)):
        columns = zip(*(sorted(getattr(run, name)) for run in runs), strict=True)
        medians[name] = tuple(merge(column) for column in columns)
    return replace(runs[0], **medians, client_peak_mb=max(run.client_peak_mb for run in runs))


def stack_of(folder: Path, side: int, planes: int) -> Path:
    """The stack, written in a process of its own."""
    source = folder / "stack.zarr"
    shutil.rmtree(source, ignore_errors=True)
    clock = time.perf_counter()
    apart(make_linked_stack, source, side, planes)
    files = [path.stat() for path in source.rglob("*") if path.is_file()]
    size = sum({file.st_ino: file.st_size for file in files}.values())
    print(
        f"stack of {side} x {side} px, {planes} planes: {size / 1e6:.0f} MB on the disk, made in "
        f"{time.perf_counter() - clock:.0f} s",
        flush=True,
    )
    return source


def digests_of(store: Path) -> dict[str, str]:
    """SHA-256 of every file."""
    return {
        str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in store.rglob("*")
        if path.is_file()
    }
