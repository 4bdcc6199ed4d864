"""Compiled loops of :mod:`slidefusion.fusers.grain`, over bands of rows that stay in the cache."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from slidefusion.nets.end_kernels import ROWS, smooth_rows
from slidefusion.transforms.jit import kernel

__all__ = ["add_grain", "finest_samples"]

FloatArray = npt.NDArray[np.float32]

BOX = 3
"""Reach of the 7 x 7 px over which energies are averaged."""

ZERO, ONE, TWO = np.float32(0), np.float32(1), np.float32(2)


@kernel
def finest_samples(planes: FloatArray, step: int, out: FloatArray, p: int) -> None:
    """``out[p]``: absolute values of the finest band of ``planes[p]``, at every ``step`` px.

    ``planes`` (P, H, W), ``out`` (P, H / step, W / step), sides rounded up.
    """
    height, width = planes.shape[1:]
    line = np.empty(width + 16, np.float32)
    smooth = np.empty((1, width), np.float32)
    for row in range(out.shape[1]):
        y = row * step
        smooth_rows(planes[p], 0, 1, (y, y + 1), height, line, smooth)
        for column in range(out.shape[2]):
            x = column * step
            out[p, row, column] = abs(planes[p, y, x] - smooth[0, x])


@kernel
def add_grain(
    planes: FloatArray, image: FloatArray, levels: FloatArray, out: FloatArray, top: int
) -> None:
    """Rows ``top`` to ``top + ROWS`` of ``out`` (C, H, W).

    Of ``planes`` (Z, C, H, W), whose noise ``levels`` (Z, C) has, and ``image`` (C, H, W).
    """
    count, channels, height, width = planes.shape
    bottom = min(top + ROWS, height)
    outer_top, outer_bottom = max(top - BOX - 2, 0), min(bottom + BOX + 2, height)
    inner_top, inner_bottom = max(top - BOX, 0), min(bottom + BOX, height)
    line = np.empty(width + 16, np.float32)
    difference = np.empty((outer_bottom - outer_top, width), np.float32)
    band = np.empty((inner_bottom - inner_top, width), np.float32)
    missing = np.empty((channels, bottom - top, width), np.float32)
    grain = np.empty((channels, bottom - top, width), np.float32)
    nearest = np.empty((bottom - top, width), np.float32)
    nearest_here = np.empty(width, np.float32)
    column = np.empty(width + 2 * BOX, np.float32)
    for z in range(count):
        energy = np.zeros((inner_bottom - inner_top, width + 2 * BOX), np.float32)
        for c in range(channels):
            for y in range(outer_top, outer_bottom):
                for x in range(width):
                    difference[y - outer_top, x] = planes[z, c, y, x] - image[c, y, x]
            smooth_rows(difference, outer_top, 1, (inner_top, inner_bottom), height, line, band)
            weight = ONE / levels[z, c]
            for y in range(inner_top, inner_bottom):
                fine, smooth = difference[y - outer_top], band[y - inner_top]
                total = energy[y - inner_top, BOX : BOX + width]
                for x in range(width):
                    smooth[x] = fine[x] - smooth[x]
                    relative = smooth[x] * weight
                    total[x] += relative * relative
            missing[c] = band[top - inner_top : bottom - inner_top]
        for y in range(top, bottom):
            first, last = max(y - BOX, 0), min(y + BOX + 1, height)
            for x in range(width + 2 * BOX):
                column[x] = ZERO
            for row in range(first, last):
                for x in range(width + 2 * BOX):
                    column[x] += energy[row - inner_top, x]
            _box(column, channels * (last - first), nearest_here)
            best = nearest[y - top]
            for c in range(channels):
                here, chosen = missing[c, y - top], grain[c, y - top]
                for x in range(width):
                    nearer = z == 0 or nearest_here[x] < best[x]
                    chosen[x] = here[x] if nearer else chosen[x]
            for x in range(width):
                nearer = z == 0 or nearest_here[x] < best[x]
                best[x] = nearest_here[x] if nearer else best[x]
    for c in range(channels):
        for y in range(top, bottom):
            best, chosen = nearest[y - top], grain[c, y - top]
            for x in range(width):
                share = TWO - best[x]
                share = share if share > ZERO else ZERO
                share = share if share < ONE else ONE
                v = image[c, y, x] + share * chosen[x]
                v = v if v > ZERO else ZERO
                out[c, y, x] = v if v < ONE else ONE


@kernel
def _box(sums: FloatArray, rows: int, out: FloatArray) -> None:
    """Means of ``rows`` times 7 px of ``sums``, which has 3 px of zeros on both sides."""
    width = len(out)
    a, b, c = sums[:width], sums[1 : 1 + width], sums[2 : 2 + width]
    d = sums[3 : 3 + width]
    e, f, g = sums[4 : 4 + width], sums[5 : 5 + width], sums[6 : 6 + width]
    share = ONE / np.float32(7 * rows)
    for x in range(width):
        out[x] = ((a[x] + g[x]) + (b[x] + f[x]) + (c[x] + e[x]) + d[x]) * share
    for k in range(min(BOX, width)):  # fewer at the ends
        for x in (k, width - 1 - k):
            inside = min(x + BOX, width - 1) - max(x - BOX, 0) + 1
            total = ZERO
            for column in range(x, x + 2 * BOX + 1):
                total += sums[column]
            out[x] = total / np.float32(inside * rows)
