"""Compiled loop of the `wt` fuser: planes into the sums of one level."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from slidefusion.fusers.selection import Rule
from slidefusion.fusers.subband_kernels import (
    LevelSums,
    add_row,
    energy_row,
    magnitude_row,
    rows_for,
    weigh_newest,
)
from slidefusion.jit import kernel
from slidefusion.transforms.dwt_kernels import analyse

__all__ = ["add_planes"]

FloatArray = npt.NDArray[np.float32]


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
    sums: LevelSums,
) -> None:
    """Add the planes from ``z`` on to the ``sums`` of one level; the ``last`` make them means.

    ``source`` (P, C, 1, Y, X) is the planes or their low pass one level finer; the low pass of
    this level is written to ``low`` (P, C, 1, y, x). ``at`` and ``weights`` are the analysis taps.
    """
    planes, channels, _, height, width = low.shape
    radius = rule.window.shape[0] // 2
    held = radius + vote + 1
    details = np.empty((held, planes, channels, 3, width), np.float32)
    rows = rows_for(planes, width, rule.window.shape[0], vote)
    for newest in range(height + radius + vote):
        if newest < height:
            for p in range(planes):
                new = details[newest % held, p]
                for c in range(channels):
                    into = new[c].reshape(3, 1, width)
                    analyse(source[p, c], low[p, c], into, newest, newest + 1, at, weights, False)
                measured = rows.measured[p, newest % rule.window.shape[0]]
                if energy:
                    energy_row(new, scale, measured)
                else:
                    magnitude_row(new, scale, measured)
        i = weigh_newest(newest, height, z, last, rule, vote, rows, sums)
        if i >= 0:
            add_row(details[i % held], i, rows, sums.details)
            if sums.low.shape[2] > 0:
                add_row(low[:, :, :, i], i, rows, sums.low)
