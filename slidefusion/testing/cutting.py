"""Compares one tile with the whole slide, and finds out why they differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from slidefusion.engine import ArraySource, fuse_region
from slidefusion.fuser import Footprint, Fused, Fuser
from slidefusion.geometry import Size, Window
from slidefusion.tiling import Tiling
from slidefusion.value_range import value_range

__all__ = [
    "Difference",
    "diagnose",
    "difference",
    "fuse_window",
    "halos_to_try",
    "periods_to_try",
    "tiling_of",
]

Array = npt.NDArray[Any]


def tiling_of(stack: Array, region_px: int, footprint: Footprint) -> Tiling:
    """The planner's cutting of a stack (Z, C, Y, X)."""
    return Tiling(Size(*stack.shape[2:]), region_px, footprint)


def fuse_window(fuser: Fuser, stack: Array, tiling: Tiling, region: Window) -> Fused:
    """One region of a stack (Z, C, Y, X), read, fused and trimmed as the engine does."""
    source = ArraySource(stack.transpose(1, 0, 2, 3))
    return fuse_region(fuser, source, range(len(stack)), tiling, region)


@dataclass(frozen=True)
class Difference:
    """Where two fused images of the same rectangle differ by more than is allowed."""

    count: int
    """Number of values that differ by more."""
    total: int
    """Number of values compared."""
    where: str
    """Position of the worst, in slide coordinates, or "depth"."""
    got: float
    """Value there in the tile."""
    wanted: float
    """Value there in the whole."""

    def __str__(self) -> str:
        return (
            f"{self.count} of {self.total} values differ, the worst at {self.where}: "
            f"{self.got:g} against {self.wanted:g} in the whole"
        )


def difference(part: Fused, whole: Fused, region: Window, tolerance: float) -> Difference | None:
    """How ``part``, which is ``region`` of ``whole``, differs beyond ``tolerance`` of the range.

    Depth maps must agree wherever the fuser claims to be bit-exact, further maps as the image.
    """
    found = _worst(part.image, whole.image, region, tolerance)
    if found is not None:
        return found
    for name, image in part.maps.items():
        found = _worst(image, whole.maps[name], region, tolerance, f" of the map {name!r}")
        if found is not None:
            return found
    if part.depth is not None and whole.depth is not None and tolerance == 0:
        wanted = whole.depth[region.slices]
        bad = part.depth != wanted
        if bad.any():
            y, x = (int(i) for i in np.argwhere(bad)[0])
            return Difference(
                int(bad.sum()),
                bad.size,
                f"(y={region.y + y}, x={region.x + x}) of the depth map",
                float(part.depth[y, x]),
                float(wanted[y, x]),
            )
    return None


def _worst(
    got: Array, whole: Array, region: Window, tolerance: float, of: str = ""
) -> Difference | None:
    """Where an image (…, h, w) differs from that ``region`` of the ``whole`` (…, Y, X)."""
    wanted = whole[(..., *region.slices)]
    error = np.abs(got.astype(np.float64) - wanted.astype(np.float64))
    error[np.isnan(error)] = np.inf
    bad = error > tolerance * value_range(got.dtype)
    if not bad.any():
        return None
    at = tuple(int(i) for i in np.unravel_index(int(error.argmax()), error.shape))
    channel = f"c={at[0]}, " if len(at) == 3 else ""
    where = f"({channel}y={region.y + at[-2]}, x={region.x + at[-1]}){of}"
    return Difference(int(bad.sum()), bad.size, where, float(got[at]), float(wanted[at]))


def diagnose(fuser: Fuser, stacks: Sequence[Array]) -> str:
    """Try larger halos, then coarser periods; say which makes tiles of all ``stacks`` (each
    (Z, C, Y, X), larger than a window) equal the whole."""
    declared = fuser.footprint

    def agrees(halo: int, period: int) -> bool:
        footprint = Footprint(halo, period, declared.tolerance)
        return all(_tile_agrees(fuser, stack, footprint, k) for k, stack in enumerate(stacks))

    for halo in halos_to_try(declared):
        if agrees(halo, declared.period):
            return (
                f"with a halo of {halo} instead of {declared.halo} px they agree, so "
                "footprint.halo is too small: compute it from all filters in a row"
            )
    for period in periods_to_try(declared):
        if agrees(declared.halo, period):
            return (
                f"with windows on multiples of {period} instead of {declared.period} px they "
                "agree, so footprint.period is too small: it is the stride of the coarsest level"
            )
    return (
        "neither a larger halo nor a coarser period cures it: look for statistics of the whole "
        "window (mean, maximum, percentile, normalisation), for running sums of floats, for "
        "random numbers, or for state kept between calls; what must be known of the whole slide "
        "belongs into prepare(overview)"
    )


def halos_to_try(footprint: Footprint) -> list[int]:
    """Halos in px, larger than the declared one, that a diagnosis can afford."""
    declared = footprint.halo
    candidates = {declared + 1, declared * 3 // 2, declared * 2, declared * 4, 16, 64, 160}
    return sorted(halo for halo in candidates if halo > declared)


def periods_to_try(footprint: Footprint) -> list[int]:
    """Multiples of the declared period that a diagnosis can afford."""
    multiples = [footprint.period * k for k in (2, 4, 8, 16, 32)]
    return [period for period in multiples if period <= max(64, 2 * footprint.period)]


def _tile_agrees(fuser: Fuser, stack: Array, footprint: Footprint, k: int) -> bool:
    """Whether regions in the middle of a stack, off every grid, come out as in the whole."""
    whole_tiling = tiling_of(stack, max(stack.shape[2:]), footprint)
    whole = fuse_window(fuser, stack, whole_tiling, whole_tiling.target)
    tiling = tiling_of(stack, 13 + 2 * k, footprint)
    rows, columns = tiling.grid
    for row, column in {(rows // 2, columns // 2), ((rows - 1) // 2, columns // 3)}:
        region = tiling.region(row, column)
        part = fuse_window(fuser, stack, tiling, region)
        if difference(part, whole, region, footprint.tolerance):
            return False
    return True
