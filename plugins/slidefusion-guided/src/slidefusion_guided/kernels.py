"""The loops of guided-filter fusion, in numba.

A running sum of floats depends on where it began, so a pixel would depend on how the slide was
cut. All window sums here are therefore sums of integers, which are exact in any order: luminance
and choice are integers already, and the fitted models are rounded to 2**-20. Windows are clipped
at the border and divided by what is left of them.

Arrays are (Y, X). Column sums slide down, row sums slide right, so the time does not depend on the
radius.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = ["accumulate", "choose", "fit", "integer_gaussian", "laplacian", "note_depth", "refine"]

IntMap = npt.NDArray[np.int32]
FloatMap = npt.NDArray[np.float32]
Choice = npt.NDArray[np.uint16]

LUMA_RANGE = 65535.0
MODEL_STEPS = float(2**20)
TAPS_SUM = 2**10
# The weight of the chosen plane where the filter gives it none, so that weights never sum to zero.
LEAST_WEIGHT = np.float32(1e-3)
# Beyond this many steps a float would overflow the sum of a window of 127 x 127.
MOST_STEPS = float(2**44)


def integer_gaussian(radius: int, sigma: float) -> IntMap:
    """Gaussian taps (2 radius + 1,) rounded to integers that sum to ``TAPS_SUM``."""
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    rounded: IntMap = np.rint(taps * (TAPS_SUM / taps.sum())).astype(np.int32)
    rounded[radius] += TAPS_SUM - rounded.sum()
    return rounded


@njit(nogil=True, cache=True)
def laplacian(luma: IntMap, out: IntMap) -> None:
    """Magnitude of the 3 x 3 Laplacian, with the border repeated (eq. 4)."""
    height, width = luma.shape
    for y in range(height):
        above, below = luma[max(y - 1, 0)], luma[min(y + 1, height - 1)]
        row = luma[y]
        for x in range(width):
            left, right = row[max(x - 1, 0)], row[min(x + 1, width - 1)]
            out[y, x] = abs(above[x] + below[x] + left + right - 4 * row[x])


@njit(nogil=True, cache=True)
def choose(edges: IntMap, taps: IntMap, z: int, largest: IntMap, chosen: Choice) -> None:
    """Average ``edges`` with ``taps`` both ways (eq. 5) and note where plane ``z`` is the largest.

    The border is repeated. Edges below 2**18 with taps summing to 2**10 stay below 2**28; eight
    bits fewer leave room for the second pass in int32. Equals go to the earlier plane.
    """
    height, width = edges.shape
    radius = len(taps) // 2
    column = np.empty(width + 2 * radius, np.int32)
    total = np.empty(width, np.int32)
    for y in range(height):
        column[:] = 0
        for t in range(len(taps)):
            row = edges[min(max(y + t - radius, 0), height - 1)]
            tap = taps[t]
            for x in range(width):
                column[x + radius] += tap * row[x]
        for x in range(width):
            column[x + radius] >>= 8
        column[:radius] = column[radius]
        column[width + radius :] = column[width + radius - 1]
        total[:] = 0
        for t in range(len(taps)):
            tap = taps[t]
            for x in range(width):
                total[x] += tap * column[x + t]
        for x in range(width):
            if total[x] > largest[y, x]:
                largest[y, x] = total[x]
                chosen[y, x] = z


@njit(nogil=True, cache=True)
def fit(
    luma: IntMap, chosen: Choice, z: int, radius: int, eps: float, slope: IntMap, offset: IntMap
) -> None:
    """Fit ``chosen == z`` as slope * luminance + offset in the window around every pixel.

    Guided filter, eqs 2 and 3 of the paper, with luminance in [0, 1]; both results are in steps of
    2**-20. With 127 x 127 px and 16 bits the largest product is below 2**60.
    """
    height, width = luma.shape
    sums = np.zeros((4, width), np.int64)  # of I, I², P and I P down each column
    for y in range(-radius, height):
        bottom, top = y + radius, y - radius - 1
        if bottom < height:
            for x in range(width):
                i = np.int64(luma[bottom, x])
                p = np.int64(chosen[bottom, x] == z)
                sums[0, x] += i
                sums[1, x] += i * i
                sums[2, x] += p
                sums[3, x] += i * p
        if top >= 0:
            for x in range(width):
                i = np.int64(luma[top, x])
                p = np.int64(chosen[top, x] == z)
                sums[0, x] -= i
                sums[1, x] -= i * i
                sums[2, x] -= p
                sums[3, x] -= i * p
        if y < 0:
            continue
        rows = min(bottom, height - 1) - max(top, -1)
        s_i, s_ii, s_p, s_ip = np.int64(0), np.int64(0), np.int64(0), np.int64(0)
        for x in range(-radius, width):
            right, left = x + radius, x - radius - 1
            if right < width:
                s_i += sums[0, right]
                s_ii += sums[1, right]
                s_p += sums[2, right]
                s_ip += sums[3, right]
            if left >= 0:
                s_i -= sums[0, left]
                s_ii -= sums[1, left]
                s_p -= sums[2, left]
                s_ip -= sums[3, left]
            if x < 0:
                continue
            n = np.int64(rows * (min(right, width - 1) - max(left, -1)))
            if s_p == 0 or s_p == n:  # chosen nowhere, or everywhere: a constant
                slope[y, x] = 0
                offset[y, x] = 0 if s_p == 0 else np.int32(MODEL_STEPS)
                continue
            # covariance / (variance + eps), both times (n LUMA_RANGE)²: divisions are what costs.
            count = float(n)
            covariance = float(n * s_ip - s_i * s_p) * LUMA_RANGE
            variance = float(n * s_ii - s_i * s_i)
            a = covariance / (variance + eps * (count * LUMA_RANGE) ** 2)
            b = (float(s_p) - a * (float(s_i) * (1 / LUMA_RANGE))) / count
            slope[y, x] = np.int32(np.rint(a * MODEL_STEPS))
            offset[y, x] = np.int32(np.rint(b * MODEL_STEPS))


@njit(nogil=True, cache=True)
def refine(
    luma: IntMap,
    chosen: Choice,
    z: int,
    radius: int,
    slope: IntMap,
    offset: IntMap,
    weight: FloatMap,
    weight_sum: FloatMap,
) -> None:
    """Write the refined weight of plane ``z``, and add it to ``weight_sum``.

    It is the mean model of the windows around a pixel, applied to its luminance (eqs 8 and 9),
    not below zero, nor below ``LEAST_WEIGHT`` where the plane was chosen.
    """
    height, width = luma.shape
    sums = np.zeros((2, width), np.int64)
    for y in range(-radius, height):
        bottom, top = y + radius, y - radius - 1
        if bottom < height:
            for x in range(width):
                sums[0, x] += slope[bottom, x]
                sums[1, x] += offset[bottom, x]
        if top >= 0:
            for x in range(width):
                sums[0, x] -= slope[top, x]
                sums[1, x] -= offset[top, x]
        if y < 0:
            continue
        rows = min(bottom, height - 1) - max(top, -1)
        s_a, s_b = np.int64(0), np.int64(0)
        for x in range(-radius, width):
            right, left = x + radius, x - radius - 1
            if right < width:
                s_a += sums[0, right]
                s_b += sums[1, right]
            if left >= 0:
                s_a -= sums[0, left]
                s_b -= sums[1, left]
            if x < 0:
                continue
            count = rows * (min(right, width - 1) - max(left, -1))
            model = float(s_a) * (luma[y, x] * (1 / LUMA_RANGE)) + float(s_b)
            w = np.float32(model / (count * MODEL_STEPS))
            w = max(w, LEAST_WEIGHT if chosen[y, x] == z else np.float32(0))
            weight[y, x] = w
            weight_sum[y, x] += w


@njit(nogil=True, cache=True)
def note_depth(weight: FloatMap, z: int, best: FloatMap, depth: Choice) -> None:
    """Note plane ``z`` in ``depth`` where its ``weight`` is larger than the ``best`` so far."""
    height, width = weight.shape
    for y in range(height):
        for x in range(width):
            if weight[y, x] > best[y, x]:
                best[y, x] = weight[y, x]
                depth[y, x] = z


@njit(nogil=True, cache=True)
def _in_steps(value: np.float32, steps: float) -> np.int64:
    """``value`` in integer steps, clipped to what a window can sum."""
    return np.int64(min(max(np.rint(value * steps), -MOST_STEPS), MOST_STEPS))


@njit(nogil=True, cache=True)
def accumulate(
    values: FloatMap,
    radius: int,
    steps: float,
    base_weight: FloatMap,
    detail_weight: FloatMap,
    base_sum: FloatMap,
    detail_sum: FloatMap,
) -> None:
    """Split ``values`` into box mean and rest, and add both with their weights (eqs 1, 2, 10)."""
    height, width = values.shape
    sums = np.zeros(width, np.int64)
    for y in range(-radius, height):
        bottom, top = y + radius, y - radius - 1
        if bottom < height:
            for x in range(width):
                sums[x] += _in_steps(values[bottom, x], steps)
        if top >= 0:
            for x in range(width):
                sums[x] -= _in_steps(values[top, x], steps)
        if y < 0:
            continue
        rows = min(bottom, height - 1) - max(top, -1)
        total = np.int64(0)
        for x in range(-radius, width):
            right, left = x + radius, x - radius - 1
            if right < width:
                total += sums[right]
            if left >= 0:
                total -= sums[left]
            if x < 0:
                continue
            count = rows * (min(right, width - 1) - max(left, -1))
            base = np.float32(float(total) / (count * steps))
            base_sum[y, x] += base_weight[y, x] * base
            detail_sum[y, x] += detail_weight[y, x] * (values[y, x] - base)
