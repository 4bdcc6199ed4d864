"""Compiled loops of the `lpp` fuser: activity of a level, weighted sum of a level, rebuilding.

The detail of a level is never stored: it is the difference of a level and the expansion of the
next coarser one, computed a row at a time while both are in the cache. Sums are held as
(C, Y/2, 4, X/2), the four phases of each 2 x 2 block apart, so that every inner loop runs over
contiguous memory; `rebuild` puts them into image order in place.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from slidefusion.transforms.jit import kernel
from slidefusion.transforms.laplacian_kernels import detail_rows, expand_rows

__all__ = ["accumulate", "measure", "rebuild", "to_dtype"]

FloatArray = npt.NDArray[np.float32]

HALF = np.float32(1 / 2)
EIGHTH = np.float32(1 / 8)
SIX = np.float32(6)


@kernel
def measure(
    fine: npt.NDArray[Any], coarse: FloatArray, scale: np.float32, activity: FloatArray
) -> None:
    """Write to ``activity`` (Y/2, X/2) ``scale`` times the sum of the detail's magnitudes.

    ``fine`` is (C, Y, X), ``coarse`` (C, Y/2, X/2). The sum is over the channels and over the
    2 x 2 samples of a block.
    """
    channels, height, width = coarse.shape
    even = np.empty(width + 2, np.float32)
    odd = np.empty(width + 2, np.float32)
    detail = np.empty((4, width), np.float32)
    for i in range(height):
        row = activity[i]
        row[:] = np.float32(0)
        for c in range(channels):
            expand_rows(coarse[c], i, even, odd)
            detail_rows(fine[c, 2 * i], even, detail[0], detail[1])
            detail_rows(fine[c, 2 * i + 1], odd, detail[2], detail[3])
            for x in range(width):
                row[x] += scale * (
                    (abs(detail[0, x]) + abs(detail[1, x]))
                    + (abs(detail[2, x]) + abs(detail[3, x]))
                )


@kernel
def accumulate(
    fine: npt.NDArray[Any],
    coarse: FloatArray,
    keep: FloatArray,
    gain: FloatArray,
    sums: FloatArray,
) -> None:
    """``sums = sums * keep + gain * detail`` for one level.

    ``fine`` is (C, Y, X), ``coarse`` (C, Y/2, X/2), ``keep`` and ``gain`` (Y/2, X/2), ``sums``
    (C, Y/2, 4, X/2).
    """
    channels, height, width = coarse.shape
    even = np.empty(width + 2, np.float32)
    odd = np.empty(width + 2, np.float32)
    detail = np.empty((4, width), np.float32)
    for i in range(height):
        keep_row = keep[i]
        gain_row = gain[i]
        for c in range(channels):
            expand_rows(coarse[c], i, even, odd)
            detail_rows(fine[c, 2 * i], even, detail[0], detail[1])
            detail_rows(fine[c, 2 * i + 1], odd, detail[2], detail[3])
            for phase in range(4):
                out = sums[c, i, phase]
                values = detail[phase]
                for x in range(width):
                    out[x] = out[x] * keep_row[x] + gain_row[x] * values[x]


@kernel
def rebuild(coarse: FloatArray, total: FloatArray, sums: FloatArray) -> None:
    """Divide ``sums`` by ``total``, add the expansion of ``coarse``, in place.

    ``coarse`` is (C, Y/2, X/2), ``total`` (Y/2, X/2), ``sums`` (C, Y/2, 4, X/2) before and, read
    as (C, Y, X), the image of that level afterwards.
    """
    channels, height, width = coarse.shape
    even = np.empty(width + 2, np.float32)
    odd = np.empty(width + 2, np.float32)
    share = np.empty(width, np.float32)
    pair = np.empty((2, 2 * width), np.float32)
    for c in range(channels):
        for i in range(height):
            expand_rows(coarse[c], i, even, odd)
            for x in range(width):
                share[x] = np.float32(1) / total[i, x]
            for row in range(2):
                column = even if row == 0 else odd
                out = pair[row]
                at_even = sums[c, i, 2 * row]
                at_odd = sums[c, i, 2 * row + 1]
                for x in range(width):
                    left = column[x]
                    here = column[x + 1]
                    right = column[x + 2]
                    out[2 * x] = EIGHTH * ((left + right) + SIX * here) + share[x] * at_even[x]
                    out[2 * x + 1] = HALF * (here + right) + share[x] * at_odd[x]
            sums[c, i].reshape(4 * width)[:] = pair.reshape(4 * width)


@kernel
def to_dtype(
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
