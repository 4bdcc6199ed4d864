"""Compiled loops of the dual-tree complex wavelet transform; ``dtcwt`` wraps them.

An image of even size (Y, X) is held as *columns*, (2, Y, X/2): the samples at even and at odd x; or
as *quads*, (4, Y/2, X/2): the samples at even y and even x, at even y and odd x, at odd y and even
x, at odd y and odd x. So the trees lie apart and every loop is contiguous. A level is its low pass
(4, h, w) and its details (3, 4, h, w): the bands high-low, low-high, high-high (along y, then along
x), each as quads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from slidefusion.jit import kernel
from slidefusion.transforms.rows import extend, interleave, split, weighted_sums

__all__ = ["analyse", "split_columns", "synthesise", "to_complex", "to_quads"]

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

SQRT_HALF = np.float32(np.sqrt(0.5))


@kernel
def analyse(
    source: FloatArray,
    low: FloatArray,
    details: FloatArray,
    top: int,
    bottom: int,
    at: IntArray,
    weights: FloatArray,
    parity: IntArray,
    step: int,
) -> None:
    """Make the rows ``top`` to ``bottom`` of the next level of ``source``.

    They are written to the same rows of ``low`` (4, h, w) and to the first rows of ``details``
    (3, 4, rows, w). ``source`` is columns (2, 2h, w) when ``step`` is 2 (level 1) and quads
    (4, 2h, 2w) when it is 4.
    """
    split_y = step // 2  # into how many parts the source is split along y; along x it is two
    _, part_height, part_width = source.shape
    _, h, w = low.shape
    height, width = step * h, step * w
    taps = at.shape[1]
    margin = max(-(at.min() // step), at.max() // step) + 1
    columns = w + 2 * margin
    flat = source.reshape(-1)
    vertical = np.empty((2, part_width), np.float32)
    phases = np.empty((2, step, columns), np.float32)
    rows_at = np.empty(taps, np.int64)
    columns_at = np.empty((2, taps), np.int64)
    for tree in range(2):
        for t in range(taps):
            x = at[tree, t]
            columns_at[tree, t] = (x % step) * columns + margin + x // step
    for k in range(top, bottom):
        for tree_y in range(2):
            for part in range(2):
                for t in range(taps):
                    y = extend(step * k + at[tree_y, t], height, False)
                    plane = 2 * (y % split_y) + part
                    rows_at[t] = (plane * part_height + y // split_y) * part_width
                low_row = phases[0, part, margin : margin + w]
                high_row = phases[1, part, margin : margin + w]
                if step == 2:
                    weighted_sums(low_row, high_row, flat, rows_at, weights[tree_y], False)
                    continue
                weighted_sums(vertical[0], vertical[1], flat, rows_at, weights[tree_y], False)
                split(vertical[0], low_row, phases[0, part + 2, margin : margin + w])
                split(vertical[1], high_row, phases[1, part + 2, margin : margin + w])
            for band in range(2):
                row = phases[band]
                for i in range(step * margin):
                    for x in (-1 - i, width + i):
                        inside = extend(x, width, False)
                        value = row[inside % step, margin + inside // step]
                        row[x % step, margin + x // step] = value
                odd_y = parity[tree_y, band]
                for tree_x in range(2):
                    low_quad = 2 * odd_y + parity[tree_x, 0]
                    high_quad = 2 * odd_y + parity[tree_x, 1]
                    first = low[low_quad, k] if band == 0 else details[0, low_quad, k - top]
                    second = details[band + 1, high_quad, k - top]
                    weighted_sums(
                        first, second, row.reshape(-1), columns_at[tree_x], weights[tree_x], False
                    )


@kernel
def split_columns(image: npt.NDArray[Any], columns: FloatArray) -> None:
    """Write ``image`` (Y, X) as ``columns`` (2, Y, X/2)."""
    _, height, half = columns.shape
    for y in range(height):
        row = image[y]
        even, odd = columns[0, y], columns[1, y]
        for x in range(half):
            even[x] = row[2 * x]
            odd[x] = row[2 * x + 1]


@kernel
def synthesise(
    low: FloatArray,
    details: FloatArray,
    image: FloatArray,
    low_at: IntArray,
    low_weights: FloatArray,
    high_at: IntArray,
    high_weights: FloatArray,
) -> None:
    """Rebuild ``image`` from ``low`` (4, h, w) and ``details`` (3, 4, h, w).

    ``image`` is (1, 2h, 2w) with the filters of level 1 and quads (4, 2h, 2w) with those above.
    """
    pairs = low_at.shape[0]
    _, h, w = low.shape
    lowest = min(low_at.min(), high_at.min())
    highest = max(low_at.max(), high_at.max())
    margin = max(-(lowest // 2), highest // 2) + 1
    columns = w + 2 * margin
    low_flat = low.reshape(-1)
    details_flat = details.reshape(-1)
    # The two rows of a pair, each low and high along x, each split into even and odd samples.
    rows = np.empty((2, 2, 2, columns), np.float32)
    rows_flat = rows.reshape(-1)
    first = np.empty(w, np.float32)
    second = np.empty(w, np.float32)
    low_rows_at = np.empty(low_at.shape[1], np.int64)
    high_rows_at = np.empty(high_at.shape[1], np.int64)
    low_columns_at = (low_at % 2) * columns + margin + low_at // 2
    high_columns_at = (high_at % 2 + 2) * columns + margin + high_at // 2
    for k in range(h):
        for pair_y in range(pairs):
            for band in range(2):
                for odd_x in range(2):
                    for t in range(low_at.shape[1]):
                        y = extend(2 * k + low_at[pair_y, t], 2 * h, False)
                        plane = 2 * (y % 2) + odd_x + (0 if band == 0 else 4)
                        low_rows_at[t] = (plane * h + y // 2) * w
                    for t in range(high_at.shape[1]):
                        y = extend(2 * k + high_at[pair_y, t], 2 * h, False)
                        plane = 2 * (y % 2) + odd_x + (0 if band == 0 else 8)
                        high_rows_at[t] = (plane * h + y // 2) * w
                    upper = rows[0, band, odd_x, margin : margin + w]
                    lower = rows[1, band, odd_x, margin : margin + w]
                    weighted_sums(
                        upper,
                        lower,
                        low_flat if band == 0 else details_flat,
                        low_rows_at,
                        low_weights[pair_y],
                        False,
                    )
                    weighted_sums(
                        upper, lower, details_flat, high_rows_at, high_weights[pair_y], True
                    )
                for row in range(2):
                    for i in range(2 * margin):
                        for x in (-1 - i, 2 * w + i):
                            inside = extend(x, 2 * w, False)
                            value = rows[row, band, inside % 2, margin + inside // 2]
                            rows[row, band, x % 2, margin + x // 2] = value
            for row in range(2):
                base = 4 * row * columns
                for pair_x in range(pairs):
                    at = base + low_columns_at[pair_x]
                    weighted_sums(first, second, rows_flat, at, low_weights[pair_x], False)
                    at = base + high_columns_at[pair_x]
                    weighted_sums(first, second, rows_flat, at, high_weights[pair_x], True)
                    interleave(first, second, image[pair_y * pairs + pair_x, 2 * k + row])


@kernel
def to_complex(quads: FloatArray, first: FloatArray, second: FloatArray) -> None:
    """Make of one band's ``quads`` (4, h, w) its two complex sub-bands.

    ``first`` and ``second`` (h, w, 2) hold real and imaginary part. With the quad a b / c d they
    are (a - d + i(b + c)) / sqrt 2 and (a + d + i(b - c)) / sqrt 2.
    """
    _, h, w = quads.shape
    for y in range(h):
        for x in range(w):
            a, b, c, d = quads[0, y, x], quads[1, y, x], quads[2, y, x], quads[3, y, x]
            first[y, x, 0] = (a - d) * SQRT_HALF
            first[y, x, 1] = (b + c) * SQRT_HALF
            second[y, x, 0] = (a + d) * SQRT_HALF
            second[y, x, 1] = (b - c) * SQRT_HALF


@kernel
def to_quads(first: FloatArray, second: FloatArray, quads: FloatArray) -> None:
    """Undo :func:`to_complex`."""
    _, h, w = quads.shape
    for y in range(h):
        for x in range(w):
            quads[0, y, x] = (second[y, x, 0] + first[y, x, 0]) * SQRT_HALF
            quads[1, y, x] = (first[y, x, 1] + second[y, x, 1]) * SQRT_HALF
            quads[2, y, x] = (first[y, x, 1] - second[y, x, 1]) * SQRT_HALF
            quads[3, y, x] = (second[y, x, 0] - first[y, x, 0]) * SQRT_HALF
