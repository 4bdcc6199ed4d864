"""The two-dimensional dual-tree complex wavelet transform (DTCWT).

N. G. Kingsbury, "Complex wavelets for shift invariant analysis and filtering of signals", Appl.
Comput. Harmon. Anal. 10(3), 2001; I. W. Selesnick, R. G. Baraniuk & N. G. Kingsbury, "The dual-tree
complex wavelet transform", IEEE Signal Process. Mag. 22(6), 2005. Nearly shift-invariant: the
magnitude of a complex coefficient hardly depends on how a structure lies to the sampling grid. Six
orientations a level, at about 15, 45, 75, -75, -45 and -15 degrees; four times redundant.

Sub-bands, their order and the treatment of any image size equal those of the ``dtcwt`` package.

Alignment: coefficient k of level j belongs to the pixels from ``2**j * k``. A window that starts
and ends on multiples of ``2**levels`` therefore has, away from its border, bit for bit the
coefficients of the whole image; how far away is what :func:`analysis_reach_px` and
:func:`synthesis_reach_px` say.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from slidefusion.errors import StackError
from slidefusion.transforms.dtcwt_filters import DualTree, dual_tree
from slidefusion.transforms.levels import whole_levels

__all__ = [
    "ORIENTATIONS",
    "QUAD",
    "Pyramid",
    "analyse",
    "analysis_reach_px",
    "forward",
    "inverse",
    "level_shapes",
    "synthesis_reach_px",
    "synthesise",
]

FloatArray = npt.NDArray[np.float32]
ComplexArray = npt.NDArray[np.complex64]

QUAD = 4
"""Samples at even y and x, even y and odd x, odd y and even x, odd y and x."""
ORIENTATIONS = ((0, 5), (2, 3), (1, 4))
"""The two complex sub-bands that the quads of each real band make. The real bands are high-low,
low-high and high-high, along y first and along x second."""


@dataclass(frozen=True, eq=False)
class Pyramid:
    """What :func:`forward` returns."""

    lowpass: FloatArray
    """(..., y, x) real low pass; twice the coarsest sub-bands' size along each axis."""
    highpasses: tuple[ComplexArray, ...]
    """(..., 6, y, x) complex sub-bands of the levels 1, 2 …, in the ``dtcwt`` package's order of
    orientations."""
    shape: tuple[int, int]
    """(Y, X) of the image in px."""


def analysis_reach_px(tree: DualTree, level: int) -> tuple[int, int]:
    """How far (before, after) its own pixel in px a coefficient of ``level`` reads the image.

    >>> analysis_reach_px(dual_tree("near_sym_a"), 1)
    (3, 4)
    """
    before, after = -int(tree.analysis1.at.min()), int(tree.analysis1.at.max())
    for finer in range(1, level):
        # A sample of the low pass of level j is 2**(j - 1) px; one of an odd row or column is
        # computed from a base one sample before it.
        sample = 2 ** (finer - 1)
        before += sample * max(-int(tree.analysis2.at.min()), 0) + sample
        after += sample * max(int(tree.analysis2.at.max()), 0)
    return before, after


def synthesis_reach_px(tree: DualTree, level: int) -> tuple[int, int]:
    """How far (before, after) from a pixel in px the coefficients of ``level`` lie that it reads.

    >>> synthesis_reach_px(dual_tree("near_sym_a"), 1)
    (5, 4)
    """
    before = after = 0
    for j in range(1, level + 1):
        filters = tree.synthesis(j)
        at = np.concatenate([filters.low_at.ravel(), filters.high_at.ravel()])
        # Samples of level j, its low pass included, are 2**(j - 1) px apart; the base of the
        # samples rebuilt lies up to one (level 1) or three (above) finer samples before them, and
        # a coefficient, standing for a quad, up to one sample before what is read.
        sample = 2 ** (j - 1)
        before += sample * max(-int(at.min()), 0) + (1 if j == 1 else 3 * sample // 2) + sample
        after += sample * max(int(at.max()), 0)
    return before, after


def level_shapes(levels: int, height: int, width: int) -> list[tuple[int, int]]:
    """Shapes (y, x) of a sub-band of the levels 1 … ``levels`` of ``height`` x ``width`` px.

    >>> level_shapes(2, 15, 20)
    [(8, 10), (4, 5)]

    Raises:
        OptionError: ``levels`` is no whole number from 1 on.
    """
    levels = whole_levels(levels)
    return [(-(-height // 2**j), -(-width // 2**j)) for j in range(1, levels + 1)]


def analyse(
    source: FloatArray, tree: DualTree, level: int, low: FloatArray, details: FloatArray
) -> None:
    """Make ``level`` (1 is the finest) of ``source``, in place.

    ``source`` is the image for level 1, as columns (2, 2y, x): the samples at even and at odd x;
    above it, the low pass (4, 2y, 2x) of the level before. ``low`` (4, y, x) and ``details``
    (3, 4, y, x) hold quads, see :data:`QUAD`. The squared magnitudes of the two complex sub-bands
    that a quad makes sum to the sum of its squares. All arrays are contiguous.
    """
    from slidefusion.transforms import dtcwt_kernels as kernels

    filters = tree.analysis(level)
    taps = filters.at, filters.weights, filters.parity, filters.step
    kernels.analyse(source, low, details, 0, low.shape[1], *taps)


def synthesise(
    low: FloatArray, details: FloatArray, tree: DualTree, level: int, image: FloatArray
) -> None:
    """Undo :func:`analyse`: rebuild its source as ``image``, in place.

    For level 1 that is (1, 2y, 2x), above it (4, 2y, 2x).
    """
    from slidefusion.transforms import dtcwt_kernels as kernels

    filters = tree.synthesis(level)
    taps = filters.low_at, filters.low_weights, filters.high_at, filters.high_weights
    kernels.synthesise(low, details, image, *taps)


def forward(
    image: npt.NDArray[Any],
    levels: int = 4,
    level1: str = "near_sym_a",
    qshift: str = "qshift_a",
) -> Pyramid:
    """Decompose ``image`` (..., Y, X) over its last two axes.

    ``level1`` is one of near_sym_a, near_sym_b, antonini, legall; ``qshift`` one of qshift_06,
    qshift_a, qshift_b, qshift_c, qshift_d.

    >>> pyramid = forward(np.zeros((3, 15, 20)), levels=2)
    >>> [band.shape for band in pyramid.highpasses], pyramid.lowpass.shape
    ([(3, 6, 8, 10), (3, 6, 4, 5)], (3, 8, 10))

    Raises:
        OptionError: unknown filters, or ``levels`` no whole number from 1 on.
        StackError: the image has fewer than two axes or an empty one.
    """
    from slidefusion.transforms import dtcwt_kernels as kernels

    tree = dual_tree(level1, qshift)
    if image.ndim < 2 or 0 in image.shape:
        raise StackError(f"shape {image.shape} has no wavelet transform: it must be (..., Y, X)")
    *lead, height, width = image.shape
    flat = np.asarray(image, np.float32).reshape(-1, height, width)
    even = np.pad(flat, ((0, 0), (0, height % 2), (0, width % 2)), mode="edge")
    source = np.stack([even[..., ::2], even[..., 1::2]], axis=1)
    count = len(source)
    highpasses = []
    for j, (y, x) in enumerate(level_shapes(levels, height, width)):
        low = np.empty((count, QUAD, y, x), np.float32)
        details = np.empty((3, QUAD, y, x), np.float32)
        bands = np.empty((count, 6, y, x), np.complex64)
        for c in range(count):
            analyse(source[c] if j == 0 else _extended(source[c]), tree, j + 1, low[c], details)
            parts = bands[c].view(np.float32).reshape(6, y, x, 2)
            for real, (first, second) in enumerate(ORIENTATIONS):
                kernels.to_complex(details[real], parts[first], parts[second])
        highpasses.append(bands.reshape(*lead, 6, y, x))
        source = low
    lowpass = np.stack([_natural(quads) for quads in source])
    return Pyramid(
        lowpass=lowpass.reshape(*lead, *lowpass.shape[1:]),
        highpasses=tuple(highpasses),
        shape=(height, width),
    )


def inverse(pyramid: Pyramid, level1: str = "near_sym_a", qshift: str = "qshift_a") -> FloatArray:
    """Rebuild the image (..., Y, X) from what :func:`forward` returned.

    >>> image = np.arange(35, dtype=np.float32).reshape(5, 7)
    >>> bool(np.allclose(inverse(forward(image)), image, atol=1e-4))
    True

    Raises:
        OptionError: unknown filters.
        StackError: the arrays are not a pyramid of an image of ``pyramid.shape``.
    """
    from slidefusion.transforms import dtcwt_kernels as kernels

    tree = dual_tree(level1, qshift)
    lead = pyramid.lowpass.shape[:-2]
    shapes = level_shapes(len(pyramid.highpasses), *pyramid.shape)
    wanted = [(*lead, 6, *shape) for shape in shapes]
    wanted_low = (*lead, 2 * shapes[-1][0], 2 * shapes[-1][1])
    given = [band.shape for band in pyramid.highpasses]
    if given != wanted or pyramid.lowpass.shape != wanted_low:
        raise StackError(
            f"sub-bands {given} and low pass {pyramid.lowpass.shape} are not those of an image of "
            f"{pyramid.shape[0]} x {pyramid.shape[1]} px, which are {wanted} and {wanted_low}"
        )
    count = math.prod(lead)
    lowpass = np.require(pyramid.lowpass, np.float32, ["C", "W"]).reshape(count, *wanted_low[-2:])
    image = np.empty((count, *pyramid.shape), np.float32)
    for c in range(count):
        low = _quads(lowpass[c])
        for j in reversed(range(len(shapes))):
            y, x = shapes[j]
            bands = np.require(pyramid.highpasses[j], np.complex64, ["C", "W"])
            parts = bands.reshape(count, 6, y, x)[c].view(np.float32).reshape(6, y, x, 2)
            details = np.empty((3, QUAD, y, x), np.float32)
            for real, (first, second) in enumerate(ORIENTATIONS):
                kernels.to_quads(parts[first], parts[second], details[real])
            rebuilt = np.empty((1 if j == 0 else QUAD, 2 * y, 2 * x), np.float32)
            synthesise(low, details, tree, j + 1, rebuilt)
            low = rebuilt if j == 0 else _cropped(rebuilt, *shapes[j - 1])
        image[c] = low[0, : pyramid.shape[0], : pyramid.shape[1]]
    return image.reshape(*lead, *pyramid.shape)


def _natural(quads: FloatArray) -> FloatArray:
    # (4, h, w) -> (2h, 2w)
    _, h, w = quads.shape
    return quads.reshape(2, 2, h, w).transpose(2, 0, 3, 1).reshape(2 * h, 2 * w)


def _quads(image: FloatArray) -> FloatArray:
    # (2h, 2w) -> (4, h, w)
    height, width = image.shape
    blocks = image.reshape(height // 2, 2, width // 2, 2)
    return np.ascontiguousarray(blocks.transpose(1, 3, 0, 2)).reshape(4, height // 2, width // 2)


def _extended(quads: FloatArray) -> FloatArray:
    # The filters above level 1 need lengths that are multiples of 4: one sample is repeated at
    # both ends where a length is not.
    _, h, w = quads.shape
    if h % 2 == 0 and w % 2 == 0:
        return quads
    return _quads(np.pad(_natural(quads), ((h % 2, h % 2), (w % 2, w % 2)), mode="edge"))


def _cropped(quads: FloatArray, h: int, w: int) -> FloatArray:
    # Undoes _extended: to (4, h, w).
    if quads.shape[1:] == (h, w):
        return quads
    image = _natural(quads)
    bottom, right = h % 2, w % 2
    return _quads(image[bottom : bottom + 2 * h, right : right + 2 * w])
