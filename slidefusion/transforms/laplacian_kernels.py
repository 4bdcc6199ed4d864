"""Compiled loops of the Laplacian pyramid; ``laplacian`` wraps them for use on their own.

A level of even size (Y, X) is seen as (Y/2, X/2) blocks of 2 x 2 samples, its four *phases*: the
taps of the expansion depend on the phase alone, so a loop over blocks has no branches. Beyond the
border the border sample is repeated. All arithmetic is float32, in one fixed order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from slidefusion.jit import kernel

__all__ = ["collapse", "column_dtype", "detail_rows", "expand_rows", "reduce", "reduce_row"]

FloatArray = npt.NDArray[np.float32]

HALF = np.float32(1 / 2)
EIGHTH = np.float32(1 / 8)
FOUR = np.float32(4)
SIX = np.float32(6)
SCALE = np.float32(1 / 256)


def column_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """In what a column of ``dtype`` is smoothed: 16 times a byte fits into 16 bits, exactly."""
    return np.dtype(np.uint16 if dtype == np.uint8 else np.float32)


@kernel
def reduce_row(
    fine: npt.NDArray[Any],
    i: int,
    column: npt.NDArray[Any],
    even: FloatArray,
    odd: FloatArray,
    out: FloatArray,
) -> None:
    """Smooth ``fine`` (Y, X) with [1 4 6 4 1]/16 both ways, keep every second sample: row ``i``.

    Y and X are even. ``column`` (X) of `column_dtype`, ``even`` and ``odd`` (X/2 + 2) are scratch,
    ``out`` (X/2) is written.
    """
    height, width = fine.shape
    above2 = fine[max(2 * i - 2, 0)]
    above1 = fine[max(2 * i - 1, 0)]
    middle = fine[2 * i]
    below1 = fine[2 * i + 1]
    below2 = fine[min(2 * i + 2, height - 1)]
    kind = column.dtype.type  # each sum is cast, else it would be widened to 64 bits
    for x in range(width):
        outer = kind(kind(above2[x]) + kind(below2[x]))
        inner = kind(kind(4) * kind(kind(above1[x]) + kind(below1[x])))
        column[x] = kind(kind(outer + inner) + kind(kind(6) * kind(middle[x])))
    half = width // 2
    for x in range(half):
        even[x + 1] = column[2 * x]
        odd[x + 1] = column[2 * x + 1]
    even[0] = column[0]
    odd[0] = column[0]
    even[half + 1] = column[width - 1]
    for x in range(half):
        out[x] = SCALE * (
            (even[x] + even[x + 2]) + FOUR * (odd[x] + odd[x + 1]) + SIX * even[x + 1]
        )


@kernel
def reduce(fine: npt.NDArray[Any], coarse: FloatArray, column: npt.NDArray[Any]) -> None:
    """Write to ``coarse`` (C, Y/2, X/2) the next coarser level of ``fine`` (C, Y, X).

    ``column`` (X) of `column_dtype` is scratch.
    """
    channels, height, width = coarse.shape
    even = np.empty(width + 2, np.float32)
    odd = np.empty(width + 2, np.float32)
    for c in range(channels):
        for i in range(height):
            reduce_row(fine[c], i, column, even, odd, coarse[c, i])


@kernel
def expand_rows(coarse: FloatArray, i: int, even: FloatArray, odd: FloatArray) -> None:
    """Expand ``coarse`` (h, w) vertically only, to its fine rows 2i and 2i + 1.

    ``even`` and ``odd`` (w + 2) are written, with the border sample repeated at both ends.
    """
    height, width = coarse.shape
    above = coarse[max(i - 1, 0)]
    middle = coarse[i]
    below = coarse[min(i + 1, height - 1)]
    for x in range(width):
        even[x + 1] = EIGHTH * ((above[x] + below[x]) + SIX * middle[x])
        odd[x + 1] = HALF * (middle[x] + below[x])
    even[0] = even[1]
    even[width + 1] = even[width]
    odd[0] = odd[1]
    odd[width + 1] = odd[width]


@kernel
def detail_rows(
    fine: npt.NDArray[Any], column: FloatArray, even: FloatArray, odd: FloatArray
) -> None:
    """Subtract from one ``fine`` row (X) its expansion from ``column``, a row of `expand_rows`.

    ``even`` and ``odd`` (X/2) are written: the detail at the even and at the odd samples.
    """
    for x in range(even.shape[0]):
        left = column[x]
        here = column[x + 1]
        right = column[x + 2]
        even[x] = np.float32(fine[2 * x]) - EIGHTH * ((left + right) + SIX * here)
        odd[x] = np.float32(fine[2 * x + 1]) - HALF * (here + right)


@kernel
def collapse(coarse: FloatArray, detail: FloatArray) -> None:
    """Add the expansion of ``coarse`` (C, Y/2, X/2) to ``detail`` (C, Y, X), in place."""
    channels, height, width = coarse.shape
    even = np.empty(width + 2, np.float32)
    odd = np.empty(width + 2, np.float32)
    for c in range(channels):
        for i in range(height):
            expand_rows(coarse[c], i, even, odd)
            for row in range(2):
                column = even if row == 0 else odd
                out = detail[c, 2 * i + row]
                for x in range(width):
                    left = column[x]
                    here = column[x + 1]
                    right = column[x + 2]
                    out[2 * x] += EIGHTH * ((left + right) + SIX * here)
                    out[2 * x + 1] += HALF * (here + right)
