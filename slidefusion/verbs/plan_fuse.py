"""``slidefusion.plan_fuse``: what a call of ``fuse`` will need and take, before it is made."""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from slidefusion import memory
from slidefusion.errors import OptionError, OutputError
from slidefusion.fuser import Fuser
from slidefusion.geometry import as_whole
from slidefusion.omezarr.output import stored_region_px
from slidefusion.omezarr.overlap import refuse_overlap
from slidefusion.omezarr.store import is_url, location
from slidefusion.plan import FusePlan, make_plan
from slidefusion.sampling import Timing, take_sample, window_pixels
from slidefusion.tasks.placement import resources_for, worker_bytes
from slidefusion.tasks.pools import has_resources, parallelism, workers_of
from slidefusion.tiling import Tiling
from slidefusion.wording import byte_text

__all__ = ["FuseEstimate", "plan_fuse"]


@dataclass(frozen=True)
class FuseEstimate:
    """What a call of ``fuse`` will do, need and take."""

    regions: int
    """Regions of the slide; each is one task."""
    region_px: int
    """Side of a region."""
    planes: int
    megapixel_planes: float
    """Level-0 pixels of the slide times the planes, in millions."""
    read_bytes: int
    """Pixels to read, decoded, with the halo of each region."""
    halo_bytes: int
    """The part of them that is read more than once."""
    write_bytes: int
    """Pixels of the slide and its maps at level 0, before they are encoded."""
    stored_bytes: int
    """Estimate of what the slide takes on disk: encoded, with pyramid and maps."""
    free_bytes: int | None
    """Free where the slide is to be written; None when that is unknown (no ``out``, or a URL)."""
    workers: int
    threads: int
    """Tasks that each worker runs at once."""
    memory_needed_bytes: int
    """Of each worker: its tasks as the fuser declares them, and the process itself."""
    memory_allowed_bytes: int
    """80 % of what a worker may have."""
    start_seconds: float
    """Before and in the first regions: looking at the slide, loading, compiling. A process that
    finds it all on disk already needs less."""
    timing: Timing
    """The sample, and thread-seconds of reading, fusing and writing."""

    @property
    def task_seconds(self) -> float:
        """Of all regions together, in seconds of one thread."""
        return self.timing.read_s + self.timing.fuse_s + self.timing.write_s

    @property
    def worker_seconds(self) -> float:
        """Time of all workers together, busy to the end."""
        return self.seconds_with(self.workers) * self.workers

    @property
    def wall_seconds(self) -> float:
        """From the first region to the last; ``start_seconds`` come on top."""
        return self.seconds_with(self.workers)

    def seconds_with(self, workers: int) -> float:
        """Wall seconds with another number of such workers, if store and network keep up."""
        rounds = -(-self.regions // (workers * self.threads))
        return rounds * self.task_seconds / self.regions


def plan_fuse(
    stack: Any,
    fuser: str | Fuser = "lpp",
    *,
    planes: Sequence[int] | None = None,
    out: str | os.PathLike[str] | None = None,
    crop: tuple[int, int, int, int] | None = None,
    chunks: int | Literal["auto"] = "auto",
    client: Any | None = None,
    device: str = "auto",
    workers: int | None = None,
    threads: int | None = None,
    memory_limit: int | str | None = None,
    sample: int = 6,
    **options: Any,
) -> FuseEstimate:
    """Say what :func:`slidefusion.fuse` with the same arguments will need and take.

    Some regions, poor and rich ones all over the slide, are read, fused and written to a temporary
    folder; their time and size, by how much is in a region, gives that of the slide. As many run
    side by side as will later, as far as this machine has cores. What is compiled or opened first
    does not count. Nothing is written to ``out``.

    Parameters
    ----------
    stack, fuser, planes, crop, chunks, device, **options
        As for :func:`slidefusion.fuse`.
    out
        Where the slide would be written: the free space there is checked.
    client
        A ``dask.distributed.Client`` whose workers run the sample; by default the active one (see
        :func:`slidefusion.fuse`), or this machine's threads.
    workers, threads
        Worker processes, and tasks that each runs at once. By default those of ``client``, or one
        process with all of this machine's threads; ``workers`` alone means one thread each.
    memory_limit
        Memory of each worker, in bytes or as text (``"4 GiB"``); by default what the workers of
        ``client`` say, or this machine's memory shared by all workers.
    sample
        Number of regions to time. A slide of few regions has at most half of them timed.

    Returns
    -------
    FuseEstimate

    Raises
    ------
    MemoryBudgetError
        A worker would need more memory than it may have; the message has both numbers.
    OutputError
        The slide would take more than is free at ``out`` (the message has both numbers), or damage
        the stack there.
    SlidefusionError
        Whatever :func:`slidefusion.fuse` would raise: for its arguments, or for a region of the
        sample that cannot be read or fused.

    >>> import numpy as np, slidefusion as sf
    >>> stack = np.random.default_rng(0).integers(0, 255, (3, 5, 90, 80), dtype=np.uint8)
    >>> sf.plan_fuse(stack, "lpp", sample=1).regions
    1
    """
    for name, value in (("workers", workers), ("threads", threads), ("sample", sample)):
        if value is not None and (as_whole(value) or 0) < 1:
            raise OptionError(f"{name}={value!r}: give a whole number, 1 or more")
    workers, threads, sample = as_whole(workers), as_whole(threads), int(sample)
    clock = time.perf_counter()
    plan = make_plan(stack, fuser, planes, crop, chunks, client, device, out, options)
    planning_s = time.perf_counter() - clock
    if out is not None:
        refuse_overlap(location(out), plan.stack.inputs)
    pool = _Pool.of(plan, workers, threads, memory_limit)
    forced = chunks == "auto" and out is not None and stored_region_px(out) is not None
    if chunks == "auto" and not forced:
        plan = _with_regions_for(plan, pool)
    needed = memory.check(*_task(plan), pool.threads, pool.limit_bytes, forced=forced)
    tiling = plan.tiling
    at_once = min(pool.workers * pool.threads, pool.cores, tiling.count)
    size = min(max(sample, at_once), max(at_once, tiling.count // 2))
    timing = take_sample(plan, size, at_once)
    target, channels = tiling.target, plan.stack.shape[0]
    pixels, count = target.height * target.width, len(plan.planes)
    sample_bytes = channels * plan.stack.dtype.itemsize
    read = int(window_pixels(tiling).sum()) * count * sample_bytes
    stored = int(timing.stored_bytes)
    return FuseEstimate(
        regions=tiling.count,
        region_px=tiling.region_px,
        planes=count,
        megapixel_planes=pixels * count / 1e6,
        read_bytes=read,
        halo_bytes=read - pixels * count * sample_bytes,
        write_bytes=round(timing.written_bytes),
        stored_bytes=stored,
        free_bytes=_check_disk(out, stored),
        workers=pool.workers,
        threads=pool.threads,
        memory_needed_bytes=needed,
        memory_allowed_bytes=memory.budget_bytes(pool.limit_bytes),
        start_seconds=planning_s + timing.start_s,
        timing=timing,
    )


@dataclass(frozen=True)
class _Pool:
    """The workers that are planned for."""

    workers: int
    threads: int
    limit_bytes: int | None
    """Memory that each has; None for this process, which has what there is."""
    cores: int
    """How many tasks the sample can run at once."""

    @classmethod
    def of(
        cls,
        plan: FusePlan,
        workers: int | None,
        threads: int | None,
        memory_limit: int | str | None,
    ) -> _Pool:
        limit = _bytes(memory_limit)
        if plan.client is not None:
            resources = resources_for(plan.fuser) or {}
            found = [w for w in workers_of(plan.client).values() if has_resources(w, resources)]
            each = max((int(w["nthreads"]) for w in found), default=1)
            limit = limit or worker_bytes(plan.client, plan.fuser) or memory.available_bytes()
            workers, threads = workers or max(1, len(found)), threads or each
            return cls(workers, threads, limit, max(1, each * len(found)))
        cores = parallelism(None)
        threads = threads or (cores if workers is None else 1)
        if limit is None and workers is not None:
            limit = memory.available_bytes() // workers
        return cls(workers or 1, threads, limit, cores)


def _bytes(limit: int | str | None) -> int | None:
    if limit is None:
        return None
    from dask.utils import parse_bytes

    try:
        whole = as_whole(limit)  # Dask's reader knows no NumPy integer, and takes True for 1 byte
        if whole is None and isinstance(limit, bool):
            raise TypeError("a yes or no is no number of bytes")
        found = int(parse_bytes(limit)) if whole is None else whole
    except (AttributeError, OverflowError, TypeError, ValueError):
        found = 0
    if found < 1:
        raise OptionError(
            f"memory_limit={limit!r}: give the memory of a worker in bytes, or like '4 GiB'"
        )
    return found


def _task(plan: FusePlan) -> tuple[Fuser, Tiling, int, int, int]:
    stack = plan.stack
    return plan.fuser, plan.tiling, len(plan.planes), stack.shape[0], stack.dtype.itemsize


def _with_regions_for(plan: FusePlan, pool: _Pool) -> FusePlan:
    """With smaller regions, if workers like these would be given such."""
    fuser, tiling, planes, channels, itemsize = _task(plan)
    side = memory.choose_region_px(
        fuser,
        tiling.size,
        planes,
        channels,
        itemsize,
        pool.threads,
        tiling.area,
        pool.limit_bytes,
    )
    if side >= tiling.region_px:
        return plan
    smaller = Tiling(tiling.size, side, tiling.footprint, tiling.area)
    return dataclasses.replace(plan, tiling=smaller)


def _check_disk(out: str | os.PathLike[str] | None, needed: int) -> int | None:
    """Bytes free for the output, what an earlier run left there included."""
    if out is None or is_url(where := location(out)):
        return None
    path = Path(where)
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if path.is_dir():
        for folder, _, files in os.walk(path):
            free += sum(Path(folder, name).lstat().st_size for name in files)
    if needed > free:
        raise OutputError(
            f"the slide needs about {byte_text(needed)} at {where}, and {byte_text(free)} are free "
            "there: make room, or choose another output"
        )
    return free
