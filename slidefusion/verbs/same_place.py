"""Whether an image shows what the planes of a stack show, and in the same place."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from slidefusion.errors import StackError
from slidefusion.geometry import Window

__all__ = ["check_same_place", "displacement", "fullest_place"]

_LOG = logging.getLogger("slidefusion")

Gray = npt.NDArray[np.float32]

_SIDE_PX = 256
"""Of the place where an image is compared with planes."""
_FAINT = 5 / 255
"""Of white: a place that varies by less is too little to tell, beside a camera's noise."""
_RELATED = 0.4
"""Correlation with its image that a plane has at least; out of focus it is still above 0.9."""
_SHIFT_PX = 3
"""What counts as shifted: planes of one scan differ by a pixel or two."""
_GAIN = 0.02
"""By how much moving an image has to raise its correlation, for it to count as shifted."""


def fullest_place(size: tuple[int, int], read: Callable[[Window], npt.NDArray[Any]]) -> Window:
    """Of nine places in an image of ``size`` (height, width), the one with the most in it."""
    height, width = size
    side = min(_SIDE_PX, height, width)
    places = [
        Window((height - side) * row // 2, (width - side) * column // 2, side, side)
        for row in range(3)
        for column in range(3)
    ]
    return max(places, key=lambda place: float(read(place).std()))


def check_same_place(
    image: npt.NDArray[Any],
    planes: Iterable[npt.NDArray[Any]],
    *,
    white: float,
    names: tuple[str, str],
    place: Window,
) -> None:
    """Compare ``image`` (C, Y, X), which counts as right, with planes (C, Y, X) of a stack.

    ``white`` is the value that counts as white; ``names`` of the image and the stack, and the
    ``place`` where both were read, are for the text. An image that shows the same but shifted is
    warned of.

    Raises :class:`StackError` if no plane shows what the image shows.
    """
    right = image.mean(axis=0, dtype=np.float32)
    if not right.std() >= _FAINT * white:  # or it is no number
        return
    grays = [plane.mean(axis=0, dtype=np.float32) for plane in planes]
    found = [_correlation(right, gray) for gray in grays]
    best = int(np.argmax(found))
    down, across = displacement(right, grays[best])
    moved = _correlation(*_overlap(right, grays[best], down, across))
    if max(found[best], moved) < _RELATED:
        raise StackError(
            f"{names[0]} does not show what {names[1]} shows: from y {place.y}, x {place.x} it is "
            f"like none of the planes (correlation {found[best]:.2f} at most); were both given in "
            "the same order?"
        )
    if max(abs(down), abs(across)) >= _SHIFT_PX and moved - found[best] > _GAIN:
        _LOG.warning(
            "%s is shifted against %s: from y %d, x %d it lies %d px further down and %d px "
            "further right; move it first, or what is learnt or measured is wrong",
            *names, place.y, place.x, down, across,
        )  # fmt: skip


def displacement(image: Gray, other: Gray) -> tuple[int, int]:
    """By how many rows and columns ``image`` (Y, X) lies further down and right than ``other``.

    Up to a quarter of their sides, where their correlation is largest.

    >>> spot = np.zeros((64, 64), np.float32)
    >>> spot[30:34, 30:34] = 1
    >>> displacement(np.roll(spot, (5, -3), (0, 1)), spot)
    (5, -3)
    """
    window = np.outer(*(np.hanning(side) for side in image.shape))
    first, second = (np.fft.rfft2((one - one.mean()) * window) for one in (image, other))
    likeness = np.fft.irfft2(first * second.conj(), image.shape)
    ways = [np.fft.fftfreq(side, 1 / side).astype(int) for side in image.shape]
    near = np.logical_and.outer(
        *(np.abs(way) <= side // 4 for way, side in zip(ways, image.shape, strict=True))
    )
    y, x = np.unravel_index(int(np.argmax(np.where(near, likeness, -np.inf))), likeness.shape)
    return int(ways[0][y]), int(ways[1][x])


def _overlap(image: Gray, other: Gray, down: int, across: int) -> tuple[Gray, Gray]:
    """What both show when ``image`` is moved back by so many rows and columns."""
    height, width = image.shape
    ours = np.s_[max(down, 0) : height + min(down, 0), max(across, 0) : width + min(across, 0)]
    theirs = np.s_[max(-down, 0) : height - max(down, 0), max(-across, 0) : width - max(across, 0)]
    return image[ours], other[theirs]


def _correlation(one: Gray, other: Gray) -> float:
    if not one.std() or not other.std():
        return 0.0
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])
