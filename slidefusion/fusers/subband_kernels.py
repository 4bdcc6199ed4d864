"""Compiled loops shared by the wavelet fusers: weights of a row of a level, and adding it.

A level of any wavelet transform is seen as B real detail planes of (y, x) coefficients. They are
made a row at a time, weighed as soon as the rows that the window and the vote need are there, and
added to the sums, all while they are in the cache.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from slidefusion.fusers.selection import Rule, smooth_row, weigh_row
from slidefusion.jit import kernel

__all__ = [
    "LevelSums",
    "Rows",
    "add_row",
    "energy_row",
    "magnitude_row",
    "rows_for",
    "weigh_newest",
]

FloatArray = npt.NDArray[np.float32]

ZERO = np.float32(0)
ONE = np.float32(1)

PAIR = 2
"""Most planes that are added at a time."""


class LevelSums(NamedTuple):
    """What is carried from plane to plane for one level; all start as zeros."""

    details: FloatArray
    """(C, B, y, x) weighted sum of the detail coefficients."""
    low: FloatArray
    """(C, Q, y, x) weighted sum of the low pass below the coarsest level, or (C, Q, 0, 0)."""
    best: FloatArray
    """(y, x) highest activity so far."""
    total: FloatArray
    """(y, x) sum of the weights, by which all is divided with the last plane."""
    plane: npt.NDArray[Any]
    """(y, x) plane that each coefficient was mostly taken from."""


class Rows(NamedTuple):
    """Rows of x coefficients that are held while P planes are weighed; row i is at i % length."""

    measured: FloatArray
    """(P, window, x) activity of single coefficients."""
    smoothed: FloatArray
    """(x) activity averaged over the window."""
    wins: FloatArray
    """(P, vote window, x) 1 where the plane is the most active so far, else 0."""
    column: FloatArray
    """(x + window - 1) scratch."""
    keep: FloatArray
    """(P, x) share of the sums that is kept when plane p is added."""
    gain: FloatArray
    """(P, x) weight of plane p."""


@kernel
def rows_for(planes: int, width: int, window: int, vote: int) -> Rows:
    """Scratch for rows of ``width`` coefficients, ``window`` taps and a vote of radius ``vote``."""
    return Rows(
        np.empty((planes, window, width), np.float32),
        np.empty(width, np.float32),
        np.empty((planes, 2 * vote + 1, width), np.float32),
        np.empty(width + max(window, 2 * vote + 1) - 1, np.float32),
        np.empty((planes, width), np.float32),
        np.empty((planes, width), np.float32),
    )


@kernel
def weigh_newest(
    newest: int, height: int, z: int, last: bool, rule: Rule, vote: int, rows: Rows, sums: LevelSums
) -> int:
    """Weigh the row of ``height`` that can be weighed once row ``newest`` has been measured.

    The planes are those from ``z`` on, as many as ``rows`` is for. Returns the row that was
    weighed, whose ``rows.keep`` and ``rows.gain`` are written, or -1 when there is none yet; call
    it with ``newest`` up to ``height - 1 + window radius + vote``. With the ``last`` planes the
    sums become means.

    With a hard rule a plane takes a coefficient over when it is the most active so far at more
    than half of the (2 ``vote`` + 1) squared coefficients around it, and activities below the
    floor are equal. What the vote overrules does not change who is the most active, or else a
    decision would spread by ``vote`` coefficients with every plane.
    """
    i: int = newest - rule.window.shape[0] // 2
    if i < 0:
        return -1
    planes, width = rows.keep.shape
    for p in range(planes):
        if i < height:
            smooth_row(rows.measured[p], i, height, rule.window, rows.column, rows.smoothed)
        if rule.doublings >= 0:
            best, total, plane = sums.best[i], sums.total[i], sums.plane[i]
            weigh_row(rows.smoothed, rule, z + p, best, total, plane, rows.keep[p], rows.gain[p])
            if last and p == planes - 1:
                for x in range(width):
                    share = ONE / total[x]
                    rows.keep[p, x] *= share
                    rows.gain[p, x] *= share
            continue
        if i < height:
            best = sums.best[i]
            wins = rows.wins[p, i % rows.wins.shape[1]]
            for x in range(width):
                activity = max(rows.smoothed[x], rule.floor)
                wins[x] = ONE if activity > best[x] else ZERO
                best[x] = max(activity, best[x])
        if i >= vote:
            elect(rows.wins[p], i - vote, height, z + p, rows, p, sums.plane[i - vote])
    return i if rule.doublings >= 0 else max(i - vote, -1)


@kernel
def elect(
    wins: FloatArray, i: int, height: int, z: int, rows: Rows, p: int, plane: npt.NDArray[Any]
) -> None:
    """Let the wins around row ``i`` decide where plane ``z``, the p-th of ``rows``, takes over."""
    keep, gain = rows.keep[p], rows.gain[p]
    count_row(wins, i, height, rows.column, gain)
    half = np.float32(wins.shape[0] ** 2 // 2)
    for x in range(gain.shape[0]):
        taken = gain[x] > half
        gain[x] = ONE if taken else ZERO
        keep[x] = ZERO if taken else ONE
        plane[x] = z if taken else plane[x]


@kernel
def count_row(wins: FloatArray, i: int, height: int, column: FloatArray, out: FloatArray) -> None:
    """Sum the square window around row ``i`` of the ring ``wins`` (n, X), the border repeated."""
    taps = wins.shape[0]
    radius = taps // 2
    width = out.shape[0]
    middle = column[radius : radius + width]
    middle[:] = ZERO
    for k in range(i - radius, i + radius + 1):
        row = wins[min(max(k, 0), height - 1) % taps]
        for x in range(width):
            middle[x] += row[x]
    column[:radius] = middle[0]
    column[radius + width : 2 * radius + width] = middle[width - 1]
    out[:] = ZERO
    for k in range(taps):
        shifted = column[k : k + width]
        for x in range(width):
            out[x] += shifted[x]


@kernel
def energy_row(details: FloatArray, scale: np.float32, row: FloatArray) -> None:
    """Root of ``scale`` squared times the sum of the squares of ``details`` (C, B, X)."""
    channels, bands, width = details.shape
    row[:] = ZERO
    for c in range(channels):
        for b in range(bands):
            values = details[c, b]
            for x in range(width):
                row[x] += values[x] * values[x]
    for x in range(width):
        row[x] = scale * np.sqrt(row[x])


@kernel
def magnitude_row(details: FloatArray, scale: np.float32, row: FloatArray) -> None:
    """``scale`` times the sum of the magnitudes of ``details`` (C, B, X)."""
    channels, bands, width = details.shape
    row[:] = ZERO
    for c in range(channels):
        for b in range(bands):
            values = details[c, b]
            for x in range(width):
                row[x] += abs(values[x])
    for x in range(width):
        row[x] *= scale


@kernel
def add_row(values: FloatArray, i: int, rows: Rows, sums: FloatArray) -> None:
    """Add ``values`` (P, C, B, x) to row ``i`` of ``sums`` (C, B, y, x), plane by plane.

    Each step is ``sums = sums * keep + gain * values``. Two planes at a time halve the traffic of
    the sums, which are larger than the caches.
    """
    planes, channels, bands, width = values.shape
    keep, gain = rows.keep[0], rows.gain[0]
    keep2, gain2 = rows.keep[planes - 1], rows.gain[planes - 1]
    for c in range(channels):
        for b in range(bands):
            row = sums[c, b, i]
            new = values[0, c, b]
            new2 = values[planes - 1, c, b]
            if planes == 1:
                for x in range(width):
                    row[x] = row[x] * keep[x] + gain[x] * new[x]
            else:
                for x in range(width):
                    one = row[x] * keep[x] + gain[x] * new[x]
                    row[x] = one * keep2[x] + gain2[x] * new2[x]
