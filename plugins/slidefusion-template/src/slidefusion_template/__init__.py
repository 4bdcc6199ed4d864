"""``sharpest``: every pixel from the plane that is sharpest around it. Explained line by line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

# All that a plugin needs of slidefusion. There is no base class to inherit.
from slidefusion.fuser import Footprint, Fused, PlaneRange, Planes, option

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Sharpest"]


# Frozen: an instance is its options and nothing else, so it can be compared, recorded in the
# output's provenance, and sent to any worker. Weights or kernels do not belong into it.
@dataclass(frozen=True)
class Sharpest:
    """Takes each pixel from the plane with the largest Laplacian around it.

    >>> stack = np.random.default_rng(0).integers(0, 255, (3, 3, 40, 50), dtype=np.uint8)
    >>> Sharpest(radius=2)(stack).image.shape
    (3, 40, 50)
    """

    # Not annotated: the same for all instances, so no option.
    name = "sharpest"
    # How many planes it takes: one or more. PlaneRange(2, 3) would be two or three.
    planes = PlaneRange(1)
    # "cuda" would send it to workers that have one.
    device = "cpu"

    # An option: default, meaning, allowed values. `slidefusion fusers sharpest` prints them, and
    # get_fuser checks them before any work.
    radius: int = option(4, "radius in px over which sharpness is summed", minimum=1, maximum=32)

    @property
    def footprint(self) -> Footprint:
        """How far an output pixel looks: the radius, and 1 px more for the Laplacian.

        It is computed from the options, never typed in. Slides are cut by this number: too small,
        and tiles show; FuserContract finds out. A fuser on a grid (a pyramid, blocks) also gives
        its period.
        """
        return Footprint(halo=self.radius + 1)

    def working_bytes(self, planes: int, channels: int, height: int, width: int) -> int:
        """An upper bound in bytes of what one call allocates, the result included.

        Here the image, of at most 4 bytes a value, and maps of together 72 bytes a pixel at most,
        one of them padded by the radius on two sides. It does not depend on ``planes``, because
        they are read one at a time. FuserContract measures it, so guess high and let it tell.
        """
        padding = 2 * self.radius * 8 * max(height, width)
        return height * width * (4 * channels + 72) + padding + 65536

    def __call__(self, stack: Planes, /) -> Fused:
        """Fuse ``stack`` (Z, C, Y, X) of uint8, uint16 or float32 into an image (C, Y, X)."""
        image = np.zeros(stack.shape[1:], stack.dtype)
        largest = np.full(stack.shape[2:], -1.0)
        depth = np.zeros(stack.shape[2:], np.uint16)
        for z in range(len(stack)):
            plane = stack[z]  # (C, Y, X), read from the store now; it must not be written to
            sharpness = self._sharpness(plane)
            better = sharpness > largest  # strictly, so that equals go to the earlier plane
            np.copyto(largest, sharpness, where=better)
            np.copyto(image, plane, where=better)  # all channels from the same plane
            depth[better] = z
        # The same Y and X as the input, untrimmed: the engine cuts the halo off. The depth map is
        # optional; None says that the fuser knows none.
        return Fused(image, depth)

    def _sharpness(self, plane: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
        """Sum (Y, X) of the Laplacian's magnitude over the window around each pixel."""
        gray = plane.sum(axis=0, dtype=np.float64)
        padded = np.pad(gray, 1, mode="edge")
        around = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
        # Shifted copies are added in the same order for every pixel. A running sum would be
        # faster, but its rounding depends on where the window began, so tiles would differ.
        return _box(_box(np.abs(around - 4 * gray), self.radius).T, self.radius).T


def _box(image: npt.NDArray[np.float64], radius: int) -> npt.NDArray[np.float64]:
    """Sum (Y, X) of the 2 radius + 1 rows around each pixel, the edge repeated."""
    padded = np.pad(image, ((radius, radius), (0, 0)), mode="edge")
    total = np.zeros_like(image)
    for shift in range(2 * radius + 1):
        total += padded[shift : shift + len(image)]
    return total
