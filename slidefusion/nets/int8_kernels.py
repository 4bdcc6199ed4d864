"""Between convolutions of 8-bit integers: activation, sum, and rounding to 8 bits in one pass.

Images are rows of float32, (H, W * C) with the channels of a pixel side by side. ``factor`` and
``zero`` map a value v to the integer nearest to v * factor + zero, cut to 0 … 255; ``factor`` is
one for each channel, repeated for every pixel of a row.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from slidefusion.jit import kernel

__all__ = ["add_active", "round_beside", "round_evenly", "round_row", "round_rows"]

FloatArray = npt.NDArray[np.float32]
ByteArray = npt.NDArray[np.uint8]

LOWEST, HIGHEST, HALF = np.float32(0), np.float32(255), np.float32(0.5)


@kernel
def _byte(v: np.float32) -> np.uint8:
    v = v if v > LOWEST else LOWEST  # NaN becomes 0, too
    v = v if v < HIGHEST else HIGHEST
    return np.uint8(np.int32(v + HALF))


@kernel
def round_row(row: FloatArray, factor: FloatArray, zero: np.float32, out: ByteArray) -> None:
    """One row, or one pixel, as integers."""
    for k in range(len(row)):
        out[k] = _byte(row[k] * factor[k] + zero)


@kernel
def round_evenly(row: FloatArray, factor: np.float32, zero: np.float32, out: ByteArray) -> None:
    """One row as integers, with the same factor everywhere."""
    for k in range(len(row)):
        out[k] = _byte(row[k] * factor + zero)


@kernel
def round_rows(image: FloatArray, factor: FloatArray, zero: np.float32, out: ByteArray) -> None:
    """``image`` (H, W * C) as integers."""
    for y in range(len(image)):
        round_row(image[y], factor, zero, out[y])


@kernel
def add_active(
    image: FloatArray,
    before: FloatArray,
    slope: np.float32,
    factor: FloatArray,
    zero: np.float32,
    out: ByteArray,
) -> None:
    """``before`` plus the leaky ReLU of ``image``, written over ``image``, and as integers."""
    for y in range(len(image)):
        row, other = image[y], before[y]
        for k in range(len(row)):
            v = row[k]
            row[k] = other[k] + (v if v > LOWEST else v * slope)
        round_row(row, factor, zero, out[y])


@kernel
def round_beside(
    deeper: FloatArray, skip: FloatArray, factor: FloatArray, zero: np.float32, out: ByteArray
) -> None:
    """``deeper`` (h, w, C), each pixel four times, and ``skip`` (2 h, 2 w, D) behind it, as
    integers (2 h, 2 w, C + D). ``factor`` (C + D) is that of one pixel."""
    height, width, channels = deeper.shape
    for y in range(2 * height):
        for x in range(width):
            left, right = out[y, 2 * x], out[y, 2 * x + 1]
            round_row(deeper[y // 2, x], factor[:channels], zero, left[:channels])
            for k in range(channels):
                right[k] = left[k]
            round_row(skip[y, 2 * x], factor[channels:], zero, left[channels:])
            round_row(skip[y, 2 * x + 1], factor[channels:], zero, right[channels:])
