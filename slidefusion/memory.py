"""How much memory a plan needs, known before it runs; and the region size that fits.

Pure arithmetic, but for asking the machine how much there is.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

from slidefusion.declarations import declared_bytes
from slidefusion.errors import MemoryBudgetError
from slidefusion.fuser import Fuser
from slidefusion.geometry import Size, Window
from slidefusion.tiling import Tiling
from slidefusion.wording import byte_text, counted

__all__ = [
    "REGION_CHOICES_PX",
    "available_bytes",
    "budget_bytes",
    "check",
    "choose_region_px",
    "give_back_freed_memory",
    "keep_freed_memory",
    "process_bytes",
    "share_one_heap",
    "shared_by",
    "task_bytes",
]

REGION_CHOICES_PX = (2048, 1536, 1024, 768, 512, 256)
"""Sides that ``chunks="auto"`` chooses from, unless the halo is large: multiples of a chunk that
halve well."""

_LARGE_REGION_PX, _LARGE_HALO_PX = 3072, 256
"""With a halo from the second on the first is a choice, too: larger regions spare more than their
smaller number costs."""

_PROCESS_BYTES = 320 * 2**20
"""What a process needs for itself: Python, Dask, Zarr, and the compiled kernels."""
_TORCH_BYTES = 256 * 2**20
"""And PyTorch, of fusers that have weights."""
_CUDA_BYTES = 384 * 2**20
"""And what a build of it for GPUs loads besides, used or not."""
_DEFAULT_TASK_BYTES = 704 * 2**20
"""What one task may need when ``chunks="auto"``, as declared, which is for float32. A task of uint8
needs half of that or less: two of them and Python stay below 1.5 GB."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # of malloc.h
_LIMIT_V1 = "memory.limit_in_bytes"
_SHARE = 0.8
"""Part of the machine's memory that a run may plan for."""


_SHARERS: ContextVar[int] = ContextVar("_SHARERS", default=1)


@contextlib.contextmanager
def shared_by(runs: int) -> Iterator[None]:
    """Within it, and in threads that have its context, so many runs at once share the memory.

    Each is planned by itself, and knows nothing of what the others will use.

    >>> whole = available_bytes()
    >>> with shared_by(4):
    ...     available_bytes() == whole // 4
    True
    """
    token = _SHARERS.set(runs)
    try:
        yield
    finally:
        _SHARERS.reset(token)


def available_bytes() -> int:
    """Memory that a run may use: of the machine, or of its control group if that is less."""
    import psutil

    total = int(psutil.virtual_memory().total)
    for file in _limit_files(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")):
        try:
            total = min(total, int(file.read_text()))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return total // _SHARERS.get()


def _limit_files(root: Path, own: Path) -> Iterator[Path]:
    """Where limits of the control groups of this process stand: its own, and those above it."""
    lines = []
    with contextlib.suppress(OSError):
        lines = own.read_text().splitlines()
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers in ("", "memory"):
            folder, name = root / controllers, "memory.max" if not controllers else _LIMIT_V1
            place = folder / group.lstrip("/")
            yield from (
                above / name for above in (place, *place.parents) if root in (above, *above.parents)
            )
    yield from (root / "memory.max", root / "memory" / _LIMIT_V1)


@functools.cache
def share_one_heap() -> None:
    """Have the C library make no further heaps: to be called before there are threads.

    Left alone, glibc keeps a heap for each thread, whose gaps add up, so that the peak grows with
    the number of regions; and it gives these heaps back to the system whatever it is told, so that
    arrays are new pages again each time. A heap that a thread already has stays, and may be that of
    later threads. Elsewhere nothing happens.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").mallopt(_M_ARENA_MAX, 1)


@functools.cache
def keep_freed_memory() -> None:
    """Have the C library keep what is freed for the next region, in one heap for all threads.

    Every region allocates arrays of the same sizes. Left alone, glibc gives large ones back to the
    system and asks for them again, each time as new pages that are filled with zeros. Only arrays
    of 64 MB and more are still given back at once, so that no heap grows by them. Elsewhere nothing
    happens.
    """
    share_one_heap()
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL("libc.so.6")
        library.mallopt(_M_MMAP_THRESHOLD, 64 * 2**20)
        library.mallopt(_M_TRIM_THRESHOLD, 2**30)


def give_back_freed_memory() -> None:
    """Give the system back what is kept: when a run has ended, its process may live on."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def task_bytes(fuser: Fuser, planes: int, channels: int, itemsize: int, window: Size) -> int:
    """Peak bytes of one task: what the fuser declares, its input and what is written.

    The input counts as one plane if the fuser reads plane by plane; what a fuser keeps of the other
    planes is part of its ``working_bytes``. A plane is there twice while it is being read.
    """
    pixels = window.height * window.width
    plane = pixels * channels * itemsize
    written = plane + plane // 2 + 4 * pixels  # the trimmed image, its levels, the depth map
    fuse = declared_bytes(fuser, planes, channels, window)
    return fuse + 3 * plane + written


def process_bytes(fuser: Fuser | None = None) -> int:
    """What a process needs beside its tasks, to run this fuser (without: to convert)."""
    torch = _TORCH_BYTES + _CUDA_BYTES * _is_torch_for_gpus() if hasattr(fuser, "weights") else 0
    return _PROCESS_BYTES + torch


@functools.cache
def _is_torch_for_gpus() -> bool:
    """Whether that is the build installed; it is not imported for that."""
    found = importlib.util.find_spec("torch")
    libraries = Path(found.origin or "").parent / "lib" if found else Path()
    return any((libraries / f"libtorch_{kind}.so").exists() for kind in ("cuda", "hip"))


def budget_bytes(total: int | None = None) -> int:
    """What a process may plan for that has ``total`` bytes, all of this machine's if None.

    Beyond 80 % Dask pauses a worker.
    """
    return int((total or available_bytes()) * _SHARE)


def check(
    fuser: Fuser,
    tiling: Tiling,
    planes: int,
    channels: int,
    itemsize: int,
    parallel: int,
    total: int | None = None,
    *,
    forced: bool = False,
) -> int:
    """Peak bytes of ``parallel`` tasks at once, in a process with ``total`` (this one's if None).

    Of one that has a limit the process itself counts, too, since Dask pauses it beyond 80 %.
    ``forced`` says that the side of the regions is that of an unfinished output.

    Raises
    ------
    MemoryBudgetError
        When that is more than 80 % of the memory there is; the message has both numbers and a
        region size that fits, if one does.
    """
    at_once = min(parallel, tiling.count)
    process = process_bytes(fuser) if total else 0
    allowed = budget_bytes(total)

    def needs(cut: Tiling) -> int:
        window = cut.largest_window()
        return process + at_once * task_bytes(fuser, planes, channels, itemsize, window)

    needed = needs(tiling)
    if needed > allowed:
        smaller = ""
        for side in REGION_CHOICES_PX:
            cut = Tiling(tiling.size, side, tiling.footprint, tiling.area)
            if side < tiling.region_px and needs(cut) <= allowed:
                smaller = (
                    "overwrite the unfinished output, whose regions are that large, or "
                    if forced
                    else f"pass chunks={side}, or "
                )
                break
        runs = 1 if total else _SHARERS.get()
        shared = f", shared by {runs} slides at once" if runs > 1 else ""
        raise MemoryBudgetError(
            f"a process needs {byte_text(needed)} with {counted(at_once, 'region')} of "
            f"{tiling.region_px} px at a time, and {byte_text(allowed)} may be used ({_SHARE:.0%} "
            f"of the memory that it has{shared}): {smaller}give it fewer threads or more memory"
        )
    return needed


def choose_region_px(
    fuser: Fuser,
    size: Size,
    planes: int,
    channels: int,
    itemsize: int,
    parallel: int,
    area: Window | None = None,
    total: int | None = None,
) -> int:
    """The largest region side whose tasks fit: 704 MiB each, and together in the process.

    The process has ``total`` bytes, all that this machine has if None. The smallest side there is
    when none fits.
    """
    share = (budget_bytes(total) - process_bytes(fuser)) // max(1, parallel)
    allowed = min(_DEFAULT_TASK_BYTES, share)
    large = (_LARGE_REGION_PX,) if fuser.footprint.halo >= _LARGE_HALO_PX else ()
    sides: tuple[int, ...] = (*large, *REGION_CHOICES_PX)
    for side in sides:
        window = Tiling(size, side, fuser.footprint, area).largest_window()
        if task_bytes(fuser, planes, channels, itemsize, window) <= allowed:
            return side
    return REGION_CHOICES_PX[-1]
