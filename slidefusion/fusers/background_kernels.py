"""Compiled loops over the blocks of a plane."""

from __future__ import annotations

from typing import Any

import numpy as np

from slidefusion.transforms.jit import kernel

__all__ = ["fill_float", "fill_integer", "note_plane"]


@kernel
def note_plane(
    plane: Any, side: int, cell: int, limits: Any, empty: Any, ranges: Any, sums: Any, total: Any
) -> None:
    """Look at the blocks that may be ``empty``: note their ranges, add the plane to ``total``.

    ``plane`` and ``total`` are (C, Y, X) and ``empty`` is (by, bx). ``ranges`` (2, C, by, bx) are
    the lowest and highest value so far, ``sums`` those of the sums of ``cell`` x ``cell`` px that
    lie on the plane entirely. A block that exceeds one of the two ``limits`` is left at once and
    is no longer ``empty``.
    """
    channels, height, width = plane.shape
    band = np.empty(side, sums.dtype)
    for by, bx in np.ndindex(empty.shape):
        top, left = by * side, bx * side
        bottom, right = min(top + side, height), min(left + side, width)
        for c in range(channels):
            low, high = ranges[0, c, by, bx], ranges[1, c, by, bx]
            low_sum, high_sum = sums[0, c, by, bx], sums[1, c, by, bx]
            y = top
            while empty[by, bx] and y < bottom:
                band[:] = 0
                last = min(y + cell, bottom)
                for y0 in range(y, last):
                    row = plane[c, y0, left:right]
                    added = total[c, y0, left:right]
                    for x in range(row.size):
                        band[x] += row[x]
                        added[x] += row[x]
                    for x in range(row.size):
                        low = min(low, row[x])
                        high = max(high, row[x])
                if last - y == cell:
                    for k in range((right - left) // cell):
                        total_of_cell = band[k * cell]
                        for x in range(k * cell + 1, k * cell + cell):
                            total_of_cell += band[x]
                        low_sum = min(low_sum, total_of_cell)
                        high_sum = max(high_sum, total_of_cell)
                if float(high) - low > limits[0] or (
                    high_sum >= low_sum and float(high_sum) - low_sum > limits[1]
                ):
                    empty[by, bx] = False
                y = last
            ranges[0, c, by, bx], ranges[1, c, by, bx] = low, high
            sums[0, c, by, bx], sums[1, c, by, bx] = low_sum, high_sum


@kernel
def fill_integer(image: Any, total: Any, planes: int, side: int, empty: Any) -> None:
    """Put the mean of the planes, rounded half up, into the blocks of ``image`` that are empty."""
    channels, height, width = image.shape
    count = np.uint32(planes)
    half = np.uint32(planes // 2)
    for c in range(channels):
        for y in range(height):
            for block in range(empty.shape[1]):
                if empty[y // side, block]:
                    for x in range(block * side, min(block * side + side, width)):
                        image[c, y, x] = (np.uint32(total[c, y, x]) + half) // count


@kernel
def fill_float(image: Any, total: Any, planes: int, side: int, empty: Any) -> None:
    """Put the mean of the planes into the blocks of ``image`` (C, Y, X) that are empty."""
    channels, height, width = image.shape
    for c in range(channels):
        for y in range(height):
            for block in range(empty.shape[1]):
                if empty[y // side, block]:
                    for x in range(block * side, min(block * side + side, width)):
                        image[c, y, x] = total[c, y, x] / np.float64(planes)
