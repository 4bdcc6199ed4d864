"""Compiled loops of the `lpp` fuser: planes into the sums of one level, and rebuilding.

The detail of a level is never stored as an image: it is the difference of a level and the
expansion of the next coarser one, computed row by row, weighed as soon as the rows that its window
needs are there, and added to the sums, all while it is in the cache. So a plane is read once a
level and the sums are read and written once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from slidefusion.fusers.selection import Rule, smooth_row, weigh_row
from slidefusion.jit import kernel
from slidefusion.transforms.laplacian_kernels import detail_rows, expand_rows, reduce_row

__all__ = ["LevelSums", "add_planes", "rebuild", "to_integer", "widen"]

FloatArray = npt.NDArray[np.float32]

ZERO = np.float32(0)
HALF = np.float32(1 / 2)
ONE = np.float32(1)
SIX = np.float32(6)
EIGHTH = np.float32(1 / 8)


class LevelSums(NamedTuple):
    """What is carried from plane to plane for one level of (Y, X) samples; all start as zeros."""

    detail: FloatArray
    """(C, Y/2, 4, X/2) weighted sum of the detail, the phases of each 2 x 2 block apart, so that
    the inner loops run over contiguous memory."""
    low: FloatArray
    """(C, Y/2, X/2) weighted sum of the low-pass below the coarsest level, or (0, Y/2, X/2)."""
    best: FloatArray
    """(Y/2, X/2) highest activity so far of a block."""
    total: FloatArray
    """(Y/2, X/2) sum of the weights."""
    plane: npt.NDArray[Any]
    """(Y/2, X/2) plane of the highest activity."""


@kernel
def add_planes(
    fine: tuple[npt.NDArray[Any], npt.NDArray[Any]],
    coarse: tuple[FloatArray, FloatArray],
    column: npt.NDArray[Any],
    count: int,
    z: int,
    scale: np.float32,
    rule: Rule,
    sums: LevelSums,
) -> None:
    """Add plane ``z``, and with ``count`` = 2 plane ``z + 1``, to the ``sums`` of one level.

    ``fine`` are the planes (C, Y, X) at this level; the next coarser level of each is written to
    ``coarse`` (C, Y/2, X/2), with ``column`` (X) as scratch. The activity of a block of 2 x 2
    samples is ``scale`` times the sum of the magnitudes of the detail over the block and the
    channels, averaged over the window of ``rule``. Two planes at a time halve the traffic of the
    sums, which are larger than the caches.
    """
    channels, height, width = coarse[0].shape
    taps = rule.window.shape[0]
    radius = taps // 2
    kept_rows = radius + 1
    even = np.empty(width + 2, np.float32)
    odd = np.empty(width + 2, np.float32)
    window_column = np.empty(width + taps - 1, np.float32)
    activity = np.empty(width, np.float32)
    keep = np.empty((count, width), np.float32)
    gain = np.empty((count, width), np.float32)
    magnitudes = np.empty((count, taps, width), np.float32)
    details = np.empty((count, kept_rows, channels, 4, width), np.float32)
    for newest in range(-1, height + radius):
        for p in range(count):
            if newest + 1 < height:
                for c in range(channels):
                    out = coarse[p][c, newest + 1]
                    reduce_row(fine[p][c], newest + 1, column, even, odd, out)
            if 0 <= newest < height:
                magnitude = magnitudes[p, newest % taps]
                magnitude[:] = ZERO
                for c in range(channels):
                    detail = details[p, newest % kept_rows, c]
                    expand_rows(coarse[p][c], newest, even, odd)
                    detail_rows(fine[p][c, 2 * newest], even, detail[0], detail[1])
                    detail_rows(fine[p][c, 2 * newest + 1], odd, detail[2], detail[3])
                    add_magnitudes(detail, scale, magnitude)
        i = newest - radius
        if i < 0:
            continue
        for p in range(count):
            smooth_row(magnitudes[p], i, height, rule.window, window_column, activity)
            best, total, index = sums.best[i], sums.total[i], sums.plane[i]
            weigh_row(activity, rule, z + p, best, total, index, keep[p], gain[p])
        for c in range(channels):
            for phase in range(4):
                for p in range(count):
                    values = details[p, i % kept_rows, c, phase]
                    add_row(values, keep[p], gain[p], sums.detail[c, i, phase])
        for c in range(sums.low.shape[0]):
            for p in range(count):
                add_row(coarse[p][c, i], keep[p], gain[p], sums.low[c, i])


@kernel
def add_magnitudes(detail: FloatArray, scale: np.float32, out: FloatArray) -> None:
    """Add to ``out`` (X) the magnitudes of the four phases ``detail`` (4, X), times ``scale``."""
    for x in range(out.shape[0]):
        out[x] += scale * (
            (abs(detail[0, x]) + abs(detail[1, x])) + (abs(detail[2, x]) + abs(detail[3, x]))
        )


@kernel
def widen(
    planes: tuple[npt.NDArray[Any], npt.NDArray[Any]],
    low: npt.NDArray[Any],
    high: npt.NDArray[Any],
    begin: bool,
) -> None:
    """Widen the range ``low`` to ``high`` by two planes, or ``begin`` with it; all (C, Y, X)."""
    first, second = planes
    channels, height, width = low.shape
    for c in range(channels):
        for y in range(height):
            a = first[c, y]
            b = second[c, y]
            lowest = low[c, y]
            highest = high[c, y]
            if begin:
                for x in range(width):
                    lowest[x] = min(a[x], b[x])
                    highest[x] = max(a[x], b[x])
            else:
                for x in range(width):
                    lowest[x] = min(lowest[x], min(a[x], b[x]))
                    highest[x] = max(highest[x], max(a[x], b[x]))


@kernel
def add_row(values: FloatArray, keep: FloatArray, gain: FloatArray, sums: FloatArray) -> None:
    """``sums = sums * keep + gain * values``; all arrays (X)."""
    for x in range(values.shape[0]):
        sums[x] = sums[x] * keep[x] + gain[x] * values[x]


@kernel
def rebuild(coarse: FloatArray, total: FloatArray, detail: FloatArray) -> None:
    """Divide ``detail`` by ``total`` and add the expansion of ``coarse``, in place.

    ``coarse`` is (C, Y/2, X/2), ``total`` (Y/2, X/2), ``detail`` (C, Y/2, 4, X/2) before and, read
    as (C, Y, X), the image of that level afterwards.
    """
    channels, height, width = coarse.shape
    even = np.empty(width + 2, np.float32)
    odd = np.empty(width + 2, np.float32)
    share = np.empty(width, np.float32)
    rows = np.empty(4 * width, np.float32)
    for i in range(height):
        for x in range(width):
            share[x] = ONE / total[i, x]
        for c in range(channels):
            phases = detail[c, i]
            expand_rows(coarse[c], i, even, odd)
            rebuild_row(even, share, phases[0], phases[1], rows[: 2 * width])
            rebuild_row(odd, share, phases[2], phases[3], rows[2 * width :])
            out = phases.reshape(4 * width)
            for x in range(4 * width):
                out[x] = rows[x]


@kernel
def rebuild_row(
    column: FloatArray, share: FloatArray, even: FloatArray, odd: FloatArray, out: FloatArray
) -> None:
    """Write to ``out`` (2X) the expansion of ``column``, a row of `expand_rows`, plus the detail.

    The detail is ``share`` times ``even`` and ``odd`` (X), at the even and the odd samples.
    """
    for x in range(share.shape[0]):
        left = column[x]
        here = column[x + 1]
        right = column[x + 2]
        out[2 * x] = EIGHTH * ((left + right) + SIX * here) + share[x] * even[x]
        out[2 * x + 1] = HALF * (here + right) + share[x] * odd[x]


@kernel
def to_integer(
    image: FloatArray, low: npt.NDArray[Any], high: npt.NDArray[Any], out: npt.NDArray[Any]
) -> None:
    """Round ``image`` (C, Y, X) to nearest, clip it to ``low`` and ``high``, write it to ``out``.

    ``out`` may be smaller in Y and X; ``low`` and ``high`` (C, Y, X) are of its dtype.
    """
    channels, height, width = out.shape
    for c in range(channels):
        for y in range(height):
            row = image[c, y]
            low_row = low[c, y]
            high_row = high[c, y]
            out_row = out[c, y]
            for x in range(width):
                value = max(row[x], np.float32(low_row[x]))
                out_row[x] = min(value, np.float32(high_row[x])) + HALF
