"""Colour pictures as channels: what to do with transparency."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from slidefusion.errors import StackError
from slidefusion.value_range import value_range

__all__ = ["drop_alpha"]


def drop_alpha(image: npt.NDArray[Any], what: str) -> npt.NDArray[Any]:
    """(C, Y, X) without its last channel, the alpha, which must be opaque everywhere.

    What lies under transparency is undefined, and which background to put there is a choice that
    changes the picture, so it is not made here.

    Raises:
        StackError: some pixel is transparent.

    >>> drop_alpha(np.full((4, 2, 2), 255, np.uint8), "a.png").shape
    (3, 2, 2)
    """
    transparent = int(np.count_nonzero(image[-1] != value_range(image.dtype)))
    if transparent:
        raise StackError(
            f"{what} has {transparent} transparent pixels, and what they show is not defined: "
            "flatten the planes onto a background first"
        )
    return image[:-1]
