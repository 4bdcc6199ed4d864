"""The fusion of planes by their detail bands as a compiled loop over bands of rows, for the CPU.

As :func:`slidefusion.nets.band_fusion.fused_plane`, whose tensor operations pass over every plane
some eighty times.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from slidefusion.nets.end_kernels import BANDS, smooth_rows
from slidefusion.transforms.jit import kernel

__all__ = ["ROWS", "fuse_rows"]

FloatArray = npt.NDArray[np.float32]

ROWS = 128
"""Rows of a band: 60 further ones are smoothed for it."""

FLOOR = np.float32(0.0005)  # see band_fusion
REACH = 16
"""Rows beyond which the activity of the coarsest band is felt no more; of a finer one the half."""


@kernel
def fuse_rows(stack: FloatArray, image: FloatArray, top: int) -> None:
    """Rows ``top`` to ``top + ROWS`` of the ``image`` (C, H, W), of ``stack`` (Z, C, H, W)."""
    planes, channels, height, width = stack.shape
    bottom = min(top + ROWS, height)
    rows = bottom - top
    line = np.empty(width + 16, np.float32)
    tops = (max(top - REACH - 12, 0), max(top - REACH - 8, 0), max(top - REACH, 0))
    fine = np.empty((bottom + REACH + 12 - tops[0], width), np.float32)
    medium = np.empty((bottom + REACH + 8 - tops[1], width), np.float32)
    coarse = np.empty((bottom + REACH - tops[2], width), np.float32)
    magnitude = np.empty((BANDS, rows + 2 * REACH, width), np.float32)
    once = np.empty((rows + REACH, width), np.float32)
    bands = np.empty((planes, channels, BANDS + 1, rows, width), np.float32)
    activity = np.empty((BANDS, planes, rows, width), np.float32)
    for z in range(planes):
        for c in range(channels):
            plane = stack[z, c]
            ends = (
                min(bottom + REACH + 12, height),
                min(bottom + REACH + 8, height),
                min(bottom + REACH, height),
            )
            smooth_rows(plane, 0, 1, (tops[0], ends[0]), height, line, fine)
            smooth_rows(fine, tops[0], 2, (tops[1], ends[1]), height, line, medium)
            smooth_rows(medium, tops[1], 4, (tops[2], ends[2]), height, line, coarse)
            images = plane, fine, medium, coarse
            first = 0, tops[0], tops[1], tops[2]
            for band in range(BANDS):
                above, below = images[band], images[band + 1]
                start = max(top - (4 << band), 0)
                for y in range(start, min(bottom + (4 << band), height)):
                    a, b = above[y - first[band]], below[y - first[band + 1]]
                    out = magnitude[band, y - start]
                    for x in range(width):
                        size = abs(a[x] - b[x])
                        out[x] = size if c == 0 else out[x] + size
                for y in range(top, bottom):
                    a, b = above[y - first[band]], below[y - first[band + 1]]
                    for x in range(width):
                        bands[z, c, band, y - top, x] = a[x] - b[x]
            bands[z, c, BANDS] = coarse[top - tops[2] : bottom - tops[2]]
        for band in range(BANDS):
            step = 1 << band
            start = max(top - 4 * step, 0)
            middle = max(top - 2 * step, 0)
            end = min(bottom + 2 * step, height)
            smooth_rows(magnitude[band], start, step, (middle, end), height, line, once)
            smooth_rows(once, middle, step, (top, bottom), height, line, activity[band, z])
    _weigh(activity, np.float32(1 / channels))
    for c in range(channels):
        for y in range(rows):
            out = image[c, top + y]
            out[:] = np.float32(0)
            for band in range(BANDS + 1):
                for z in range(planes):
                    share, detail = activity[min(band, BANDS - 1), z, y], bands[z, c, band, y]
                    for x in range(width):
                        out[x] += share[x] * detail[x]
            for x in range(width):
                lowest = highest = stack[0, c, top + y, x]
                for z in range(1, planes):
                    lowest = min(lowest, stack[z, c, top + y, x])
                    highest = max(highest, stack[z, c, top + y, x])
                out[x] = min(max(out[x], lowest), highest)


@kernel
def _weigh(activity: FloatArray, scale: np.float32) -> None:
    """Each plane's activity (BANDS, Z, rows, W) to its share, in place; ``scale`` makes it a mean.

    The eighth power of the ratio to the highest, so that nothing overflows.
    """
    bands, planes, rows, width = activity.shape
    highest = np.empty(width, np.float32)
    total = np.empty(width, np.float32)
    for band in range(bands):
        for y in range(rows):
            highest[:] = FLOOR
            total[:] = np.float32(0)
            for z in range(planes):
                row = activity[band, z, y]
                for x in range(width):
                    row[x] = max(row[x] * scale, FLOOR)
                    highest[x] = max(highest[x], row[x])
            for z in range(planes):
                row = activity[band, z, y]
                for x in range(width):
                    ratio = row[x] / highest[x]
                    ratio *= ratio
                    ratio *= ratio
                    row[x] = ratio * ratio
                    total[x] += row[x]
            for z in range(planes):
                row = activity[band, z, y]
                for x in range(width):
                    row[x] /= total[x]
