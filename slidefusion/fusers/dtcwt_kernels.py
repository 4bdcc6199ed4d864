"""Compiled loop of the `dtcwt` fuser: planes into the sums of one level."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from slidefusion.fusers.selection import Rule
from slidefusion.fusers.subband_kernels import (
    LevelSums,
    add_row,
    energy_row,
    rows_for,
    weigh_newest,
)
from slidefusion.jit import kernel
from slidefusion.transforms.dtcwt_kernels import analyse

__all__ = ["add_planes"]

FloatArray = npt.NDArray[np.float32]

ZERO = np.float32(0)
HALF = np.float32(1 / 2)


@kernel
def add_planes(
    source: FloatArray,
    low: FloatArray,
    z: int,
    last: bool,
    scale: np.float32,
    energy: bool,
    rule: Rule,
    vote: int,
    at: npt.NDArray[np.int64],
    weights: FloatArray,
    parity: npt.NDArray[np.int64],
    step: int,
    sums: LevelSums,
) -> None:
    """Add the planes from ``z`` on to the ``sums`` of one level; the ``last`` make them means.

    ``source`` is the planes as columns (P, C, 2, Y, X/2), or their low pass one level finer as
    quads (P, C, 4, Y, X); the low pass of this level is written to ``low`` (P, C, 4, y, x). ``at``
    to ``step`` are the filters of the level.
    """
    planes, channels, _, height, width = low.shape
    radius = rule.window.shape[0] // 2
    held = radius + vote + 1
    details = np.empty((held, planes, channels, 12, width), np.float32)
    rows = rows_for(planes, width, rule.window.shape[0], vote)
    for newest in range(height + radius + vote):
        if newest < height:
            for p in range(planes):
                new = details[newest % held, p]
                for c in range(channels):
                    into = new[c].reshape(3, 4, 1, width)
                    analyse(
                        source[p, c], low[p, c], into, newest, newest + 1, at, weights, parity, step
                    )
                measured = rows.measured[p, newest % rule.window.shape[0]]
                if energy:
                    energy_row(new, scale, measured)
                else:
                    modulus_row(new, scale, measured)
        i = weigh_newest(newest, height, z, last, rule, vote, rows, sums)
        if i >= 0:
            add_row(details[i % held], i, rows, sums.details)
            if sums.low.shape[2] > 0:
                add_row(low[:, :, :, i], i, rows, sums.low)


@kernel
def modulus_row(details: FloatArray, scale: np.float32, row: FloatArray) -> None:
    """``scale`` times the sum of the moduli of the complex sub-bands of ``details`` (C, 12, X).

    The 12 planes are three bands of quads a b / c d; each quad is two complex coefficients.
    """
    channels, planes, width = details.shape
    row[:] = ZERO
    for c in range(channels):
        for band in range(0, planes, 4):
            a, b = details[c, band], details[c, band + 1]
            c_, d = details[c, band + 2], details[c, band + 3]
            for x in range(width):
                real1, imag1 = a[x] - d[x], b[x] + c_[x]
                real2, imag2 = a[x] + d[x], b[x] - c_[x]
                row[x] += np.sqrt(HALF * (real1 * real1 + imag1 * imag1)) + np.sqrt(
                    HALF * (real2 * real2 + imag2 * imag2)
                )
    for x in range(width):
        row[x] *= scale
