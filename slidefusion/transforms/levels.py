"""How many levels a transform has."""

from __future__ import annotations

from typing import Any

from slidefusion.errors import OptionError
from slidefusion.geometry import as_whole

__all__ = ["whole_levels"]


def whole_levels(levels: Any, least: int = 1) -> int:
    """``levels`` as an int, if it is a whole number from ``least`` on.

    >>> whole_levels(3)
    3

    Raises:
        OptionError: it is not.
    """
    whole = as_whole(levels)
    if whole is None or whole < least:
        raise OptionError(f"levels={levels!r}: give a whole number, {least} or more")
    return whole
