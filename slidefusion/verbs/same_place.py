"""Whether an image shows what the planes of a stack show, and in the same place."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from slidefusion.errors import StackError, advise
from slidefusion.geometry import Window
from slidefusion.registration import correlation, displacement, overlap

__all__ = ["check_same_place", "fullest_place"]

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
    found = [correlation(right, gray) for gray in grays]
    best = int(np.argmax(found))
    down, across = map(round, displacement(right, grays[best]))
    moved = correlation(*overlap(right, grays[best], down, across))
    if max(found[best], moved) < _RELATED:
        raise StackError(
            f"{names[0]} does not show what {names[1]} shows: from y {place.y}, x {place.x} it is "
            f"like none of the planes (correlation {found[best]:.2f} at most); were both given in "
            "the same order?"
        )
    if max(abs(down), abs(across)) >= _SHIFT_PX and moved - found[best] > _GAIN:
        advise(
            f"{names[0]} is shifted against {names[1]}: from y {place.y}, x {place.x} it lies "
            f"{down} px further down and {across} px further right; move it first, or what is "
            "learnt or measured is wrong"
        )
