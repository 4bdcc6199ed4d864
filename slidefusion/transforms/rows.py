"""Compiled row primitives of the separable transforms.

A filter, vertical or horizontal, decimating or interpolating, is written as one thing: a row that
is a weighted sum of rows which lie somewhere in one flat buffer. Two such rows are made together
from the same sources (low and high pass, or an even and an odd sample), because reading is what
costs. The inner loops run over contiguous memory and vectorise; each sample is summed in the same
order wherever it lies, so results do not depend on where a window begins.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from slidefusion.jit import kernel

__all__ = ["extend", "interleave", "split", "weighted_sums"]

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


@kernel
def extend(index: int, length: int, periodic: bool) -> int:
    """The sample of 0 … ``length`` - 1 that stands at ``index`` beyond the border.

    Half-sample symmetric (… 1 0 | 0 1 …), or periodic. Any distance beyond the border is allowed.
    """
    if 0 <= index < length:
        return index
    if periodic:
        return index % length
    index = index % (2 * length)
    return index if index < length else 2 * length - 1 - index


@kernel
def _four(
    first: FloatArray,
    second: FloatArray,
    flat: FloatArray,
    at: IntArray,
    taps: FloatArray,
    t: int,
    add: bool,
) -> None:
    n = first.shape[0]
    s0 = flat[at[t] : at[t] + n]
    s1 = flat[at[t + 1] : at[t + 1] + n]
    s2 = flat[at[t + 2] : at[t + 2] + n]
    s3 = flat[at[t + 3] : at[t + 3] + n]
    a0, a1, a2, a3 = taps[0, t], taps[0, t + 1], taps[0, t + 2], taps[0, t + 3]
    b0, b1, b2, b3 = taps[1, t], taps[1, t + 1], taps[1, t + 2], taps[1, t + 3]
    if not add:
        for x in range(n):
            first[x] = (a0 * s0[x] + a1 * s1[x]) + (a2 * s2[x] + a3 * s3[x])
            second[x] = (b0 * s0[x] + b1 * s1[x]) + (b2 * s2[x] + b3 * s3[x])
    else:
        for x in range(n):
            first[x] += (a0 * s0[x] + a1 * s1[x]) + (a2 * s2[x] + a3 * s3[x])
            second[x] += (b0 * s0[x] + b1 * s1[x]) + (b2 * s2[x] + b3 * s3[x])


@kernel
def _two(
    first: FloatArray,
    second: FloatArray,
    flat: FloatArray,
    at: IntArray,
    taps: FloatArray,
    t: int,
    add: bool,
) -> None:
    n = first.shape[0]
    s0 = flat[at[t] : at[t] + n]
    s1 = flat[at[t + 1] : at[t + 1] + n]
    a0, a1 = taps[0, t], taps[0, t + 1]
    b0, b1 = taps[1, t], taps[1, t + 1]
    if not add:
        for x in range(n):
            first[x] = a0 * s0[x] + a1 * s1[x]
            second[x] = b0 * s0[x] + b1 * s1[x]
    else:
        for x in range(n):
            first[x] += a0 * s0[x] + a1 * s1[x]
            second[x] += b0 * s0[x] + b1 * s1[x]


@kernel
def weighted_sums(
    first: FloatArray,
    second: FloatArray,
    flat: FloatArray,
    at: IntArray,
    taps: FloatArray,
    add: bool,
) -> None:
    """Write two rows (X), each the sum over t of ``taps[row, t] * flat[at[t] : at[t] + X]``.

    With ``add`` the sums are added to what the rows hold. ``taps`` is (2, T) with T even; neither
    row may lie within the part of ``flat`` that is read.
    """
    count = at.shape[0]
    t = 0
    while t + 4 <= count:
        _four(first, second, flat, at, taps, t, add or t > 0)
        t += 4
    if t < count:
        _two(first, second, flat, at, taps, t, add or t > 0)


@kernel
def split(row: FloatArray, even: FloatArray, odd: FloatArray) -> None:
    """Copy the samples 0, 2, 4 … of ``row`` (X) to ``even`` and 1, 3, 5 … to ``odd``."""
    n = row.shape[0] // 2
    for i in range(n):
        even[i] = row[2 * i]
        odd[i] = row[2 * i + 1]
    if row.shape[0] % 2:
        even[n] = row[2 * n]


@kernel
def interleave(even: FloatArray, odd: FloatArray, row: FloatArray) -> None:
    """Undo :func:`split`: fill ``row`` (X) from ``even`` and ``odd`` in turn."""
    n = row.shape[0] // 2
    for i in range(n):
        row[2 * i] = even[i]
        row[2 * i + 1] = odd[i]
    if row.shape[0] % 2:
        row[2 * n] = even[n]
