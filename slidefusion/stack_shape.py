"""What shape and dtype a focus stack may have, and what planes and channels are called by default.

Sizes that no slide exceeds are refused at once.

A damaged or hostile file may declare any size. Plans grow with the number of regions and
coordinates with the side in pixels, so sizes are checked before anything is planned.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from slidefusion.errors import StackError
from slidefusion.value_range import STACK_DTYPES, is_stack_dtype

__all__ = [
    "MAX_CHANNELS",
    "MAX_PLANES",
    "MAX_SIDE_PX",
    "check_shape",
    "check_size",
    "default_names",
    "default_offsets",
]

MAX_SIDE_PX = 2**22
"""A metre at 0.25 µm a pixel."""
MAX_PLANES = 2**16
"""As many as a depth map can name."""
MAX_CHANNELS = 2**12


def check_shape(shape: Sequence[int], dtype: Any, what: str) -> tuple[int, int, int, int]:
    """``shape`` as that of a stack (C, Z, Y, X).

    Raises
    ------
    StackError
        It has not 4 axes, is empty or larger than any slide, or holds values of another dtype.
    """
    if len(shape) != 4:
        change = (
            "add the missing ones, for example array[None] for one channel"
            if len(shape) < 4
            else "choose one time or position, for example array[0]"
        )
        raise StackError(
            f"{what} has {len(shape)} axes {tuple(shape)}; a focus stack has 4: (c, z, y, x): "
            f"{change}"
        )
    if min(shape) < 1:
        raise StackError(f"{what} is empty: shape {tuple(shape)} (c, z, y, x)")
    if not is_stack_dtype(dtype):
        raise StackError(
            f"{what} has dtype {dtype}; allowed are {', '.join(STACK_DTYPES)}: convert it with "
            ".astype(...) first"
        )
    c, z, y, x = map(int, shape)
    check_size((c, z, y, x), what)
    return c, z, y, x


def check_size(shape: Sequence[int], what: str) -> None:
    """Refuse a shape (C, Z, Y, X) that cannot be a slide's.

    Raises
    ------
    StackError
        Naming what is allowed.
    """
    channels, planes, height, width = shape
    if channels > MAX_CHANNELS or planes > MAX_PLANES or max(height, width) > MAX_SIDE_PX:
        raise StackError(
            f"{what} declares {channels} channels and {planes} planes of {height} x {width} px; "
            f"at most {MAX_CHANNELS} channels and {MAX_PLANES} planes of {MAX_SIDE_PX} x "
            f"{MAX_SIDE_PX} px are possible: its metadata is damaged, or its axes are mixed up"
        )


def default_offsets(planes: int) -> tuple[int, ...]:
    """Focus offsets about the middle plane.

    >>> default_offsets(5), default_offsets(2)
    ((-2, -1, 0, 1, 2), (-1, 0))
    """
    return tuple(z - planes // 2 for z in range(planes))


def default_names(channels: int, is_rgb: bool | None = None) -> tuple[str, ...]:
    """Names for channels that their source leaves unnamed; three are colours unless it knows.

    >>> default_names(3), default_names(1), default_names(2)
    (('red', 'green', 'blue'), ('gray',), ('channel 0', 'channel 1'))
    """
    if channels == 3 if is_rgb is None else is_rgb:
        return "red", "green", "blue"
    return ("gray",) if channels == 1 else tuple(f"channel {c}" for c in range(channels))
