"""Which plane to take at each sample: activities in, weights out; shared by transform fusers.

An activity map (Y, X) float32 says how much detail a plane has around each sample, for all colour
channels at once, so that no channel is taken from another plane than the others. Planes come one
at a time: the running weighted sum of any coefficient is ``sum = sum * keep + gain * coefficient``
and is divided by ``total`` in the end. ``keep`` and ``gain`` lie within [0, 1], which is the
streaming form of a soft-max and neither overflows nor underflows (Milakov & Gimelshein 2018,
arXiv:1805.02867). The loops work a row at a time, so that a fuser's kernel keeps all it needs for
a row in the cache.
"""

from __future__ import annotations

from math import comb
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from slidefusion.jit import kernel

__all__ = [
    "HARD",
    "Rule",
    "binomial_window",
    "confidence_of",
    "repeated",
    "rule_for",
    "smooth_row",
    "weigh_row",
]

FloatArray = npt.NDArray[np.float32]

ZERO = np.float32(0)
ONE = np.float32(1)

HARD = -1
"""Value of `Rule.doublings` that lets only the most active plane count."""


class Rule(NamedTuple):
    """How activities become weights: ``(window mean of activity + floor) ** 2 ** doublings``."""

    window: FloatArray
    """(2r + 1) taps of the separable averaging window of radius r samples; they sum to 1."""
    floor: np.float32
    """Activity below which planes count alike."""
    doublings: int
    """The activity is squared this often; `HARD` for the most active plane alone."""


def binomial_window(radius: int) -> FloatArray:
    """Taps (2 radius + 1) of the binomial window.

    >>> binomial_window(1).tolist()
    [0.25, 0.5, 0.25]
    """
    taps = [comb(2 * radius, k) / 4**radius for k in range(2 * radius + 1)]
    return np.array(taps, np.float32)


def rule_for(selection: str, power: int, window: int, noise: float) -> Rule:
    """The rule that a fuser's options mean; ``power`` is a power of two.

    >>> rule_for("soft", 8, 1, 0.5).doublings
    3
    """
    doublings = HARD if selection == "max" else power.bit_length() - 1
    return Rule(binomial_window(window), np.float32(noise), doublings)


@kernel
def smooth_row(
    rows: FloatArray, i: int, height: int, window: FloatArray, column: FloatArray, out: FloatArray
) -> None:
    """Average activities around row ``i`` of ``height`` with ``window``, both ways.

    ``rows`` (n, X) is a ring in which row k lies at k % n, n the length of the window. Beyond the
    border the border sample is repeated. ``column`` (X + n - 1) is scratch, ``out`` (X) is written.
    """
    taps = window.shape[0]
    radius = taps // 2
    width = out.shape[0]
    middle = column[radius : radius + width]
    for k in range(taps):
        tap = window[k]
        row = rows[min(max(i + k - radius, 0), height - 1) % taps]
        if k == 0:
            for x in range(width):
                middle[x] = tap * row[x]
        else:
            for x in range(width):
                middle[x] += tap * row[x]
    column[:radius] = middle[0]
    column[radius + width :] = middle[width - 1]
    for k in range(taps):
        tap = window[k]
        shifted = column[k : k + width]
        if k == 0:
            for x in range(width):
                out[x] = tap * shifted[x]
        else:
            for x in range(width):
                out[x] += tap * shifted[x]


def confidence_of(total: FloatArray) -> npt.NDArray[np.uint8]:
    """Share of the most active plane in the weights, 0 to 255, from their ``total`` (Y, X).

    The weight of the most active plane counts as 1 in the total of all planes' weights.

    >>> confidence_of(np.array([[1.0, 4.0]], np.float32)).tolist()
    [[255, 64]]
    """
    share: npt.NDArray[np.uint8] = np.rint(255 / np.maximum(total, np.float32(1))).astype(np.uint8)
    return share


def repeated(samples: npt.NDArray[Any], block: int, height: int, width: int) -> npt.NDArray[Any]:
    """Each of ``samples`` (y, x) as a block of pixels, trimmed to (height, width).

    >>> repeated(np.array([[1, 2]]), 2, 1, 3).tolist()
    [[1, 1, 2]]
    """
    return np.ascontiguousarray(samples.repeat(block, 0).repeat(block, 1)[:height, :width])


@kernel
def weigh_row(
    activity: FloatArray,
    rule: Rule,
    z: int,
    best: FloatArray,
    total: FloatArray,
    index: npt.NDArray[Any],
    keep: FloatArray,
    gain: FloatArray,
) -> None:
    """Weigh plane ``z`` by its ``activity`` against the planes before it; all arrays (X).

    ``best``, ``total`` and ``index`` (the most active plane so far, the first of equals) carry
    over from plane to plane and start as zeros. ``keep`` and ``gain`` are written; ``activity`` is
    used up.
    """
    width = activity.shape[0]
    here = index.dtype.type(z)
    if rule.doublings < 0:
        keep[:] = ZERO
    for x in range(width):
        a = activity[x] + rule.floor
        b = best[x]
        activity[x] = a
        if rule.doublings >= 0:
            keep[x] = min(a, b) / max(a, b)
    for _ in range(rule.doublings):
        for x in range(width):
            keep[x] = keep[x] * keep[x]
    for x in range(width):
        a = activity[x]
        b = best[x]
        ratio = keep[x]
        wins = a > b
        kept = ratio if wins else ONE
        gained = ONE if wins else ratio
        keep[x] = kept
        gain[x] = gained
        total[x] = total[x] * kept + gained
        best[x] = a if wins else b
        index[x] = here if wins else index[x]
