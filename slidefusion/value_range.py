"""What the dtype of a stack can be, the range that its pixels have, and what of it is white."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["STACK_DTYPES", "depth_dtype", "is_stack_dtype", "value_range", "white_of"]

STACK_DTYPES = ("uint8", "uint16", "float32")
"""What a focus stack holds, and so what comes out of one."""


def is_stack_dtype(dtype: npt.DTypeLike) -> bool:
    """Whether a focus stack may hold values of this dtype, in whatever byte order.

    >>> is_stack_dtype(">u2"), is_stack_dtype("float64")
    (True, False)
    """
    return np.dtype(dtype).name in STACK_DTYPES


def depth_dtype(planes: int) -> type[np.unsignedinteger[Any]]:
    """The dtype of an index of ``planes`` planes: uint8 or uint16.

    >>> depth_dtype(256).__name__, depth_dtype(257).__name__
    ('uint8', 'uint16')
    """
    return np.uint8 if planes <= 256 else np.uint16


def value_range(dtype: npt.DTypeLike) -> float:
    """Largest value of an integer dtype; 1.0 for floats, whose pixels are in 0 … 1.

    >>> value_range("uint8"), value_range("float32")
    (255.0, 1.0)
    """
    kind = np.dtype(dtype)
    return float(np.iinfo(kind).max) if kind.kind in "ui" else 1.0


def white_of(samples: npt.NDArray[Any]) -> float:
    """The value that counts as white in a slide of which ``samples`` are pixels, of any shape.

    The dtype's range (1.0 for float), unless the brightest values (99.9th percentile) lie in the
    lower half of it, as those of a 12-bit camera in uint16 do, or above it: then it is those.
    Always 255 for uint8.

    >>> white_of(np.full(100, 3000, np.uint16)), white_of(np.full(100, 40000, np.uint16))
    (3000.0, 65535.0)
    """
    full = value_range(samples.dtype)
    finite = samples[np.isfinite(samples)]
    if samples.dtype == np.uint8 or not finite.size:
        return full
    bright = float(np.percentile(finite, 99.9))
    return full if full / 2 < bright <= full or bright <= 0 else bright
