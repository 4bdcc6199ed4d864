"""The Laplacian pyramid (Burt & Adelson 1983, IEEE Trans. Commun. 31(4)), forward and inverse.

The generating kernel is [1 4 6 4 1]/16, as in OpenCV's ``pyrDown`` and ``pyrUp``, to which this
equals away from the border. Level ``j`` has samples at every ``2**j``-th pixel, starting with the
first. Beyond the border the border sample is repeated.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from slidefusion.errors import StackError
from slidefusion.geometry import as_whole
from slidefusion.transforms.levels import whole_levels

__all__ = ["forward", "inverse", "pad_to_period", "reach_px"]

TAPS = 5
"""Length of the generating kernel in samples."""


def reach_px(level: int) -> int:
    """How far in pixels a sample of Gaussian ``level`` looks around its own position.

    As far as it is felt when it is expanded down to level 0. Each step from level j to the next
    adds the half-length of the filter, at a sample distance of 2**j.

    >>> reach_px(1), reach_px(2)
    (2, 6)
    """
    return sum(TAPS // 2 * 2**j for j in range(level))


def pad_to_period(image: npt.NDArray[Any], period: int) -> npt.NDArray[Any]:
    """Repeat the last row and column of ``image`` (..., Y, X) up to a multiple of ``period``.

    >>> pad_to_period(np.zeros((3, 5, 8)), 4).shape
    (3, 8, 8)

    Raises:
        StackError: the period is no whole number from 1 on.
    """
    if (whole := as_whole(period)) is None or whole < 1:
        raise StackError(f"period={period!r}: give a whole number of pixels, 1 or more")
    period = whole
    height, width = image.shape[-2:]
    bottom, right = -height % period, -width % period
    if bottom == 0 and right == 0:
        return image
    return np.pad(image, [(0, 0)] * (image.ndim - 2) + [(0, bottom), (0, right)], mode="edge")


def forward(image: npt.NDArray[Any], levels: int) -> list[npt.NDArray[np.float32]]:
    """Decompose ``image`` (C, Y, X) into ``levels`` band-pass images and a low-pass image.

    Y and X must be multiples of ``2**levels``. Returns float32 arrays (C, Y/2**j, X/2**j) for
    j = 0 … ``levels``; the last is the low-pass.

    >>> [band.shape for band in forward(np.zeros((1, 8, 12), np.float32), 2)]
    [(1, 8, 12), (1, 4, 6), (1, 2, 3)]

    Raises:
        StackError: the shape is not (C, Y, X) with Y and X multiples of ``2**levels``.
        OptionError: ``levels`` is no whole number from 0 on.
    """
    from slidefusion.transforms import laplacian_kernels as kernels

    levels = whole_levels(levels, 0)
    image = np.asarray(image)
    period = 2**levels
    if image.ndim != 3 or 0 in image.shape or image.shape[1] % period or image.shape[2] % period:
        raise StackError(
            f"shape {image.shape} cannot be decomposed: it must be (C, Y, X) with Y and X "
            f"multiples of 2**levels = {period}; pad it with pad_to_period(image, {period})"
        )
    pyramid = [np.array(image, np.float32, order="C")]
    for j in range(levels):
        channels, height, width = pyramid[j].shape
        pyramid.append(np.empty((channels, height // 2, width // 2), np.float32))
        kernels.reduce(pyramid[j], pyramid[j + 1], np.empty(width, np.float32))
        kernels.collapse(-pyramid[j + 1], pyramid[j])
    return pyramid


def inverse(pyramid: list[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """Rebuild the image (C, Y, X) from what :func:`forward` returned.

    >>> image = np.arange(64, dtype=np.float32).reshape(1, 8, 8)
    >>> bool(np.allclose(inverse(forward(image, 3)), image))
    True

    Raises:
        StackError: the levels do not halve from one to the next.
    """
    from slidefusion.transforms import laplacian_kernels as kernels

    shapes = [np.shape(level) for level in pyramid]
    halves = [shape[:1] + tuple(side // 2 for side in shape[1:]) for shape in shapes]
    if not shapes or len(shapes[0]) != 3 or shapes[1:] != halves[:-1]:
        raise StackError(
            f"levels of {shapes} are no Laplacian pyramid: each is (C, Y, X) with half of the Y "
            "and X of the one before, as forward gives them"
        )
    image = pyramid[-1]
    for detail in reversed(pyramid[:-1]):
        finer = detail.copy()
        kernels.collapse(image, finer)
        image = finer
    return image
