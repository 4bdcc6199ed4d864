"""The Laplacian pyramid in torch: for any device, and as the readable reference.

The same numbers as :mod:`slidefusion.transforms.laplacian` to float32 rounding, for batches
(B, C, Y, X). Beyond the border the border sample is repeated.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from slidefusion.errors import StackError
from slidefusion.transforms.levels import whole_levels

__all__ = ["expand", "forward", "inverse", "reduce"]


def reduce(fine: Tensor) -> Tensor:
    """Smooth ``fine`` (B, C, Y, X) with [1 4 6 4 1]/16 and keep every second sample.

    Y and X are even; returns (B, C, Y/2, X/2). Sums of slices, not a convolution, which a GPU may
    round to fewer digits (TF32).
    """
    return _reduce_last(_reduce_last(fine.transpose(2, 3)).transpose(2, 3))


def _reduce_last(fine: Tensor) -> Tensor:
    size = fine.shape[3]
    padded = pad(fine, (2, 1, 0, 0), mode="replicate")
    a, b, c, d, e = (padded[..., k : k + size : 2] for k in range(5))
    return ((a + e) + 4 * (b + d) + 6 * c) / 16


def expand(coarse: Tensor) -> Tensor:
    """Expand ``coarse`` (B, C, Y, X) to (B, C, 2Y, 2X): zeros between, smoothed, times 4.

    Of the five taps, an even sample meets 1, 6 and 1, an odd one 4 and 4.
    """
    return _expand_last(_expand_last(coarse.transpose(2, 3)).transpose(2, 3))


def _expand_last(coarse: Tensor) -> Tensor:
    before, here, after = pad(coarse, (1, 1, 0, 0), mode="replicate").unfold(3, 3, 1).unbind(-1)
    even = (before + after + 6 * here) / 8
    odd = (here + after) / 2
    return torch.stack((even, odd), -1).flatten(3)


def forward(image: Tensor, levels: int) -> list[Tensor]:
    """Decompose ``image`` (B, C, Y, X) into ``levels`` band-pass images and a low-pass image.

    Returns (B, C, Y/2**j, X/2**j) for j = 0 … ``levels``; the last is the low-pass.

    >>> [tuple(band.shape) for band in forward(torch.zeros(1, 1, 8, 12), 2)]
    [(1, 1, 8, 12), (1, 1, 4, 6), (1, 1, 2, 3)]

    Raises:
        StackError: the shape is not (B, C, Y, X) with Y and X multiples of ``2**levels``.
        OptionError: ``levels`` is no whole number from 0 on.
    """
    levels = whole_levels(levels, 0)
    period = 2**levels
    if image.ndim != 4 or 0 in image.shape or image.shape[2] % period or image.shape[3] % period:
        raise StackError(
            f"shape {tuple(image.shape)} cannot be decomposed: it must be (B, C, Y, X) with Y and "
            f"X multiples of 2**levels = {period}; pad it first"
        )
    pyramid = []
    for _ in range(levels):
        coarse = reduce(image)
        pyramid.append(image - expand(coarse))
        image = coarse
    return [*pyramid, image]


def inverse(pyramid: list[Tensor]) -> Tensor:
    """Rebuild the image (B, C, Y, X) from what :func:`forward` returned."""
    *details, image = pyramid
    for detail in reversed(details):
        image = detail + expand(image)
    return image
