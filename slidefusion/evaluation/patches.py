"""Patches of a slide: where they lie, which of them count, and where they are worst blurred."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from slidefusion.errors import StackError
from slidefusion.geometry import Window
from slidefusion.value_range import value_range

__all__ = ["grid", "has_content", "worst_place", "worst_places"]

_BLOCK_PX = 4


def grid(height: int, width: int, patch_px: int, what: str = "a slide") -> list[Window]:
    """Patches side by side from the top left; what is left at the bottom and right is not measured.

    Raises :class:`StackError` when not one fits; ``what`` names the slide.

    >>> grid(1024, 640, 512)
    [Window(y=0, x=0, height=512, width=512), Window(y=512, x=0, height=512, width=512)]
    """
    if patch_px < 16 or min(height, width) < patch_px:
        raise StackError(
            f"patches of {patch_px} px do not fit {what} of {height} x {width} px: patches have "
            "at least 16 px, and at most the slide's shorter side (patch_px, --patch)"
        )
    return [
        Window(y, x, patch_px, patch_px)
        for y in range(0, height - patch_px + 1, patch_px)
        for x in range(0, width - patch_px + 1, patch_px)
    ]


def has_content(truth: npt.NDArray[Any], minimum: float, white: float | None = None) -> bool:
    """Whether a patch of the truth (C, Y, X) shows more than glass.

    It does when the standard deviation of its gray values (mean of the channels) is at least
    ``minimum`` times ``white`` (the range of the dtype if None). At 0.02, a single pale cell on a
    patch of 512 px is content; dust, noise and uneven light are not.
    """
    gray = truth.mean(axis=0, dtype=np.float32)
    return float(gray.std()) >= minimum * (white or value_range(truth.dtype))


def worst_place(
    image: npt.NDArray[Any], truth: npt.NDArray[Any], side_px: int, white: float | None = None
) -> tuple[Window, float]:
    """The square of ``side_px`` where ``image`` (C, Y, X) is furthest from ``truth``.

    Also returns its mean absolute error, as a fraction of ``white`` (the range of the dtype if
    None). The error is averaged over channels and blocks of 4 px, and squares lie on that grid.
    """
    b = _BLOCK_PX
    _, height, width = truth.shape
    rows, columns = height // b, width // b
    error = np.abs(image.astype(np.float32) - truth.astype(np.float32)).mean(axis=0)
    blocks = error[: rows * b, : columns * b].reshape(rows, b, columns, b).mean(axis=(1, 3))
    ((place, mean),) = worst_places(blocks, b, side_px, (height, width), 1)
    return place, mean / (white or value_range(truth.dtype))


def worst_places(
    error: npt.NDArray[np.float32], block: int, side: int, size: tuple[int, int], count: int
) -> list[tuple[Window, float]]:
    """The ``count`` squares of ``side`` px with the largest mean error, the worst one first.

    ``error`` (h, w) has one value for each block of ``block`` x ``block`` px of an image of
    ``size`` (height, width). Squares lie on the grid of blocks and apart from each other, so there
    may be fewer than ``count``. With each comes its mean error.
    """
    height, width = size
    side = min(side, height, width)
    n = max(1, side // block)
    sums = np.pad(error.astype(np.float64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    boxes = sums[n:, n:] - sums[:-n, n:] - sums[n:, :-n] + sums[:-n, :-n]
    places: list[tuple[Window, float]] = []
    for _ in range(count):
        row, column = np.unravel_index(int(np.argmax(boxes)), boxes.shape)
        if boxes[row, column] == -np.inf:  # all that is left lies near another square
            break
        y, x = min(int(row) * block, height - side), min(int(column) * block, width - side)
        places.append((Window(y, x, side, side), float(boxes[row, column]) / (n * n)))
        far = 3 * n // 2
        boxes[max(0, row - far) : row + far, max(0, column - far) : column + far] = -np.inf
    return places
