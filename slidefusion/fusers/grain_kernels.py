"""Compiled loops of :mod:`slidefusion.fusers.grain`, over bands of rows that stay in the cache."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from slidefusion.jit import kernel
from slidefusion.nets.end_kernels import (
    BANDS,
    ROWS,
    room,
    smooth_rows,
    smooth_thrice,
    tops_of,
)

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
    source: FloatArray,
    image: FloatArray,
    weights: FloatArray,
    most: FloatArray,
    out: FloatArray,
    top: int,
) -> None:
    """Rows ``top`` to ``top + ROWS`` of ``out``; ``source``, ``image`` and ``out`` (C, H, W).

    ``weights``: for each detail band, one over the deviation up to which ``most`` (H, W) of it is
    given back.
    """
    channels, height, width = image.shape
    bottom = min(top + ROWS, height)
    outer = max(top - BOX, 0), min(bottom + BOX, height)
    tops = tops_of(outer[0])
    line, difference, fine, medium, coarse = room(ROWS + 2 * BOX, width)
    smooths = difference, fine, medium, coarse
    missing = np.empty((BANDS, channels, bottom - top, width), np.float32)
    energy = np.zeros((BANDS, outer[1] - outer[0], width + 2 * BOX), np.float32)
    detail = np.empty(width, np.float32)
    for c in range(channels):
        for y in range(tops[0], min(outer[1] + 14, height)):
            for x in range(width):
                difference[y - tops[0], x] = source[c, y, x] - image[c, y, x]
        smooth_thrice(difference, outer, height, line, fine, medium, coarse)
        for band in range(BANDS):
            weight = weights[band]
            for y in range(outer[0], outer[1]):
                finer, smooth = smooths[band][y - tops[band]], smooths[band + 1][y - tops[band + 1]]
                total = energy[band, y - outer[0], BOX : BOX + width]
                for x in range(width):
                    detail[x] = finer[x] - smooth[x]
                    relative = detail[x] * weight
                    total[x] += relative * relative
                if top <= y < bottom:
                    missing[band, c, y - top] = detail

    column = np.empty(width + 2 * BOX, np.float32)
    mean = np.empty(width, np.float32)
    out[:, top:bottom] = image[:, top:bottom]
    for y in range(top, bottom):
        first, last = max(y - BOX, 0), min(y + BOX + 1, height)
        for band in range(BANDS):
            column[:] = ZERO
            for row in range(first, last):
                above = energy[band, row - outer[0]]
                for x in range(width + 2 * BOX):
                    column[x] += above[x]
            _box(column, channels * (last - first), mean)
            for x in range(width):
                share = TWO - mean[x]
                share = share if share > ZERO else ZERO
                mean[x] = most[y, x] * (share if share < ONE else ONE)
            for c in range(channels):
                made, detail = out[c, y], missing[band, c, y - top]
                for x in range(width):
                    made[x] += mean[x] * detail[x]
        for c in range(channels):
            made = out[c, y]
            for x in range(width):
                v = made[x]
                v = v if v > ZERO else ZERO
                made[x] = v if v < ONE else ONE


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
