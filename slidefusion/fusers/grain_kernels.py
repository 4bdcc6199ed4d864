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
TINY = np.float32(1e-6)


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
    limits: FloatArray,
    shares: tuple[FloatArray, FloatArray],
    out: FloatArray,
    top: int,
) -> None:
    """Rows ``top`` to ``top + ROWS`` of ``out``; ``source``, ``image`` and ``out`` (C, H, W).

    ``weights`` are one over the noise in each detail band. ``limits`` are the energy up to which a
    difference is grain, and the excess from which on something was erased. ``shares`` say how much
    of either is added at most, (H, W) each.
    """
    channels, height, width = image.shape
    bottom = min(top + ROWS, height)
    outer = max(top - BOX, 0), min(bottom + BOX, height)
    tops = tops_of(outer[0])
    line, theirs, their_fine, their_medium, their_coarse = room(ROWS + 2 * BOX, width)
    _, ours, our_fine, our_medium, our_coarse = room(ROWS + 2 * BOX, width)
    sources = theirs, their_fine, their_medium, their_coarse
    images = ours, our_fine, our_medium, our_coarse
    missing = np.empty((BANDS, channels, bottom - top, width), np.float32)
    energy = np.zeros((BANDS, outer[1] - outer[0], width + 2 * BOX), np.float32)
    lead = np.zeros((BANDS, outer[1] - outer[0], width + 2 * BOX), np.float32)
    detail = np.empty(width, np.float32)
    end = min(outer[1] + 14, height)
    for c in range(channels):
        theirs[: end - tops[0]] = source[c, tops[0] : end]
        ours[: end - tops[0]] = image[c, tops[0] : end]
        smooth_thrice(theirs, outer, height, line, their_fine, their_medium, their_coarse)
        smooth_thrice(ours, outer, height, line, our_fine, our_medium, our_coarse)
        for band in range(BANDS):
            weight = weights[band]
            for y in range(outer[0], outer[1]):
                finer, smooth = y - tops[band], y - tops[band + 1]
                a, b = sources[band][finer], sources[band + 1][smooth]
                d, e = images[band][finer], images[band + 1][smooth]
                total = energy[band, y - outer[0], BOX : BOX + width]
                more = lead[band, y - outer[0], BOX : BOX + width]
                for x in range(width):
                    mine, its = d[x] - e[x], a[x] - b[x]
                    detail[x] = its - mine
                    relative = detail[x] * weight
                    total[x] += relative * relative
                    more[x] += relative * ((its + mine) * weight)
                if top <= y < bottom:
                    missing[band, c, y - top] = detail

    column = np.empty(width + 2 * BOX, np.float32)
    mean, excess = np.empty(width, np.float32), np.empty(width, np.float32)
    per_grain, clear = ONE / limits[0], limits[1]
    grain, erased = shares
    out[:, top:bottom] = image[:, top:bottom]
    for y in range(top, bottom):
        rows = max(y - BOX, 0) - outer[0], min(y + BOX + 1, height) - outer[0]
        for band in range(BANDS):
            _box(energy[band], rows, channels, column, mean)
            _box(lead[band], rows, channels, column, excess)
            for x in range(width):
                small = TWO - mean[x] * per_grain
                small = small if small > ZERO else ZERO
                small = grain[y, x] * (small if small < ONE else ONE)
                gone = (excess[x] - clear) / (mean[x] if mean[x] > TINY else TINY)
                gone = gone if gone > ZERO else ZERO
                gone = erased[y, x] * (gone if gone < ONE else ONE)
                mean[x] = small if small > gone else gone
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
def _box(
    values: FloatArray, rows: tuple[int, int], channels: int, sums: FloatArray, out: FloatArray
) -> None:
    """Means of 7 px of rows ``rows[0]`` to ``rows[1]`` of ``values``, sums over the channels.

    ``values`` and ``sums`` have 3 px more on both sides, in ``values`` zeros.
    """
    sums[:] = ZERO
    for row in range(rows[0], rows[1]):
        above = values[row]
        for x in range(len(sums)):
            sums[x] += above[x]
    count = channels * (rows[1] - rows[0])
    width = len(out)
    a, b, c = sums[:width], sums[1 : 1 + width], sums[2 : 2 + width]
    d = sums[3 : 3 + width]
    e, f, g = sums[4 : 4 + width], sums[5 : 5 + width], sums[6 : 6 + width]
    share = ONE / np.float32(7 * count)
    for x in range(width):
        out[x] = ((a[x] + g[x]) + (b[x] + f[x]) + (c[x] + e[x]) + d[x]) * share
    for k in range(min(BOX, width)):  # fewer at the ends
        for x in (k, width - 1 - k):
            inside = min(x + BOX, width - 1) - max(x - BOX, 0) + 1
            total = ZERO
            for column in range(x, x + 2 * BOX + 1):
                total += sums[column]
            out[x] = total / np.float32(inside * count)
