"""What counts as white in a slide: the option of fusers whose numbers are fractions of it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from slidefusion.errors import OptionError
from slidefusion.fuser import Overview
from slidefusion.value_range import value_range, white_of

__all__ = ["check_white", "white_in", "white_level"]


def check_white(white: float | None) -> None:
    """Refuse what cannot be divided by.

    >>> check_white(4095.0)
    """
    if white is not None and not white > 0:
        raise OptionError(f"white={white}: the value that counts as white is above 0")


def white_in(dtype: npt.DTypeLike, white: float | None) -> float:
    """What pixels of ``dtype`` are divided by to make white 1: ``white``, if it is given.

    Always 255 for uint8; the range of the dtype (1.0 for float) when ``white`` is None.

    >>> white_in("uint8", 3000.0), white_in("uint16", 3000.0), white_in("uint16", None)
    (255.0, 3000.0, 65535.0)
    """
    if white is None or np.dtype(dtype) == np.uint8:
        return value_range(dtype)
    return white


def white_level(overview: Overview) -> float | None:
    """The value that counts as white in a slide (`white_of` its overview); None for uint8.

    >>> from slidefusion.testing.stacks import overview
    >>> white_level(overview(np.full((1, 1, 64, 64), 3000, np.uint16)))
    3000.0
    """
    if overview.dtype == np.uint8:
        return None
    return white_of(np.concatenate([overview.thumbnail.ravel(), overview.patches.ravel()]))
