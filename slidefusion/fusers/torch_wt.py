"""`wt` in torch: the same numbers as the compiled kernels, for the GPU."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from slidefusion.fuser import Fused, Planes
from slidefusion.fusers.torch_device import image_of, torch_device
from slidefusion.fusers.torch_filters import Reader, filters_of, interleaved, weighted_sum
from slidefusion.fusers.torch_selection import Choice, depth_of
from slidefusion.fusers.torch_subbands import Level, sum_planes
from slidefusion.tiling import round_up
from slidefusion.transforms import dwt
from slidefusion.transforms.wavelets import FilterBank, Taps, filter_bank

if TYPE_CHECKING:
    from slidefusion.fusers.wt import Wt

__all__ = ["fuse", "working_bytes"]

Size = tuple[int, int]


def fuse(stack: Planes, fuser: Wt, *, compiled: bool = False) -> Fused:
    """Fuse ``stack`` (Z, C, Y, X) with the options and on the device of ``fuser``.

    ``compiled`` uses ``torch.compile``: faster on a GPU, after a minute of compiling for each
    shape, and rounding differently in the last bit.

    Raises:
        OptionError: the device cannot be used here.
    """
    device = torch_device(fuser.device)
    with torch.inference_mode():
        return _fuse(stack, fuser, device, compiled)


def working_bytes(fuser: Wt, channels: int, rows: int, columns: int) -> int:
    """Upper bound of the bytes of one call for a padded window, on host and device together.

    Counted for float32 and in images of the padded window: planes on their way (2 pinned and 2 on
    the device, 1 converted), the range (2), the result on both sides (3); the coefficients of all
    levels, their sums, their weighted copy, and twice what the finest filters copy and sum; maps.
    """
    bank = filter_bank(fuser.wavelet)
    coefficients = sum(4 * y * x for y, x in dwt.level_shapes(bank, fuser.levels, rows, columns))
    finest = (rows + 2 * bank.length) * (columns + 2 * bank.length)
    return 4 * (channels * (10 * finest + 4 * coefficients) + 3 * coefficients) + 2**20


def _fuse(stack: Planes, fuser: Wt, device: torch.device, compiled: bool) -> Fused:
    from slidefusion.fusers.wt import DEPTH_LEVEL, nearest

    bank = filter_bank(fuser.wavelet)
    count, channels, height, width = stack.shape
    period: int = 2**fuser.levels
    padded = round_up(height, period), round_up(width, period)
    sizes = [padded, *dwt.level_shapes(bank, fuser.levels, *padded)]
    levels = [_level(bank, channels, count, finer, size, device) for finer, size in pairwise(sizes)]
    image, limits = sum_planes(stack, fuser, levels, torch.abs, 3 * channels, device, compiled)
    for level, size in zip(reversed(levels), reversed(sizes[:-1]), strict=True):
        image = _synthesised(image, level.sums, bank, size)
    fused = image_of(image, limits, stack.dtype, height, width)
    shown = min(DEPTH_LEVEL, fuser.levels)
    y, x = (nearest(bank, shown, n, m) for n, m in zip((height, width), sizes[shown], strict=True))
    maps = depth_of(levels[shown - 1].choice, count)
    depth, confidence = (np.ascontiguousarray(one[y[:, np.newaxis], x]) for one in maps)
    return Fused(fused, depth, confidence)


def _level(
    bank: FilterBank, channels: int, planes: int, finer: Size, size: Size, device: torch.device
) -> Level:
    details = (channels, 3, *size)
    return Level(
        transform=_Analysis(bank, finer, size, device),
        low=torch.empty((channels, *size), device=device),
        details=torch.empty(details, device=device),
        sums=torch.zeros(details, device=device),
        choice=Choice(*size, planes, device),
    )


class _Analysis:
    """One level downwards, along y first: bands high-low, low-high, high-high."""

    def __init__(self, bank: FilterBank, finer: Size, size: Size, device: torch.device) -> None:
        at = bank.analysis.at
        self._filters = filters_of(at, bank.analysis.weights)
        self._size = size
        self._readers = [
            Reader(at, 2, count, length, device) for count, length in zip(size, finer, strict=True)
        ]

    def __call__(self, source: Tensor, low: Tensor, details: Tensor) -> None:
        """Split ``source`` (C, Y, X) into ``low`` (C, y, x) and ``details`` (C, 3, y, x)."""
        along_y, along_x = self._readers
        samples = along_y(source, -2)
        for band, into in enumerate(((low, details[:, 1]), (details[:, 0], details[:, 2]))):
            rows = source.new_empty((len(source), self._size[0], source.shape[-1]))
            weighted_sum(samples, self._filters[band], rows)
            columns = along_x(rows, -1)
            for taps, out in zip(self._filters, into, strict=True):
                weighted_sum(columns, taps, out)


def _synthesised(low: Tensor, details: Tensor, bank: FilterBank, size: Size) -> Tensor:
    """The image (C, *``size``) of ``low`` (C, y, x) and ``details`` (C, 3, y, x)."""
    high_low, low_high, high_high = details.unbind(1)
    rows_low = _merged(low, high_low, -2, bank, size[0])
    rows_high = _merged(low_high, high_high, -2, bank, size[0])
    return _merged(rows_low, rows_high, -1, bank, size[1])


def _merged(low: Tensor, high: Tensor, axis: int, bank: FilterBank, length: int) -> Tensor:
    half = (length + 1) // 2
    shape = list(low.shape)
    shape[axis] = half
    pair = [low.new_empty(shape) for _ in range(2)]
    for band, taps, add in ((low, bank.synthesis_low, False), (high, bank.synthesis_high, True)):
        samples = _reader(taps, half, band.shape[axis], band.device)(band, axis)
        for out, row in zip(pair, filters_of(taps.at, taps.weights), strict=True):
            weighted_sum(samples, row, out, add)
    return interleaved(pair, axis).narrow(axis, 0, length)


def _reader(taps: Taps, count: int, length: int, device: torch.device) -> Reader:
    # No sample beyond the border has a weight here, so any rule for the border will do.
    return Reader(taps.at, 1, count, length, device)
