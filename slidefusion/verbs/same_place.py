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
_COARSE = 4
"""Pixels that are one value where images are compared."""
_FAINT = 4 / 255
"""Of white: a place that varies by less is too little to tell."""
_RELATED = 0.4
"""Correlation with its image that a plane has at least; out of focus it is still above 0.9."""
_SAME = 0.85
"""Correlation that an image has at least with a plane that was moved to its place. Other images
come to half of it, where one part happens to look like another."""
_SHIFT_PX = 3
"""What counts as shifted: planes of one scan differ by a pixel or two."""
_GAIN = 0.03
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
    return max(places, key=lambda place: float(_gray(read(place)).std()))


def _gray(pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """The mean of the channels (C, Y, X), each value that of four times four pixels.

    A camera's noise is gone from these, of which a place may have more than of structure.
    """
    gray = pixels.mean(axis=0, dtype=np.float32)
    height, width = (side // _COARSE * _COARSE or side for side in gray.shape)
    down, across = (_COARSE if side >= _COARSE else 1 for side in gray.shape)
    blocks = gray[:height, :width].reshape(height // down, down, width // across, across)
    return np.asarray(blocks.mean(axis=(1, 3)))


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
    right = _gray(image)
    if not right.std() >= _FAINT * white:  # or it is no number
        return
    seen = list(planes)
    found = [correlation(right, _gray(plane)) for plane in seen]
    best = int(np.argmax(found))
    sharp, plane = (one.mean(axis=0, dtype=np.float32) for one in (image, seen[best]))
    down, across = map(round, displacement(sharp, plane))
    shown, there = overlap(sharp, plane, down, across)
    here, _ = overlap(plane, plane, down, across)
    moved, unmoved = (
        correlation(_gray(shown[np.newaxis]), _gray(other[np.newaxis])) for other in (there, here)
    )
    if found[best] < _RELATED and moved < _SAME:
        raise StackError(
            f"{names[0]} does not show what {names[1]} shows: from y {place.y}, x {place.x} it is "
            f"like none of the planes (correlation {found[best]:.2f} at most); were both given in "
            "the same order?"
        )
    if max(abs(down), abs(across)) >= _SHIFT_PX and moved > max(_SAME, unmoved + _GAIN):
        advise(
            f"{names[0]} is shifted against {names[1]}: from y {place.y}, x {place.x} it lies "
            f"{down} px further down and {across} px further right; move it first, or what is "
            "learnt or measured is wrong"
        )
