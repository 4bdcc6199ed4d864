"""`lpp`: fusion in the Laplacian pyramid.

Every plane is split into band-pass levels (Burt & Adelson 1983). At each block of 2 x 2 samples of
each level the planes are weighed by their *activity*: the magnitude of the detail, summed over the
channels and averaged over a window. The fused level is the mean weighted by ``activity ** power``,
or the most active plane's detail (``selection="max"``; Burt & Kolczynski 1993). Where one plane is
clearly the sharpest it wins alone; where none is, as on clear background, averaging removes noise
instead of picking the loudest. The low-pass below the levels is weighed like the coarsest level,
so that clear background beside a cell is taken from the plane in which the cell is sharp, not from
one into which its blur leaks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from slidefusion.fuser import Footprint, Fused, Planes, option
from slidefusion.fusers.transform_fuser import Limits, TorchTwin, TransformFuser, finish
from slidefusion.tiling import round_up
from slidefusion.transforms.laplacian import pad_to_period, reach_px
from slidefusion.value_range import depth_dtype, value_range

if TYPE_CHECKING:
    from slidefusion.fusers.lpp_kernels import LevelSums
    from slidefusion.fusers.selection import Rule

__all__ = ["Lpp", "halo_px"]

FloatArray = npt.NDArray[np.float32]

DEPTH_LEVEL = 1
"""Level whose most active plane is the depth: level 0 is mostly noise where nothing is sharp."""


def halo_px(levels: int, window: int) -> int:
    """How far in pixels the input around an output pixel influences it.

    A detail of level j is a sample less the expansion of level j + 1. It is weighed by the
    activity of its block, which looks at the blocks within ``window`` of 2**(j + 1) px, each from
    its first sample to its second, 2**j px on. What was selected is felt as far as the level
    expands. The low-pass has the weights of the last level and expands once more.

    >>> halo_px(1, 0), halo_px(3, 2), halo_px(4, 2)
    (7, 56, 116)
    """
    reach = 0
    activity = 0
    for j in range(levels):
        detail = reach_px(1) * 2**j + reach_px(j + 1)
        activity = detail + (window * 2 + 1) * 2**j
        reach = max(reach, activity + reach_px(j))
    return max(reach, activity + reach_px(levels))


@dataclass(frozen=True)
class Lpp(TransformFuser):
    """Laplacian-pyramid fusion of any number of planes, in one pass.

    >>> stack = np.random.default_rng(0).integers(0, 255, (3, 3, 40, 50), dtype=np.uint8)
    >>> Lpp(levels=2)(stack).image.shape
    (3, 40, 50)
    """

    name: ClassVar[str] = "lpp"

    window: int = option(
        2,
        "radius of the window that activity is averaged over, in blocks of 2 x 2 samples",
        minimum=0,
        maximum=8,
    )
    noise: float = option(
        0.0005,
        "activity, as a fraction of white (255 for uint8), that counts as nothing",
        minimum=1e-6,
        maximum=1,
    )

    @property
    def footprint(self) -> Footprint:
        """Follows from ``levels`` and ``window``; bit-exact."""
        return self._footprint(halo_px(self.levels, self.window))

    def _fuse_bytes(self, channels: int, rows: int, columns: int) -> int:
        """Counted for float32, in images: the sums (4/3), two planes' coarser levels (2/3), the
        range of the planes (2), and two planes kept or padded (2); then the maps of blocks, the
        depth, and the rows that a kernel holds."""
        image = channels * rows * columns * 4
        maps = rows * columns * (4 + 4 + 2) // 3 + rows * columns * 2 * 2
        kernel = 4 * columns * (4 + (2 * self.window + 8) + 4 * channels * (self.window + 1))
        return image * 6 + maps + kernel + 2**16

    def _torch(self) -> TorchTwin:
        from slidefusion.fusers import torch_lpp

        return torch_lpp

    def _fuse(self, stack: Planes) -> Fused:
        from slidefusion.fusers.selection import confidence_of, repeated, rule_for

        height, width = stack.shape[2:]
        rule = rule_for(self.selection, self.power, self.window, self.noise_in(stack.dtype))
        sums = _empty_sums(self.levels, *stack.shape[1:])
        low = None if self.lowpass == "activity" else np.zeros_like(sums[-1].low)
        limits = _sum_planes(stack, rule, sums, low, self.clamp)
        if low is None:
            low = sums[-1].low
            low /= sums[-1].total
        else:
            low *= np.float32(1 / len(stack))
        image = _rebuild(sums, low)
        fused = finish(image, limits, stack.dtype, height, width)
        level = min(DEPTH_LEVEL, self.levels - 1)
        block: int = 2 ** (level + 1)
        index = sums[level].plane.astype(depth_dtype(len(stack)))
        sure = confidence_of(sums[level].total)
        depth, confidence = (repeated(one, block, height, width) for one in (index, sure))
        return Fused(fused, depth, confidence)


def _empty_sums(levels: int, channels: int, height: int, width: int) -> list[LevelSums]:
    """Zeros for each level of a window (C, Y, X) padded to the period."""
    from slidefusion.fusers.lpp_kernels import LevelSums

    period: int = 2**levels
    rows, columns = round_up(height, period), round_up(width, period)
    sums = []
    for j in range(levels):
        h, w = rows >> (j + 1), columns >> (j + 1)
        low_channels = channels if j == levels - 1 else 0
        sums.append(
            LevelSums(
                detail=np.zeros((channels, h, 4, w), np.float32),
                low=np.zeros((low_channels, h, w), np.float32),
                best=np.zeros((h, w), np.float32),
                total=np.zeros((h, w), np.float32),
                plane=np.zeros((h, w), np.uint16),
            )
        )
    return sums


def _sum_planes(
    stack: Planes, rule: Rule, sums: list[LevelSums], low: FloatArray | None, clamp: bool
) -> Limits | None:
    """Add every plane to ``sums``; the limits of the planes (C, Y, X) if ``clamp``.

    The low pass below the levels (C, y, x) is added to ``low``, if that is given, and else weighed
    with the coarsest level.
    """
    from slidefusion.fusers.lpp_kernels import add_planes, widen
    from slidefusion.transforms.laplacian_kernels import column_dtype

    channels = stack.shape[1]
    scale = np.float32(1 / (4 * channels * value_range(stack.dtype)))
    shapes = [(channels, *level.best.shape) for level in sums]
    coarser = [(np.empty(shape, np.float32), np.empty(shape, np.float32)) for shape in shapes]
    limits: Limits | None = None
    for z in range(0, len(stack), 2):
        count = min(2, len(stack) - z)
        first = _padded(stack[z], 2 ** len(sums))
        fine = (first, _padded(stack[z + 1], 2 ** len(sums)) if count == 2 else first)
        if clamp:
            if limits is None:
                limits = np.empty_like(first), np.empty_like(first)
            widen(fine, *limits, z == 0)
        for coarse, level in zip(coarser, sums, strict=True):
            column = np.empty(fine[0].shape[2], column_dtype(fine[0].dtype))
            add_planes(fine, coarse, column, count, z, scale, rule, level)
            fine = (_read_only(coarse[0]), _read_only(coarse[1]))
        if low is not None:
            for p in range(count):
                low += coarser[-1][p]
        del first, fine  # before the next planes are read
    return limits


def _padded(plane: npt.NDArray[Any], period: int) -> npt.NDArray[Any]:
    return _read_only(np.ascontiguousarray(pad_to_period(plane, period)))


def _read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A view that lets writable and read-only arrays share one compiled kernel."""
    view = array.view()
    view.flags.writeable = False
    return view


def _rebuild(sums: list[LevelSums], low: FloatArray) -> FloatArray:
    """The fused image (C, Y, X) as float32 on the fused ``low`` pass, in the memory of the sums."""
    from slidefusion.fusers.lpp_kernels import rebuild

    image = low
    for level in reversed(sums):
        rebuild(image, level.total, level.detail)
        channels, h, _, w = level.detail.shape
        image = level.detail.reshape(channels, 2 * h, 2 * w)
    return image
