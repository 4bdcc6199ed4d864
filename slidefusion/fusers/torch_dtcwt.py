"""`dtcwt` in torch: the same numbers as the compiled kernels, for the GPU.

The four trees lie apart: a low pass (C, 2y, 2x) is stored halved along both axes, the samples at
even y above those at odd y and those at even x before those at odd x; details (C, 12, y, x) are
three bands of quads, as in :mod:`slidefusion.transforms.dtcwt`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from slidefusion.fuser import Fused, Planes
from slidefusion.fusers.selection import repeated
from slidefusion.fusers.torch_device import image_of, torch_device
from slidefusion.fusers.torch_filters import Reader, filters_of, interleaved, weighted_sum
from slidefusion.fusers.torch_selection import Choice, depth_of, root
from slidefusion.fusers.torch_subbands import Level, sum_planes
from slidefusion.tiling import round_up
from slidefusion.transforms import dtcwt
from slidefusion.transforms.dtcwt_filters import Analysis, DualTree, Synthesis, dual_tree

if TYPE_CHECKING:
    from slidefusion.fusers.dtcwt import Dtcwt

__all__ = ["fuse", "working_bytes"]

Size = tuple[int, int]


def fuse(stack: Planes, fuser: Dtcwt, *, compiled: bool = False) -> Fused:
    """Fuse ``stack`` (Z, C, Y, X) with the options and on the device of ``fuser``.

    ``compiled`` uses ``torch.compile``: faster on a GPU, after a minute of compiling for each
    shape, and rounding differently in the last bit.

    Raises:
        OptionError: the device cannot be used here.
    """
    device = torch_device(fuser.device)
    with torch.inference_mode():
        return _fuse(stack, fuser, device, compiled)


def working_bytes(fuser: Dtcwt, channels: int, rows: int, columns: int) -> int:
    """Upper bound of the bytes of one call for a padded window, on host and device together.

    Counted for float32 and in images of the padded window: planes on their way (2 pinned and 2 on
    the device, 1 converted), the range (2), the result on both sides (3); low passes (4/3),
    details, their sums and their weighted copy (4 each), what the filters copy and sum (5); maps.
    """
    rows, columns = rows + 64, columns + 64
    return 4 * rows * columns * (29 * channels + 3) + 2**20


def _fuse(stack: Planes, fuser: Dtcwt, device: torch.device, compiled: bool) -> Fused:
    from slidefusion.fusers.dtcwt import DEPTH_LEVEL

    tree = dual_tree(fuser.filters, fuser.qshift)
    count, channels, height, width = stack.shape
    period: int = 2**fuser.levels
    padded = round_up(height, period), round_up(width, period)
    shapes = dtcwt.level_shapes(fuser.levels, *padded)
    levels = [_level(tree, j + 1, channels, count, size, device) for j, size in enumerate(shapes)]
    coefficients = (12 if fuser.activity == "energy" else 6) * channels
    image, limits = sum_planes(stack, fuser, levels, _moduli, coefficients, device, compiled)
    for j in reversed(range(fuser.levels)):
        image = _synthesised(image, levels[j].sums, tree, j + 1)
    fused = image_of(image, limits, stack.dtype, height, width)
    shown = min(DEPTH_LEVEL, fuser.levels)
    maps = depth_of(levels[shown - 1].choice, count)
    depth, confidence = (repeated(one, 2**shown, height, width) for one in maps)
    return Fused(fused, depth, confidence)


def _level(
    tree: DualTree, level: int, channels: int, planes: int, size: Size, device: torch.device
) -> Level:
    y, x = size
    details = (channels, 3 * dtcwt.QUAD, y, x)
    return Level(
        transform=_Analysis(tree.analysis(level), size, device),
        low=torch.empty((channels, 2 * y, 2 * x), device=device),
        details=torch.empty(details, device=device),
        sums=torch.zeros(details, device=device),
        choice=Choice(y, x, planes, device),
    )


class _Analysis:
    """One level downwards, along y first: bands high-low, low-high, high-high, each as quads."""

    def __init__(self, filters: Analysis, size: Size, device: torch.device) -> None:
        self._trees = [filters_of(*tree) for tree in zip(filters.at, filters.weights, strict=True)]
        self._parity: list[list[int]] = filters.parity.tolist()
        self._size = size
        step = filters.step
        self._readers = [
            Reader(filters.at, step, count, step * count, device, halved=step > 2) for count in size
        ]

    def __call__(self, source: Tensor, low: Tensor, details: Tensor) -> None:
        """Split ``source`` (C, Y, X), halved above level 1, into ``low`` and ``details``."""
        h, w = self._size
        along_y, along_x = self._readers
        samples = along_y(source, -2)
        for tree_y in range(2):
            for band in range(2):
                rows = source.new_empty((len(source), h, source.shape[-1]))
                weighted_sum(samples, self._trees[tree_y][band], rows)
                columns = along_x(rows, -1)
                odd_y = self._parity[tree_y][band]
                for tree_x in range(2):
                    odd_low, odd_high = self._parity[tree_x]
                    if band == 0:
                        low_x = low[:, odd_y * h : odd_y * h + h, odd_low * w : odd_low * w + w]
                    else:
                        low_x = details[:, 2 * odd_y + odd_low]
                    weighted_sum(columns, self._trees[tree_x][0], low_x)
                    high_x = details[:, 4 * (band + 1) + 2 * odd_y + odd_high]
                    weighted_sum(columns, self._trees[tree_x][1], high_x)


def _moduli(details: Tensor) -> Tensor:
    """Moduli (C, 3, y, x) of the two complex sub-bands that each quad a b / c d makes, added."""
    channels, _, h, w = details.shape
    a, b, c, d = details.view(channels, 3, dtcwt.QUAD, h, w).unbind(2)
    return _modulus(a - d, b + c).add_(_modulus(a + d, b - c))


def _modulus(real: Tensor, imaginary: Tensor) -> Tensor:
    return root((real * real).add_(imaginary * imaginary).mul_(0.5))


def _synthesised(low: Tensor, details: Tensor, tree: DualTree, level: int) -> Tensor:
    """Undo the analysis: the image (C, 2y, 2x) of level 1, above it the finer low pass, halved."""
    channels, _, h, w = details.shape
    quads = details.view(channels, 3, 2, 2, h, w).transpose(3, 4)  # to (… odd y, y, odd x, x)
    high_low, low_high, high_high = quads.reshape(channels, 3, 2 * h, 2 * w).unbind(1)
    filters = tree.synthesis(level)
    rows_low = _merged(low, high_low, -2, filters)
    rows_high = _merged(low_high, high_high, -2, filters)
    return _merged(rows_low, rows_high, -1, filters)


def _merged(low: Tensor, high: Tensor, axis: int, filters: Synthesis) -> Tensor:
    # The pairs are the halves of the result, or its one half at level 1.
    count = low.shape[axis] // 2
    shape = list(low.shape)
    shape[axis] = count
    halves = []
    for pair in range(len(filters.low_at)):
        both = [low.new_empty(shape) for _ in range(2)]
        for band, at, weights, add in (
            (low, filters.low_at[pair], filters.low_weights[pair], False),
            (high, filters.high_at[pair], filters.high_weights[pair], True),
        ):
            reader = Reader(at, 2, count, 2 * count, band.device, halved=True)
            samples = reader(band, axis)
            for out, row in zip(both, filters_of(at, weights), strict=True):
                weighted_sum(samples, row, out, add)
        halves.append(interleaved(both, axis))
    return torch.cat(halves, axis)
