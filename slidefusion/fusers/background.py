"""Empty glass: recognised by a rule that does not depend on the cutting, and not fused.

The rule. The slide is cut into blocks of 64 x 64 px on one grid from its origin. A block is empty
when in every channel the values of *all* planes in it lie within one range, and the means of all
its cells of 4 x 4 px in all planes lie within another, narrower one. So a block is empty only if it
is flat in each plane and the same in all of them: blur that leaks over clear glass from a cell
nearby differs from plane to plane and is seen. An empty block becomes the mean of the planes, which
has the least noise there is.

The two ranges come from the slide as a whole (`glass_ranges`): those that noise alone has in a
block. A window in which all blocks are empty costs only its reading.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from slidefusion.fuser import Footprint, Fused, Overview, PlaneByPlane, Planes
from slidefusion.value_range import depth_dtype, value_range

__all__ = [
    "BLOCK_PX",
    "CELL_PX",
    "background_bytes",
    "fuse_unless_empty",
    "glass_ranges",
    "with_blocks",
]

BLOCK_PX = 64
"""Side of a block in pixels."""

CELL_PX = 4
"""Side of a cell: averaging 16 pixels shows what is fainter than the noise of one."""

_SIGMAS = 10.0
"""Range of the pixels of a block in all planes, in standard deviations of the noise: 45,000 normal
samples lie within 8.6 of them on average, within 10 almost always."""
_CELL_SIGMAS = 8.5
"""The same for the means of its cells: 2,800 of them lie within 7 on average."""
_UNRELATED = 0.3
"""Correlation of neighbouring planes below which their detail is noise: what is in the specimen
shows in both. Noise alone gives 0.2 at most in the 256 cells of a block."""
_LOUDEST = 0.1
"""Range of pixels, as a fraction of white, above which no noise is believed."""


def with_blocks(footprint: Footprint) -> Footprint:
    """The footprint of a fuser that skips empty blocks: each pixel also looks at its block.

    >>> with_blocks(Footprint(halo=48, period=8))
    Footprint(halo=63, period=64, tolerance=0.0)
    """
    period = int(np.lcm(footprint.period, BLOCK_PX))
    return Footprint(max(footprint.halo, BLOCK_PX - 1), period, footprint.tolerance)


def background_bytes(channels: int, height: int, width: int) -> int:
    """Upper bound of the bytes that `fuse_unless_empty` needs beside the fusion itself."""
    samples = channels * height * width
    blocks = channels * (height // BLOCK_PX + 1) * (width // BLOCK_PX + 1)
    # the sum and the plane that is kept, ranges of the blocks, and the maps that are merged
    return (8 + 4) * samples + 8 * height * width + 64 * blocks


def glass_ranges(overview: Overview, white: float | None = None) -> tuple[float, float]:
    """The ranges that noise alone has in an empty block: of pixels, and of the means of cells.

    Both are fractions of the dtype's range (of 1.0 for float). The noise is measured in the blocks
    whose detail is unrelated from plane to plane: what is in the specimen shows, sharper or more
    blurred, in neighbouring planes as well. It is the median, over these blocks, of the standard
    deviation of mixed second differences, which are zero on any slope. No noise is believed whose
    range is more than a tenth of ``white``, which is the dtype's range if None.

    Returns (0, 0), which skips next to nothing, when the slide shows no glass or has one plane.
    """
    patches = overview.patches
    if len(patches) == 0 or patches.shape[1] < 2 or min(patches.shape[-2:]) < BLOCK_PX:
        return 0.0, 0.0
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        found = np.concatenate(list(threads.map(_noise_of, patches)))
    related = found[..., 0].max(axis=1)
    whole = patches.dtype.kind != "f"
    full = value_range(patches.dtype)
    # Rounding to integers hides noise below half a step; never assume less than what it adds.
    rounding = 12**-0.5 if whole else 0.0
    noise = found[related < _UNRELATED][..., 1]
    if len(noise) == 0:
        return 0.0, 0.0
    pixels, cells = np.maximum(np.median(noise, axis=0), (rounding, rounding / CELL_PX)) / full
    ranges = float(_SIGMAS * pixels), float(_CELL_SIGMAS * cells)
    loudest = _LOUDEST * (full if white is None else white) / full
    return ranges if ranges[0] <= loudest else (0.0, 0.0)


def _noise_of(patch: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """How noisy each of the N whole blocks in a patch (Z, C, p, p) is: (N, 2, 2).

    For each block there are two rows, one for its pixels and one for the means of its cells. Each
    row says how related neighbouring planes are, and gives the largest deviation in any plane.
    """
    from slidefusion.fusers.background_kernels import measure_noise

    patch = patch.view()
    patch.flags.writeable = False
    rows, columns = (side // BLOCK_PX for side in patch.shape[-2:])
    found = np.empty((rows * columns, 2, 2))
    for k, (y, x) in enumerate(np.ndindex(rows, columns)):
        for scale, cell in enumerate((1, CELL_PX)):
            place = y * BLOCK_PX, x * BLOCK_PX, BLOCK_PX
            found[k, scale] = measure_noise(patch, place, cell)
    return found


class _Watched(PlaneByPlane):
    """Planes (Z, C, Y, X) whose blocks' ranges and sum are noted when a plane is first read."""

    def __init__(self, stack: Planes, limits: tuple[float, float]) -> None:
        full = value_range(stack.dtype)
        self._stack = stack
        self._limits = limits[0] * full, limits[1] * full * CELL_PX**2
        self._seen: set[int] = set()
        self._kept: tuple[int, npt.NDArray[Any]] | None = None
        self.shape, self.dtype = stack.shape, stack.dtype
        _, channels, height, width = stack.shape
        blocks = (channels, -(-height // BLOCK_PX), -(-width // BLOCK_PX))
        whole = stack.dtype.kind != "f"
        self.ranges = _unbounded(blocks, stack.dtype)
        self.sums = _unbounded(blocks, np.dtype(np.int32 if whole else np.float64))
        self.empty = np.ones(blocks[1:], np.bool_)
        narrow = stack.dtype == np.uint8 and len(stack) <= 257  # 257 * 255 fits 16 bits
        kind = (np.uint16 if narrow else np.uint32) if whole else np.float64
        self.total = np.zeros(stack.shape[1:], kind)

    def __getitem__(self, z: int, /) -> npt.NDArray[Any]:
        from slidefusion.fusers.background_kernels import note_plane

        if self._kept is not None and self._kept[0] == z:
            plane = self._kept[1]
            self._kept = None
            return plane
        plane = self._stack[z]
        if z not in self._seen:
            self._seen.add(z)
            view = plane.view()
            view.flags.writeable = False
            sides = BLOCK_PX, CELL_PX
            note_plane(view, *sides, self._limits, self.empty, self.ranges, self.sums, self.total)
        return plane

    def look(self, z: int) -> None:
        """Read plane ``z`` and keep it for whoever reads it next."""
        self._kept = None
        self._kept = (z, self[z])

    def look_at_the_rest(self) -> None:
        """Read the planes that a fuser did not ask for, as long as a block may be empty."""
        for z in range(len(self)):
            if z not in self._seen and self.empty.any():
                self[z]

    def fill(self, image: npt.NDArray[Any]) -> None:
        """Put the mean of the planes into the empty blocks of ``image`` (C, Y, X)."""
        from slidefusion.fusers.background_kernels import fill_float, fill_integer

        kernel = fill_float if self.dtype.kind == "f" else fill_integer
        kernel(image, self.total, len(self), BLOCK_PX, self.empty)


def _unbounded(blocks: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Ranges (2, C, by, bx) that anything widens."""
    whole = dtype.kind != "f"
    ranges = np.empty((2, *blocks), dtype)
    ranges[0] = np.iinfo(dtype).max if whole else np.inf
    ranges[1] = np.iinfo(dtype).min if whole else -np.inf
    return ranges


def fuse_unless_empty(
    stack: Planes, limits: tuple[float, float], fuse: Callable[[Planes], Fused]
) -> Fused:
    """Fuse ``stack`` (Z, C, Y, X) with ``fuse``, except for its empty blocks.

    ``limits`` are those of `glass_ranges`.

    The window must start on a multiple of 64 px. Empty blocks get the mean of the planes and, as
    depth, the middle plane with confidence 0.
    """
    count = len(stack)
    watched = _Watched(stack, limits)
    for z in range(count):
        watched.look(z)
        if not watched.empty.all():
            break
    else:
        image = np.empty(stack.shape[1:], stack.dtype)
        watched.fill(image)
        middle = np.full(image.shape[1:], count // 2, depth_dtype(count))
        return Fused(image, middle, np.zeros(image.shape[1:], np.uint8))
    fused = fuse(watched)
    watched.look_at_the_rest()
    if not watched.empty.any():
        return fused
    image = np.require(fused.image, requirements=("C", "W"))  # the fuser's own array, or a copy
    watched.fill(image)
    pixels = watched.empty.repeat(BLOCK_PX, 0).repeat(BLOCK_PX, 1)
    pixels = pixels[: image.shape[1], : image.shape[2]]
    depth, confidence = fused.depth, fused.confidence
    if depth is not None:
        depth = np.where(pixels, depth.dtype.type(count // 2), depth)
    if confidence is not None:
        confidence = np.where(pixels, np.uint8(0), confidence)
    return replace(fused, image=image, depth=depth, confidence=confidence)
