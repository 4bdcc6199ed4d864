"""Halving an image: each pixel of the next level is the mean of 2 x 2, edges repeated."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from slidefusion.jit import kernel

__all__ = ["halve_mean", "halve_nearest"]


@kernel
def _mean_integer(image: Any, out: Any) -> None:  # pragma: no cover - compiled
    channels, height, width = image.shape
    _, rows, columns = out.shape
    full = width // 2
    for c in range(channels):
        for y in range(rows):
            top = image[c, 2 * y]
            bottom = image[c, min(2 * y + 1, height - 1)]
            line = out[c, y]
            for x in range(full):
                total = (
                    np.uint32(top[2 * x])
                    + np.uint32(top[2 * x + 1])
                    + np.uint32(bottom[2 * x])
                    + np.uint32(bottom[2 * x + 1])
                )
                line[x] = (total + np.uint32(2)) >> np.uint32(2)
            if full < columns:
                last = np.uint32(top[width - 1]) + np.uint32(bottom[width - 1])
                line[full] = (last + np.uint32(1)) >> np.uint32(1)


@kernel
def _mean_float(image: Any, out: Any) -> None:  # pragma: no cover - compiled
    channels, height, width = image.shape
    _, rows, columns = out.shape
    for c in range(channels):
        for y in range(rows):
            top = image[c, 2 * y]
            bottom = image[c, min(2 * y + 1, height - 1)]
            for x in range(columns):
                right = min(2 * x + 1, width - 1)
                left = 2 * x
                out[c, y, x] = np.float32(0.25) * (
                    (top[left] + top[right]) + (bottom[left] + bottom[right])
                )


def halve_mean(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The mean of every 2 x 2 pixels, (C, Y, X) to (C, ceil(Y/2), ceil(X/2)), rounded half up.

    >>> halve_mean(np.array([[[0, 2, 9], [4, 6, 9]]], np.uint8))
    array([[[3, 9]]], dtype=uint8)
    """
    channels, height, width = image.shape
    out = np.empty((channels, -(-height // 2), -(-width // 2)), image.dtype)
    kernel = _mean_float if image.dtype.kind == "f" else _mean_integer
    kernel(np.ascontiguousarray(image), out)
    return out


def halve_nearest(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Every second pixel, (C, Y, X) to (C, ceil(Y/2), ceil(X/2)): for labels, which have no mean.

    >>> halve_nearest(np.array([[[1, 2, 3]]], np.uint8))
    array([[[1, 3]]], dtype=uint8)
    """
    return np.ascontiguousarray(image[:, ::2, ::2])
