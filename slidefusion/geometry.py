"""Whole numbers; rectangles and sizes in pixels."""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

__all__ = ["Size", "Window", "as_whole"]


def as_whole(value: Any) -> int | None:
    """``value`` as an int if it is a whole number, Python's or NumPy's; None for all else.

    >>> import numpy as np
    >>> as_whole(np.uint8(3)), as_whole(3.0), as_whole(True), as_whole("3")
    (3, None, None, None)
    """
    if isinstance(value, bool) or type(value).__name__ in ("bool", "bool_"):  # NumPy's, too
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


class Size(NamedTuple):
    """A height and a width in pixels."""

    height: int
    width: int


class Window(NamedTuple):
    """A rectangle in pixels: top-left corner ``(y, x)``, then ``height`` and ``width``.

    >>> Window(10, 20, 30, 40).bottom
    40
    """

    y: int
    x: int
    height: int
    width: int

    @property
    def bottom(self) -> int:
        """First row below the window."""
        return self.y + self.height

    @property
    def right(self) -> int:
        """First column right of the window."""
        return self.x + self.width

    @property
    def slices(self) -> tuple[slice, slice]:
        """``(y, x)`` slices that cut this window out of an array."""
        return slice(self.y, self.bottom), slice(self.x, self.right)

    @property
    def size(self) -> Size:
        """Height and width."""
        return Size(self.height, self.width)

    def relative_to(self, other: Window) -> Window:
        """This window in the coordinates of ``other``'s top-left corner.

        >>> Window(10, 20, 5, 5).relative_to(Window(8, 16, 20, 20))
        Window(y=2, x=4, height=5, width=5)
        """
        return Window(self.y - other.y, self.x - other.x, self.height, self.width)

    def contains(self, other: Window) -> bool:
        """Whether ``other`` lies inside this window."""
        return (
            self.y <= other.y
            and self.x <= other.x
            and other.bottom <= self.bottom
            and other.right <= self.right
        )
