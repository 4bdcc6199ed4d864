"""The fused image as a lazy Dask array: one task a region, nothing computed until asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from slidefusion.dask_source import as_declared
from slidefusion.engine import ArraySource, fuse_region
from slidefusion.fuser import Fuser
from slidefusion.geometry import Size, Window
from slidefusion.plan import FusePlan, RegionJob
from slidefusion.tasks.placement import refuse_wrong_worker
from slidefusion.tiling import Tiling

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["lazy_image"]


def lazy_image(plan: FusePlan) -> xr.DataArray:
    """The image (c, y, x) with coordinates in µm and provenance in ``attrs``.

    A store gives one task a region, which reads its own window. A Dask input gives tasks that
    depend on the input's blocks below their windows; the windows, so the pixels, are the same.

    A fuser that needs a GPU is computed on a cluster with ``.compute(resources={"GPU": 1})``: Dask
    forgets what a graph says of resources when it optimises it, so a task that finds itself on a
    worker without a GPU refuses to run.
    """
    import dask.array
    import dask.base
    import xarray as xr

    stack, tiling = plan.stack, plan.tiling
    channels = stack.shape[0]
    chunks = ((channels,), *tiling.chunks())
    meta = np.empty((0, 0, 0), stack.dtype)
    token = dask.base.tokenize(stack.identity, plan.provenance, tiling)
    if stack.lazy is not None:
        data = _from_dask(plan)
    else:
        data = dask.array.map_blocks(
            _fuse_block,
            chunks=chunks,
            dtype=stack.dtype,
            meta=meta,
            name=f"fuse-{plan.fuser.name}-{token}",
            job=plan.job,
        )
    y, x = stack.places(tiling.target)
    units = {"units": "micrometer" if stack.pixel_size_um else "pixel"}
    return xr.DataArray(
        data,
        dims=("c", "y", "x"),
        coords={
            "c": list(stack.channel_names),
            "y": ("y", y, units),
            "x": ("x", x, units),
        },
        name=plan.fuser.name,
        attrs={"slidefusion": plan.provenance},
    )


def _fuse_block(job: RegionJob, block_id: tuple[int, ...] = (0, 0, 0)) -> npt.NDArray[Any]:
    refuse_wrong_worker(job.fuser)
    region = job.tiling.region(*block_id[1:])
    return fuse_region(job.fuser, job.source, job.planes, job.tiling, region).image


def _from_dask(plan: FusePlan) -> Any:
    """A Dask array whose blocks depend on the blocks of the input below their windows."""
    import dask.array

    stack, tiling = plan.stack, plan.tiling
    assert stack.lazy is not None
    chosen = stack.lazy[:, list(plan.planes)]
    rows, columns = tiling.grid
    blocks = []
    for row in range(rows):
        line = []
        for column in range(columns):
            region = tiling.region(row, column)
            window = _inside(tiling, region)
            # Blocks and not `delayed`, which forgets what a cluster holds for a persisted input.
            part = chosen[(slice(None), slice(None), *window.slices)].rechunk(-1)
            image = part.map_blocks(
                _fuse_window,
                plan.fuser,
                part.shape,
                stack.dtype,
                tiling,
                region,
                window,
                drop_axis=1,
                chunks=((stack.shape[0],), (region.height,), (region.width,)),
                dtype=stack.dtype,
                meta=np.empty((0, 0, 0), stack.dtype),
            )
            line.append(image)
        blocks.append(line)
    return dask.array.block(blocks)


def _inside(tiling: Tiling, region: Window) -> Window:
    """The part of a region's window that lies on the slide."""
    window = tiling.window(region)
    bottom = min(window.bottom, tiling.size.height)
    right = min(window.right, tiling.size.width)
    return Window(window.y, window.x, bottom - window.y, right - window.x)


@dataclass(frozen=True, eq=False)
class _PartSource:
    """An array (C, Z, h, w) that stands for ``window`` of a slide of another size."""

    part: npt.NDArray[Any]
    window: Window
    size: Size

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (self.part.shape[0], self.part.shape[1], *self.size)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.part.dtype

    def read(self, z: int, window: Window, /) -> npt.NDArray[Any]:
        return ArraySource(self.part).read(z, window.relative_to(self.window))


def _fuse_window(
    part: npt.NDArray[Any],
    fuser: Fuser,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    tiling: Tiling,
    region: Window,
    window: Window,
) -> npt.NDArray[Any]:
    refuse_wrong_worker(fuser)
    source = _PartSource(as_declared(part, shape, dtype), window, tiling.size)
    return fuse_region(fuser, source, range(shape[1]), tiling, region).image
