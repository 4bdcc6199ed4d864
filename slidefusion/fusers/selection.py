"""Which plane to take at each sample: activities in, weights out; shared by transform fusers.

An activity map (Y, X) float32 says how much detail a plane has around each sample, for all colour
channels at once, so that no channel is taken from another plane than the others. Planes come one
at a time: the running weighted sum of any coefficient is ``sum = sum * keep + gain * coefficient``
and is divided by ``total`` in the end. ``keep`` and ``gain`` lie within [0, 1], which is the
streaming form of a soft-max and neither overflows nor underflows (Milakov & Gimelshein 2018,
arXiv:1805.02867).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from slidefusion.transforms.jit import kernel

__all__ = ["pool", "smooth", "weigh"]

FloatArray = npt.NDArray[np.float32]

ZERO = np.float32(0)
ONE = np.float32(1)
TWO = np.float32(2)
QUARTER = np.float32(1 / 4)


@kernel
def smooth(activity: FloatArray, passes: int) -> None:
    """Smooth ``activity`` (Y, X) with [1 2 1]/4 both ways, ``passes`` times, in place.

    The reach is ``passes`` samples. Beyond the border the border sample is repeated.
    """
    height, width = activity.shape
    above = np.empty(width, np.float32)
    column = np.empty(width + 2, np.float32)
    for _ in range(passes):
        above[:] = activity[0]
        for i in range(height):
            row = activity[i]
            below = activity[min(i + 1, height - 1)]
            for x in range(width):
                value = row[x]
                column[x + 1] = QUARTER * ((above[x] + below[x]) + TWO * value)
                above[x] = value
            column[0] = column[1]
            column[width + 1] = column[width]
            for x in range(width):
                row[x] = QUARTER * ((column[x] + column[x + 2]) + TWO * column[x + 1])


@kernel
def pool(fine: FloatArray, coarse: FloatArray, factor: np.float32) -> None:
    """Add ``factor`` times the 2 x 2 means of ``fine`` (2Y, 2X) to ``coarse`` (Y, X)."""
    height, width = coarse.shape
    scale = factor * QUARTER
    for i in range(height):
        top = fine[2 * i]
        bottom = fine[2 * i + 1]
        row = coarse[i]
        for x in range(width):
            row[x] += scale * ((top[2 * x] + top[2 * x + 1]) + (bottom[2 * x] + bottom[2 * x + 1]))


@kernel
def weigh(
    activity: FloatArray,
    floor: np.float32,
    doublings: int,
    z: int,
    best: FloatArray,
    total: FloatArray,
    index: npt.NDArray[Any],
    keep: FloatArray,
    gain: FloatArray,
) -> None:
    """Weigh plane ``z`` by its ``activity`` against the planes before it; all arrays (Y, X).

    The weight of a plane is ``(activity + floor) ** (2 ** doublings)`` up to a factor common to
    all planes; with ``doublings < 0`` the most active plane alone counts, the first of equals.
    ``best``, ``total`` and ``index`` (of the most active plane so far) carry over from plane to
    plane and start as zeros; ``keep`` and ``gain`` are written.
    """
    height, width = activity.shape
    for i in range(height):
        new = activity[i]
        old = best[i]
        keep_row = keep[i]
        gain_row = gain[i]
        total_row = total[i]
        index_row = index[i]
        for x in range(width):
            a = new[x] + floor
            b = old[x]
            wins = a > b
            ratio = ZERO if doublings < 0 else min(a, b) / max(a, b)
            for _ in range(doublings):
                ratio = ratio * ratio
            kept = ratio if wins else ONE
            gained = ONE if wins else ratio
            keep_row[x] = kept
            gain_row[x] = gained
            total_row[x] = total_row[x] * kept + gained
            old[x] = max(a, b)
            if wins:
                index_row[x] = z
