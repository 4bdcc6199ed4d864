"""The separable two-dimensional discrete wavelet transform (Mallat 1989, IEEE PAMI 11(7)).

Coefficients equal those of ``pywt.wavedec2``, for every discrete wavelet and any image size, with
the border modes ``"symmetric"`` and ``"periodization"``.

Alignment: coefficient k of level j belongs to the pixel ``2**j * k``. A window that starts on a
multiple of ``2**levels`` therefore has, away from its border, bit for bit the coefficients of the
whole image; how far away is what :func:`analysis_reach_px` and :func:`synthesis_reach_px` say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from slidefusion.errors import StackError
from slidefusion.transforms.levels import whole_levels
from slidefusion.transforms.wavelets import FilterBank, filter_bank

__all__ = [
    "analyse",
    "analysis_reach_px",
    "forward",
    "inverse",
    "level_shapes",
    "synthesis_reach_px",
    "synthesise",
]

FloatArray = npt.NDArray[np.float32]


def analysis_reach_px(bank: FilterBank, level: int) -> tuple[int, int]:
    """How far (before, after) its own pixel in px a coefficient of ``level`` reads the image.

    >>> analysis_reach_px(filter_bank("db2"), 1), analysis_reach_px(filter_bank("db2"), 4)
    ((2, 1), (30, 15))
    """
    at = bank.analysis.at
    step = 2**level - 1
    return -min(int(at[0]), 0) * step, max(int(at[-1]), 0) * step


def synthesis_reach_px(bank: FilterBank, level: int) -> tuple[int, int]:
    """How far (before, after) from a pixel in px the coefficients of ``level`` lie that it reads.

    >>> synthesis_reach_px(filter_bank("db2"), 1), synthesis_reach_px(filter_bank("db2"), 4)
    ((1, 2), (15, 30))
    """
    low, high = bank.synthesis_low.at, bank.synthesis_high.at
    step = 2**level - 1
    before = 1 - 2 * min(int(low[0]), int(high[0]))
    after = 2 * max(int(low[-1]), int(high[-1]))
    return max(before, 0) * step, max(after, 0) * step


def level_shapes(bank: FilterBank, levels: int, height: int, width: int) -> list[tuple[int, int]]:
    """Shapes (y, x) of a band of the levels 1 … ``levels`` of an image of ``height`` x ``width``.

    >>> level_shapes(filter_bank("db2"), 2, 16, 20)
    [(9, 11), (6, 7)]

    Raises:
        OptionError: ``levels`` is no whole number from 1 on.
    """
    levels = whole_levels(levels)
    shapes = []
    for _ in range(levels):
        height, width = bank.coefficients(height), bank.coefficients(width)
        shapes.append((height, width))
    return shapes


def analyse(source: FloatArray, bank: FilterBank, low: FloatArray, details: FloatArray) -> None:
    """Make the next level of ``source`` (1, Y, X), in place: ``low`` (1, y, x) and ``details``
    (3, y, x). All arrays are contiguous."""
    from slidefusion.transforms import dwt_kernels as kernels

    taps = bank.analysis
    rows = 0, low.shape[1]
    kernels.analyse(source, low, details, *rows, taps.at, taps.weights, bank.periodic)


def synthesise(low: FloatArray, details: FloatArray, bank: FilterBank, image: FloatArray) -> None:
    """Rebuild ``image`` (1, Y, X), in place, from ``low`` (1, y, x) and ``details`` (3, y, x)."""
    from slidefusion.transforms import dwt_kernels as kernels

    taps = bank.synthesis_low, bank.synthesis_high
    filters = taps[0].at, taps[0].weights, taps[1].at, taps[1].weights
    kernels.synthesise(low, details, image, *filters, bank.periodic)


def forward(
    image: npt.NDArray[Any], wavelet: str = "db2", levels: int = 4, mode: str = "symmetric"
) -> list[FloatArray]:
    """Decompose ``image`` (..., Y, X) over its last two axes.

    Returns float32 arrays: for the levels 1 … ``levels`` the details (..., 3, y, x), in the order
    high-low (horizontal detail), low-high (vertical), high-high (diagonal), along y first; then
    the low pass (..., y, x).

    >>> [band.shape for band in forward(np.zeros((16, 20)), "db2", 2)]
    [(3, 9, 11), (3, 6, 7), (6, 7)]

    Raises:
        OptionError: unknown wavelet or mode, or ``levels`` no whole number from 1 on.
        StackError: the image has fewer than two axes or an empty one.
    """
    bank = filter_bank(wavelet, mode)
    if image.ndim < 2 or 0 in image.shape:
        raise StackError(f"shape {image.shape} has no wavelet transform: it must be (..., Y, X)")
    *lead, height, width = image.shape
    source = np.require(image, np.float32, ["C", "W"]).reshape(-1, 1, height, width)
    pyramid = []
    for y, x in level_shapes(bank, levels, height, width):
        low = np.empty((len(source), 1, y, x), np.float32)
        details = np.empty((len(source), 3, y, x), np.float32)
        for c in range(len(source)):
            analyse(source[c], bank, low[c], details[c])
        pyramid.append(details.reshape(*lead, 3, y, x))
        source = low
    return [*pyramid, source.reshape(*lead, *source.shape[-2:])]


def inverse(
    pyramid: Sequence[npt.NDArray[Any]],
    shape: tuple[int, int],
    wavelet: str = "db2",
    mode: str = "symmetric",
) -> FloatArray:
    """Rebuild the image (..., Y, X) of ``shape`` (Y, X) from what :func:`forward` returned.

    >>> image = np.arange(35, dtype=np.float32).reshape(5, 7)
    >>> bool(np.allclose(inverse(forward(image, "db2", 2), (5, 7), "db2"), image, atol=1e-4))
    True

    Raises:
        OptionError: unknown wavelet or mode.
        StackError: the arrays are not a pyramid of an image of that shape.
    """
    bank = filter_bank(wavelet, mode)
    *details, low = pyramid
    lead = low.shape[:-2]
    expected = level_shapes(bank, len(details), *shape)
    given = [band.shape for band in details]
    wanted = [(*lead, 3, *size) for size in expected]
    if given != wanted or low.shape[-2:] != expected[-1]:
        raise StackError(
            f"bands of shapes {given} and {low.shape} are not the {wavelet} pyramid of an image of "
            f"{shape[0]} x {shape[1]} px, which has {wanted}; give the shape and the options that "
            "forward was called with"
        )
    count = math.prod(lead)
    image = np.require(low, np.float32, ["C", "W"]).reshape(count, 1, *low.shape[-2:])
    for band, target in zip(reversed(details), [*expected[-2::-1], shape], strict=True):
        stored = np.require(band, np.float32, ["C", "W"]).reshape(count, *band.shape[-3:])
        rebuilt = np.empty((count, 1, *target), np.float32)
        for c in range(count):
            synthesise(image[c], stored[c], bank, rebuilt[c])
        image = rebuilt
    return image.reshape(*lead, *shape)
