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
from slidefusion.transforms.jit import kernel

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


class LevelSums(NamedTuple):
    """What is carried from plane to plane for one level; all start as zeros."""

    details: FloatArray
    """(C, B, y, x) weighted sum of the detail coefficients."""
    low: FloatArray
    """(C, Q, y, x) weighted sum of the low pass below the coarsest level, or (C, Q, 0, 0)."""
    best: FloatArray
    """(y, x) highest activity so far."""
    total: FloatArray
    """(y, x) sum of the weights."""
    plane: npt.NDArray[Any]
    """(y, x) plane that each coefficient was mostly taken from."""


class Rows(NamedTuple):
    """Rows of x coefficients that are held while a level is weighed; row i lies at i % length."""

    measured: FloatArray
    """(window, x) activity of single coefficients."""
    smoothed: FloatArray
    """(x) activity averaged over the window."""
    wins: FloatArray
    """(vote window, x) 1 where the plane is the most active so far, else 0."""
    column: FloatArray
    """(x + window - 1) scratch."""
    keep: FloatArray
    """(x) share of the sums that is kept."""
    gain: FloatArray
    """(x) weight of the new plane."""


@kernel
def rows_for(width: int, window: int, vote: int) -> Rows:
    """Scratch for rows of ``width`` coefficients, ``window`` taps and a vote of radius ``vote``."""
    return Rows(
        np.empty((window, width), np.float32),
        np.empty(width, np.float32),
        np.empty((2 * vote + 1, width), np.float32),
        np.empty(width + max(window, 2 * vote + 1) - 1, np.float32),
        np.empty(width, np.float32),
        np.empty(width, np.float32),
    )


@kernel
def weigh_newest(
    newest: int, height: int, z: int, rule: Rule, vote: int, rows: Rows, sums: LevelSums
) -> int:
    """Weigh the row of ``height`` that can be weighed once row ``newest`` has been measured.

    Returns that row, whose ``rows.keep`` and ``rows.gain`` are written, or -1 when there is none
    yet. Call it with ``newest`` up to ``height - 1 + window radius + vote``. With a hard rule a
    plane takes a coefficient over when it is the most active so far at more than half of the
    (2 ``vote`` + 1) squared coefficients around it, and activities below the floor are equal.
    What the vote overrules does not change who is the most active, or else a decision would
    spread by ``vote`` coefficients with every plane.
    """
    i: int = newest - rule.window.shape[0] // 2
    if i < 0:
        return -1
    if rule.doublings >= 0:
        smooth_row(rows.measured, i, height, rule.window, rows.column, rows.smoothed)
        weigh_row(
            rows.smoothed, rule, z, sums.best[i], sums.total[i], sums.plane[i], rows.keep, rows.gain
        )
        return i
    if i < height:
        smooth_row(rows.measured, i, height, rule.window, rows.column, rows.smoothed)
        best = sums.best[i]
        wins = rows.wins[i % rows.wins.shape[0]]
        for x in range(best.shape[0]):
            activity = max(rows.smoothed[x], rule.floor)
            wins[x] = ONE if activity > best[x] else ZERO
            best[x] = max(activity, best[x])
    i -= vote
    if i < 0:
        return -1
    count_row(rows.wins, i, height, rows.column, rows.gain)
    half = np.float32((2 * vote + 1) ** 2 // 2)
    plane = sums.plane[i]
    for x in range(plane.shape[0]):
        taken = rows.gain[x] > half
        rows.gain[x] = ONE if taken else ZERO
        rows.keep[x] = ZERO if taken else ONE
        plane[x] = z if taken else plane[x]
    return i


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
    """``sums = sums * keep + gain * values`` for row ``i`` of ``sums`` (C, B, y, x)."""
    channels, bands, width = values.shape
    for c in range(channels):
        for b in range(bands):
            new = values[c, b]
            row = sums[c, b, i]
            for x in range(width):
                row[x] = row[x] * rows.keep[x] + rows.gain[x] * new[x]
