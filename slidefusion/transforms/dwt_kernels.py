"""Compiled loops of the separable wavelet transform; ``dwt`` wraps them for use on their own.

A level is its low pass (1, h, w) and its details (3, h, w): the bands high-low, low-high,
high-high, where the first word says what was done along y and the second along x. Vertical filters
come first on the way down and first on the way up, so that only a few rows are held besides input
and output.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from slidefusion.jit import kernel
from slidefusion.transforms.rows import extend, interleave, split, weighted_sums

__all__ = ["analyse", "synthesise"]

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


@kernel
def analyse(
    source: FloatArray,
    low: FloatArray,
    details: FloatArray,
    top: int,
    bottom: int,
    at: IntArray,
    weights: FloatArray,
    periodic: bool,
) -> None:
    """Make the rows ``top`` to ``bottom`` of the next level of ``source`` (1, Y, X).

    They are written to the same rows of ``low`` (1, h, w) and to the first rows of ``details``
    (3, rows, w).
    """
    _, height, width = source.shape
    # PyWavelets makes an odd length even by repeating the last sample before it wraps around.
    period_y = height + height % 2 if periodic else height
    period_x = width + width % 2 if periodic else width
    _, _, w = low.shape
    taps = at.shape[0]
    margin = max(0, -(min(at.min(), 0) // 2))
    row_samples = 2 * (w - 1) + max(at.max(), 1) + 1
    columns = margin + row_samples // 2 + 1
    flat = source.reshape(-1)
    vertical = np.empty((2, width), np.float32)
    phases = np.empty((2, columns), np.float32)
    phases_flat = phases.reshape(-1)
    rows_at = np.empty(taps, np.int64)
    columns_at = np.empty(taps, np.int64)
    for t in range(taps):
        columns_at[t] = (at[t] % 2) * columns + margin + at[t] // 2
    for k in range(top, bottom):
        for t in range(taps):
            y = min(extend(2 * k + at[t], period_y, periodic), height - 1)
            rows_at[t] = y * width
        weighted_sums(vertical[0], vertical[1], flat, rows_at, weights, False)
        for band in range(2):
            row = vertical[band]
            split(row, phases[0, margin:], phases[1, margin:])
            for x in range(-2 * margin, 0):
                beyond = min(extend(x, period_x, periodic), width - 1)
                phases[x % 2, margin + x // 2] = row[beyond]
            for x in range(width, row_samples):
                beyond = min(extend(x, period_x, periodic), width - 1)
                phases[x % 2, margin + x // 2] = row[beyond]
            first = low[0, k] if band == 0 else details[0, k - top]
            second = details[band + 1, k - top]
            weighted_sums(first, second, phases_flat, columns_at, weights, False)


@kernel
def synthesise(
    low: FloatArray,
    details: FloatArray,
    image: FloatArray,
    low_at: IntArray,
    low_weights: FloatArray,
    high_at: IntArray,
    high_weights: FloatArray,
    periodic: bool,
) -> None:
    """Rebuild ``image`` (1, Y, X) from ``low`` (1, h, w) and ``details`` (3, h, w)."""
    _, height, width = image.shape
    _, h, w = low.shape
    half = (width + 1) // 2
    margin = max(0, -min(low_at.min(), high_at.min()))
    columns = margin + max(w, half + max(low_at.max(), high_at.max()))
    low_flat = low.reshape(-1)
    details_flat = details.reshape(-1)
    rows = np.zeros((2, 2, columns), np.float32)  # low and high along x; the two rows of a pair
    rows_flat = rows.reshape(-1)
    even = np.empty(half, np.float32)
    odd = np.empty(half, np.float32)
    low_rows_at = np.empty(low_at.shape[0], np.int64)
    high_rows_at = np.empty(high_at.shape[0], np.int64)
    for m in range((height + 1) // 2):
        for band in range(2):
            first = rows[0, band, margin : margin + w]
            second = rows[1, band, margin : margin + w]
            for t in range(low_at.shape[0]):
                y = _inside(m + low_at[t], h, periodic)
                low_rows_at[t] = y * w if band == 0 else (h + y) * w
            for t in range(high_at.shape[0]):
                y = _inside(m + high_at[t], h, periodic)
                high_rows_at[t] = y * w if band == 0 else (2 * h + y) * w
            vertical_low = low_flat if band == 0 else details_flat
            weighted_sums(first, second, vertical_low, low_rows_at, low_weights, False)
            weighted_sums(first, second, details_flat, high_rows_at, high_weights, True)
            for row in range(2):
                line = rows[row, band]
                for x in range(-margin, 0):
                    line[margin + x] = line[margin + _inside(x, w, periodic)]
                for x in range(w, columns - margin):
                    line[margin + x] = line[margin + _inside(x, w, periodic)]
        for row in range(min(2, height - 2 * m)):
            base = 2 * row * columns + margin
            weighted_sums(even, odd, rows_flat, base + low_at, low_weights, False)
            weighted_sums(even, odd, rows_flat, base + columns + high_at, high_weights, True)
            interleave(even, odd, image[0, 2 * m + row])


@kernel
def _inside(position: int, length: int, periodic: bool) -> int:
    # In the symmetric mode no tap with a weight lies outside; one that only fills a pair may.
    return position % length if periodic else min(max(position, 0), length - 1)
