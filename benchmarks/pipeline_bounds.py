"""What the pipeline is measured against in `end_to_end.py`: its kernel alone and its storage alone.

Reading, fusing and writing overlap, so a pipeline cannot take less time than the slower of the two.
Nor can it take less than the processor time of both, spread over all processors: a store in the
page cache costs no waiting but decompression, which competes with the fuser. Bounds are taken with
the regions, windows and number of threads of the run itself, without its journal, scheduling and
checks.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr

from slidefusion.engine import WindowPlanes
from slidefusion.geometry import Window
from slidefusion.omezarr.images import ImageSpec
from slidefusion.omezarr.pyramid import PyramidLayout
from slidefusion.plan import make_plan
from slidefusion.tasks.pools import parallelism
from slidefusion.write_slide import written_images

__all__ = ["Bounds", "Taken", "measure_bounds", "processor_seconds"]


class Taken(NamedTuple):
    """Time that some work took, in seconds."""

    wall: float
    busy: float
    """Of all threads together."""


@dataclass(frozen=True)
class Bounds:
    """The two bounds of a pipeline."""

    kernel: Taken
    storage: Taken

    @property
    def slower(self) -> float:
        """Wall time in seconds of the slower of the two."""
        return max(self.kernel.wall, self.storage.wall)

    @property
    def least(self) -> float:
        """Wall time in seconds that no pipeline can be under on these processors."""
        return max(self.slower, (self.kernel.busy + self.storage.busy) / parallelism(None))


def processor_seconds() -> float:
    """Seconds that all threads of this process have computed."""
    times = os.times()
    return times.user + times.system


def measure_bounds(source: Path, fuser: str, out: Path) -> Bounds:
    """Fuse all windows from memory; read and write them without fusing.

    ``out`` is the finished slide, whose pixels are written again: they compress as they do.
    """
    plan = make_plan(source, fuser, None, None, "auto", None, "auto", None, {})
    tiling, planes = plan.tiling, plan.stack.source
    assert planes is not None
    regions = [tiling.region(*key) for key in tiling.regions()]

    def window(region: Window) -> WindowPlanes:
        return WindowPlanes(planes, plan.planes, tiling.window(region))

    stacks = [np.asarray(window(region)) for region in regions]
    kernel = _taken(plan.fuser, stacks)
    del stacks

    where = out.with_name("storage-alone.zarr")
    layouts = _create(where, written_images(plan, None), out)

    def read_and_write(region: Window) -> None:
        for _ in window(region):
            pass
        for layout, name, pixels in layouts:
            block = np.ascontiguousarray(pixels[(slice(None), *region.slices)])
            layout.write_region(str(where), name, region, block)

    storage = _taken(read_and_write, regions)
    upper = _taken(lambda one: one[0].write_upper(str(where), one[1]), layouts)
    shutil.rmtree(where)
    return Bounds(kernel, Taken(storage.wall + upper.wall, storage.busy + upper.busy))


def _create(
    where: Path, images: list[ImageSpec], out: Path
) -> list[tuple[PyramidLayout, str, np.ndarray]]:
    """Empty arrays for these images; the layout, name and pixels (C, Y, X) in ``out`` of each."""
    slide, root = zarr.open_group(str(out), mode="r"), zarr.open_group(str(where), mode="w")
    layouts = []
    for image in images:
        group = root.require_group(image.name) if image.name else root
        image.layout.create(group, str(where))
        pixels = np.asarray(slide[f"{image.name}/0".lstrip("/")])
        layouts.append((image.layout, image.name, pixels))
    return layouts


def _taken(work: Callable[[Any], object], items: Iterable[Any]) -> Taken:
    """What ``work`` on every item takes, on as many threads as the run has."""

    def discard(item: Any) -> None:
        work(item)

    with ThreadPoolExecutor(parallelism(None)) as pool:
        start, busy = time.perf_counter(), processor_seconds()
        for _ in pool.map(discard, items):
            pass
        return Taken(time.perf_counter() - start, processor_seconds() - busy)
