"""The range that pixels of a dtype have."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["value_range"]


def value_range(dtype: npt.DTypeLike) -> float:
    """Largest value of an integer dtype; 1.0 for floats, whose pixels are in 0 … 1.

    >>> value_range("uint8"), value_range("float32")
    (255.0, 1.0)
    """
    kind = np.dtype(dtype)
    return float(np.iinfo(kind).max) if kind.kind in "ui" else 1.0
