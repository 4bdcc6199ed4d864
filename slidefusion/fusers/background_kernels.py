"""Compiled loops over the blocks of a plane."""

from __future__ import annotations

from typing import Any

import numpy as np

from slidefusion.jit import kernel

__all__ = ["fill_float", "fill_integer", "measure_noise", "note_plane"]


HALF = np.float32(1 / 2)


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


@kernel
def measure_noise(patch: Any, place: tuple[int, int, int], cell: int) -> tuple[float, float]:
    """How related neighbouring planes are in a block, and the largest deviation in any plane.

    Of the mixed second differences of the means of cells of ``cell`` x ``cell`` px, scaled to have
    the noise of one mean: their highest correlation from one plane to the next, in any channel, and
    their largest standard deviation. ``patch`` is (Z, C, p, p), ``place`` the (y, x, side) of the
    block.
    """
    planes, channels = patch.shape[:2]
    side = place[2] // cell
    means = np.empty((side, side), np.float32)
    details = np.empty((2, side - 1, side - 1), np.float32)
    related = deviation = 0.0
    for c in range(channels):
        power = 0.0
        for z in range(planes):
            average_cells(patch[z, c], place, cell, means)
            mean, square, both = mixed_differences(means, details[1 - z % 2], details[z % 2])
            deviation = max(deviation, np.sqrt(max(square - mean * mean, 0.0)))
            if z > 0 and square * power > 0:
                related = max(related, both / np.sqrt(square * power))
            power = square
    return related, deviation


@kernel
def average_cells(image: Any, place: tuple[int, int, int], cell: int, out: Any) -> None:
    """Write to ``out`` the means of the cells of a block of ``image`` (p, p)."""
    top, left, _ = place
    scale = np.float32(1 / cell**2)
    for i in range(out.shape[0]):
        row = out[i]
        row[:] = 0
        for y in range(top + i * cell, top + (i + 1) * cell):
            pixels = image[y]
            for j in range(row.size):
                for x in range(left + j * cell, left + (j + 1) * cell):
                    row[j] += np.float32(pixels[x])
        for j in range(row.size):
            row[j] *= scale


@kernel
def mixed_differences(image: Any, before: Any, out: Any) -> tuple[float, float, float]:
    """Write to ``out`` (Y - 1, X - 1) the second differences across both axes, halved.

    Returns their mean, that of their squares, and that of their products with ``before``.
    """
    height, width = out.shape
    sums = np.zeros((3, width))
    mean, square, both = sums[0], sums[1], sums[2]
    for y in range(height):
        top, bottom, row, other = image[y], image[y + 1], out[y], before[y]
        for x in range(width):
            detail = ((bottom[x + 1] - top[x + 1]) - (bottom[x] - top[x])) * HALF
            row[x] = detail
            mean[x] += detail
            square[x] += detail * detail
            both[x] += detail * other[x]
    return mean.mean() / height, square.mean() / height, both.mean() / height
