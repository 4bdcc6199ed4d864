"""`lpp`: fusion in the Laplacian pyramid.

Every plane is split into band-pass levels (Burt & Adelson 1983). At each sample of each level the
planes are weighed by their *activity*: the magnitude of the detail, summed over the channels,
averaged over a window, plus the activity of the finer levels there. The fused pyramid is the
weighted mean with weights ``activity ** power``, or the most active plane's
(``selection="max"``; Burt & Kolczynski 1993). Where one plane is clearly the sharpest it wins
alone; where none is, averaging removes noise instead of picking the loudest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from slidefusion.fuser import Footprint, Fused, PlaneRange, Planes, option
from slidefusion.transforms.laplacian import (
    expand_reach_px,
    pad_to_period,
    reduce_reach_px,
)

if TYPE_CHECKING:
    FloatArray = npt.NDArray[np.float32]

__all__ = ["Lpp", "reach_px"]


def reach_px(levels: int, window: int) -> int:
    """How far in pixels the input around an output pixel influences it.

    The output is the sum of the levels' details, expanded. A detail at level j reaches as far as
    the level j + 1 expanded by one level does; its weight looks at the activity of level j within
    ``window`` blocks of 2**(j + 1) px, which contains that of level j - 1 within ``window`` blocks
    of half that size, and so on.

    >>> reach_px(1, 0), reach_px(5, 1)
    (5, 219)
    """
    reach = 0
    activity = 0
    for j in range(levels):
        detail = expand_reach_px(1) * 2**j + reduce_reach_px(j + 1)
        block = 2 ** (j + 1)
        activity = max(activity, detail) + block // 2 + window * block
        reach = max(reach, activity + expand_reach_px(j))
    return max(reach, activity + expand_reach_px(levels))


@dataclass(frozen=True)
class Lpp:
    """Laplacian-pyramid fusion of any number of planes, in one pass.

    >>> stack = np.random.default_rng(0).integers(0, 255, (3, 3, 40, 50), dtype=np.uint8)
    >>> Lpp()(stack).image.shape
    (3, 40, 50)
    """

    name: ClassVar[str] = "lpp"
    planes: ClassVar[PlaneRange] = PlaneRange(1)
    device: ClassVar[str] = "cpu"

    levels: int = option(
        5, "band-pass levels; blur wider than 2**levels px is left", minimum=1, maximum=8
    )
    selection: str = option(
        "soft", "weighted mean of planes, or the most active", choices=("soft", "max")
    )
    power: int = option(8, "exponent of the activity in soft weights", choices=(1, 2, 4, 8, 16, 32))
    window: int = option(
        1, "radius of the activity window in blocks of 2 x 2 samples", minimum=0, maximum=8
    )
    noise: float = option(
        0.002,
        "activity, as a fraction of the range, below which planes count alike",
        minimum=0,
        maximum=1,
    )
    lowpass: str = option(
        "activity",
        "what remains below the levels: weighed like the last, or the mean",
        choices=("activity", "mean"),
    )
    clamp: bool = option(True, "keep each output value within the planes' range at that pixel")

    @property
    def footprint(self) -> Footprint:
        """Follows from ``levels`` and ``window``; bit-exact."""
        return Footprint(halo=reach_px(self.levels, self.window), period=2**self.levels)

    def working_bytes(self, planes: int, channels: int, height: int, width: int) -> int:
        """Upper bound of the memory in bytes of one call, the result included."""
        period: int = 2**self.levels
        padded = (height + -height % period) * (width + -width % period)
        samples = padded * channels
        sums = samples * 4 * 4 // 3
        pyramid = samples * 4 // 3
        maps = padded * 30 // 3
        clamped = 4 * samples * 4
        return sums + pyramid + maps + clamped + 2**20

    def __call__(self, stack: Planes, /) -> Fused:
        """Fuse ``stack`` (Z, C, Y, X)."""
        from slidefusion.fusers import lpp_kernels as kernels
        from slidefusion.fusers import selection
        from slidefusion.transforms import laplacian_kernels

        count, channels, height, width = stack.shape
        period = 2**self.levels
        padded_height, padded_width = height + -height % period, width + -width % period
        shapes = [(padded_height >> j, padded_width >> j) for j in range(self.levels + 1)]

        def zeros(shape: tuple[int, ...], dtype: Any = np.float32) -> npt.NDArray[Any]:
            return np.zeros(shape, dtype)

        sums = [zeros((channels, h, 4, w)) for h, w in shapes[1:]]
        best = [zeros(shape) for shape in shapes[1:]]
        total = [zeros(shape) for shape in shapes[1:]]
        index = [zeros(shape, np.uint8 if count <= 256 else np.uint16) for shape in shapes[1:]]
        activity = [zeros(shape) for shape in shapes[1:]]
        gaussian = [zeros((channels, *shape)) for shape in shapes[1:]]
        keep, gain = np.empty(shapes[1], np.float32), np.empty(shapes[1], np.float32)
        low = zeros((channels, *shapes[-1]))
        floating = stack.dtype.kind == "f"
        full_range = 1.0 if floating else float(np.iinfo(stack.dtype).max)
        scale = np.float32(1 / (4 * channels * full_range))
        doublings = -1 if self.selection == "max" else self.power.bit_length() - 1
        lowest: npt.NDArray[Any] | None = None
        highest: npt.NDArray[Any] | None = None

        for z in range(count):
            plane = np.ascontiguousarray(pad_to_period(stack[z], period))
            if lowest is None or highest is None:
                lowest, highest = plane.copy(), plane.copy()
            else:
                np.minimum(lowest, plane, out=lowest)
                np.maximum(highest, plane, out=highest)
            fine = plane
            for j in range(self.levels):
                coarse = gaussian[j]
                laplacian_kernels.reduce(fine, coarse)
                kernels.measure(fine, coarse, scale, activity[j])
                if j:
                    selection.pool(activity[j - 1], activity[j], np.float32(1))
                selection.smooth(activity[j], self.window)
                h, w = shapes[j + 1]
                kept = keep.reshape(-1)[: h * w].reshape(h, w)
                gained = gain.reshape(-1)[: h * w].reshape(h, w)
                selection.weigh(
                    activity[j],
                    np.float32(self.noise),
                    doublings,
                    z,
                    best[j],
                    total[j],
                    index[j],
                    kept,
                    gained,
                )
                kernels.accumulate(fine, coarse, kept, gained, sums[j])
                fine = coarse
            if self.lowpass == "activity":
                low *= kept
                low += gained * fine
            else:
                low += fine
        image: npt.NDArray[np.float32] = low
        image /= total[-1] if self.lowpass == "activity" else np.float32(count)
        for j in reversed(range(self.levels)):
            kernels.rebuild(image, total[j], sums[j])
            image = sums[j].reshape(channels, *shapes[j])
        out = np.empty((channels, height, width), stack.dtype)
        assert lowest is not None and highest is not None
        if not self.clamp:
            lowest[:] = 0
            highest[:] = full_range
        if floating:
            np.clip(
                image[:, :height, :width],
                lowest[:, :height, :width],
                highest[:, :height, :width],
                out=out,
            )
        else:
            kernels.to_dtype(image, lowest, highest, out)
        level = min(1, self.levels - 1)
        block: int = 2 ** (level + 1)
        depth = index[level].repeat(block, 0).repeat(block, 1)[:height, :width]
        return Fused(out, np.ascontiguousarray(depth))
