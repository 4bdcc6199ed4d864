"""The two ends of a network as compiled loops over bands of rows, for the CPU.

As tensor operations they cost a quarter of a compact network, nearly all of it for reading and
writing images at full resolution in float32. Here what lies between stays in the cache.
:func:`fold_planes` and :func:`fold_details` are a network's
:class:`~slidefusion.nets.heads.Entrance`, :func:`add_details` a residual
:class:`~slidefusion.nets.heads.ImageHead`. Smoothings round as those of
:func:`~slidefusion.nets.heads.detail_bands`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from slidefusion.jit import kernel
from slidefusion.nets.int8_kernels import round_evenly

__all__ = [
    "BANDS",
    "ROWS",
    "add_details",
    "fold_details",
    "fold_planes",
    "room",
    "smooth_rows",
    "smooth_thrice",
    "tops_of",
]

FloatArray = npt.NDArray[np.float32]

ROWS = 64
"""Rows of a band: 24 further ones are smoothed for it, and it still fits into the cache."""

BANDS = 3
MADE, GAIN = np.float32(0.1), np.float32(0.25)  # see ImageHead
STRENGTH = np.float32(20)  # see Entrance
ONE, FOUR = np.float32(1), np.float32(4)
SIXTEENTH, QUARTER, MIDDLE = np.float32(1 / 16), np.float32(1 / 4), np.float32(3 / 8)

# tanh(x) as x P(x^2) / Q(x^2), within 4e-7: the rational function of the Eigen library.
HIGHEST, LOWEST = np.float32(7.9), np.float32(-7.9)
P0, P1, P2 = (
    np.float32(4.89352455891786e-3),
    np.float32(6.37261928875436e-4),
    np.float32(1.48572235717979e-5),
)
P3, P4 = np.float32(5.12229709037114e-8), np.float32(-8.60467152213735e-11)
P5, P6 = np.float32(2.00018790482477e-13), np.float32(-2.76076847742355e-16)
Q0, Q1 = np.float32(4.89352518554385e-3), np.float32(2.26843463243900e-3)
Q2, Q3 = np.float32(1.18534705686654e-4), np.float32(1.19825839466702e-6)


@kernel
def _fold_row(
    bits: npt.NDArray[np.uint32],
    rounded: npt.NDArray[Any],
    factor: FloatArray,
    zero: np.float32,
    row: npt.NDArray[Any],
    group: int,
) -> None:
    """Write a line, given as bits of float32, to one group of ``row``, rounded as ``rounded`` says.

    That is scratch for its W values: uint8 for integers (`int8_kernels`, ``factor`` is one value),
    uint16 for bfloat16 and uint32 for float32. ``row`` is (W / side, channels / side).
    """
    if rounded.itemsize == 1:
        round_evenly(bits.view(np.float32), factor[0], zero, rounded)
    elif rounded.itemsize == 2:
        for x in range(len(bits)):  # to nearest, ties to even
            rounded[x] = (bits[x] + np.uint32(0x7FFF) + ((bits[x] >> 16) & 1)) >> 16
    else:
        rounded[:] = bits
    groups = rounded.view(row.dtype)
    for x in range(len(row)):
        row[x, group] = groups[x]


@kernel
def fold_planes(
    planes: FloatArray,
    inverted: bool,
    side: int,
    rounded: npt.NDArray[Any],
    factor: FloatArray,
    zero: np.float32,
    out: npt.NDArray[Any],
    group: int,
    top: int,
) -> None:
    """Rows ``top`` to ``top + ROWS`` of ``planes`` (P, H, W) into ``out``, rounded.

    ``out`` is (H / side, W / side, channels / side). Its elements are groups: ``side`` neighbouring
    px of a line as one unsigned integer of ``side`` times as many bits as those of ``rounded``,
    which says how they are rounded (`_fold_row`), with a ``factor`` for each plane (P). For each
    block of ``side`` x ``side`` px, the P * side groups from ``group`` on are written; if
    ``inverted``, of 1 - planes.
    """
    width = planes.shape[2]
    line = np.empty(width, np.float32)
    bits = line.view(np.uint32)
    for p in range(len(planes)):
        for y in range(top, min(top + ROWS, planes.shape[1])):
            plane = planes[p, y]
            for x in range(width):
                line[x] = ONE - plane[x] if inverted else plane[x]
            at = group + p * side + y % side
            _fold_row(bits, rounded, factor[p : p + 1], zero, out[y // side], at)


@kernel
def _tanh(values: FloatArray, scale: np.float32, factor: np.float32) -> None:
    """``factor * tanh(scale * values)`` of a row, in place."""
    for x in range(len(values)):
        v = values[x] * scale
        v = v if v < HIGHEST else HIGHEST
        v = v if v > LOWEST else LOWEST
        s = v * v
        p = (((((P6 * s + P5) * s + P4) * s + P3) * s + P2) * s + P1) * s + P0
        q = ((Q3 * s + Q2) * s + Q1) * s + Q0
        values[x] = factor * (v * p / q)


@kernel
def _weighted(
    a: FloatArray, b: FloatArray, c: FloatArray, d: FloatArray, e: FloatArray, out: FloatArray
) -> None:
    """Rows weighted by (1 4 6 4 1) / 16."""
    for x in range(len(out)):
        out[x] = (a[x] + e[x]) * SIXTEENTH + (b[x] + d[x]) * QUARTER + c[x] * MIDDLE


@kernel
def smooth_rows(
    source: FloatArray,
    source_top: int,
    step: int,
    rows: tuple[int, int],
    height: int,
    line: FloatArray,
    out: FloatArray,
) -> None:
    """Rows ``rows[0]`` to ``rows[1]`` of an image of ``height`` rows, smoothed both ways.

    ``source`` holds its rows from ``source_top`` on; ``line`` is a row with 8 px on both sides.
    """
    width = source.shape[1]
    start = 8 - 2 * step
    last = height - 1 - source_top
    for y in range(rows[0], rows[1]):
        at = y - source_top
        _weighted(
            source[max(at - 2 * step, -source_top)],
            source[max(at - step, -source_top)],
            source[at],
            source[min(at + step, last)],
            source[min(at + 2 * step, last)],
            line[8 : 8 + width],
        )
        line[start:8] = line[8]
        line[8 + width : 8 + width + 2 * step] = line[7 + width]
        _weighted(
            line[start : start + width],
            line[start + step : start + step + width],
            line[8 : 8 + width],
            line[8 + step : 8 + step + width],
            line[8 + 2 * step : 8 + 2 * step + width],
            out[y - rows[0]],
        )


@kernel
def tops_of(top: int) -> tuple[int, int, int, int]:
    """The first rows that row ``top`` of an image that was smoothed thrice depends on.

    They are rows of the image, of the image smoothed once, smoothed twice, and smoothed thrice.
    """
    return max(top - 14, 0), max(top - 12, 0), max(top - 8, 0), top


@kernel
def room(
    rows: int, width: int
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
    """Memory for :func:`smooth_thrice` of so many rows: a line, its source, its three results."""
    return (
        np.empty(width + 16, np.float32),
        np.empty((rows + 28, width), np.float32),
        np.empty((rows + 24, width), np.float32),
        np.empty((rows + 16, width), np.float32),
        np.empty((rows, width), np.float32),
    )


@kernel
def smooth_thrice(
    source: FloatArray,
    rows: tuple[int, int],
    height: int,
    line: FloatArray,
    fine: FloatArray,
    medium: FloatArray,
    coarse: FloatArray,
) -> None:
    """Rows ``rows[0]`` to ``rows[1]`` of an image of ``height`` rows, thrice smoothed.

    Each array begins with its row of :func:`tops_of`; ``fine``, ``medium``, ``coarse`` are written.
    """
    top, bottom = rows
    tops = tops_of(top)
    smooth_rows(source, tops[0], 1, (tops[1], min(bottom + 12, height)), height, line, fine)
    smooth_rows(fine, tops[1], 2, (tops[2], min(bottom + 8, height)), height, line, medium)
    smooth_rows(medium, tops[2], 4, rows, height, line, coarse)


@kernel
def fold_details(
    planes: FloatArray,
    side: int,
    rounded: npt.NDArray[Any],
    factor: FloatArray,
    zero: np.float32,
    out: npt.NDArray[Any],
    group: int,
    top: int,
) -> None:
    """Rows ``top`` to ``top + ROWS`` of the detail bands of 1 - ``planes`` (P, H, W) into ``out``.

    The layout is that of :func:`fold_planes`: the finest band of all planes, then the next coarser.
    ``factor`` has one value for each of them.
    """
    count, height, width = planes.shape
    bottom = min(top + ROWS, height)
    tops = tops_of(top)
    end = min(bottom + 14, height)
    line, white, fine, medium, coarse = room(ROWS, width)
    smooths = white, fine, medium, coarse
    detail = np.empty(width, np.float32)
    bits = detail.view(np.uint32)
    for p in range(count):
        for y in range(tops[0], end):
            for x in range(width):
                white[y - tops[0], x] = ONE - planes[p, y, x]
        smooth_thrice(white, (top, bottom), height, line, fine, medium, coarse)
        for band in range(BANDS):
            for y in range(top, bottom):
                image = smooths[band][y - tops[band]]
                smooth = smooths[band + 1][y - tops[band + 1]]
                for x in range(width):
                    detail[x] = STRENGTH * (image[x] - smooth[x])
                number = band * count + p
                at = group + number * side + y % side
                scale = factor[number : number + 1]
                _fold_row(bits, rounded, scale, zero, out[y // side], at)


@kernel
def _unshuffled(
    features: npt.NDArray[Any],
    line: npt.NDArray[Any],
    shift: int,
    side: int,
    y: int,
    out: npt.NDArray[np.uint32],
) -> None:
    """Row ``y`` of every feature, as the bits of float32."""
    row, groups = features[y // side], line.view(features.dtype)
    for f in range(len(out)):
        group = f * side + y % side
        for x in range(len(row)):
            groups[x] = row[x, group]
        for x in range(len(line)):
            out[f, x] = np.uint32(line[x]) << np.uint32(shift)


@kernel
def add_details(
    features: npt.NDArray[Any],
    line: npt.NDArray[Any],
    side: int,
    stack: FloatArray,
    image: FloatArray,
    top: int,
) -> None:
    """Make rows ``top`` to ``top + ROWS`` of the ``image`` (C, H, W) from ``stack`` (Z, C, H, W).

    ``features`` (H / side, W / side, features * side) are the bits of floats, ``side`` of them in
    one unsigned integer. ``line`` is scratch for W of these floats: uint32 if they are float32, and
    uint16 if they are bfloat16.
    """
    planes, channels, height, width = stack.shape
    middle = planes // 2
    shift = 32 - 8 * line.itemsize
    bottom = min(top + ROWS, height)
    bits = np.empty((channels + (planes - 1) * (BANDS + 1) + BANDS, bottom - top, width), np.uint32)
    for y in range(top, bottom):
        _unshuffled(features, line, shift, side, y, bits[:, y - top])
    shares = bits.view(np.float32)
    for f in range(len(shares)):
        for y in range(bottom - top):
            if f < channels:
                _tanh(shares[f, y], MADE, ONE)
            elif f < len(shares) - BANDS:
                _tanh(shares[f, y], ONE, ONE)
            else:
                _tanh(shares[f, y], GAIN, FOUR)

    tops = tops_of(top)
    end = min(bottom + 14, height)
    wide, difference, fine, medium, coarse = room(ROWS, width)
    for c in range(channels):
        plain = stack[middle, c]
        for y in range(top, bottom):
            for x in range(width):
                image[c, y, x] = shares[c, y - top, x] + plain[y, x]
        first = channels
        for n in range(planes):  # the other planes first, and the middle plane last
            last = n == planes - 1
            if last:
                source = plain[tops[0] : end]
            else:
                other = stack[n if n < middle else n + 1, c]
                for y in range(tops[0], end):
                    for x in range(width):
                        difference[y - tops[0], x] = other[y, x] - plain[y, x]
                source = difference
            smooth_thrice(source, (top, bottom), height, wide, fine, medium, coarse)
            for y in range(top, bottom):
                out = image[c, y]
                at = source[y - tops[0]], fine[y - tops[1]], medium[y - tops[2]], coarse[y - top]
                share = shares[first : first + BANDS + 1, y - top]
                for x in range(width):
                    total = share[0, x] * (at[0][x] - at[1][x]) + share[1, x] * (
                        at[1][x] - at[2][x]
                    )
                    out[x] += total + share[2, x] * (at[2][x] - at[3][x])
                if not last:
                    for x in range(width):
                        out[x] += share[3, x] * at[3][x]
            first += BANDS + 1
        for y in range(top, bottom):
            for x in range(width):
                v = image[c, y, x]
                v = v if v < ONE else ONE
                image[c, y, x] = v if v > 0 else np.float32(0)
