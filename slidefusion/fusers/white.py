"""What counts as white in a slide: the option of fusers whose numbers are fractions of it."""

from __future__ import annotations

import numpy as np

from slidefusion.errors import OptionError
from slidefusion.fuser import Overview
from slidefusion.value_range import white_of

__all__ = ["check_white", "white_level"]


def check_white(white: float | None) -> None:
    """Refuse what cannot be divided by.

    >>> check_white(4095.0)
    """
    if white is not None and not white > 0:
        raise OptionError(f"white={white}: the value that counts as white is above 0")


def white_level(overview: Overview) -> float | None:
    """The value that counts as white in a slide (`white_of` its overview); None for uint8.

    >>> from slidefusion.testing.stacks import overview
    >>> white_level(overview(np.full((1, 1, 64, 64), 3000, np.uint16)))
    3000.0
    """
    if overview.dtype == np.uint8:
        return None
    return white_of(np.concatenate([overview.thumbnail.ravel(), overview.patches.ravel()]))
