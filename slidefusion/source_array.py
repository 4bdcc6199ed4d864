"""A plane source that slices like an array."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from slidefusion.engine import PlaneSource
from slidefusion.geometry import Window

__all__ = ["SourceArray"]


class SourceArray:
    """A plane source (C, Z, Y, X) that can be sliced, for ``dask.array.from_array``."""

    ndim = 4

    def __init__(self, source: PlaneSource, stack: Any = None) -> None:
        self.source, self.stack = source, stack
        self.shape = source.shape
        self.dtype = source.dtype

    def __getitem__(self, index: Any) -> npt.NDArray[Any]:
        index = index if isinstance(index, tuple) else (index,)
        index = (*index, *(slice(None),) * (4 - len(index)))
        c, z, y, x = index
        rows, y = _span(y, self.shape[2])
        columns, x = _span(x, self.shape[3])
        window = Window(
            rows.start, columns.start, rows.stop - rows.start, columns.stop - columns.start
        )
        chosen = np.arange(self.shape[1])[z]
        planes = [self.source.read(int(k), window) for k in np.atleast_1d(chosen)]
        block = np.stack(planes, axis=1)
        block = block[:, :, :, x][:, :, y]
        return np.asarray((block[:, 0] if np.ndim(chosen) == 0 else block)[c])


def _span(index: Any, length: int) -> tuple[slice, Any]:
    """The contiguous range that covers ``index``, and the index inside that range."""
    if isinstance(index, (int, np.integer)):
        k = int(index) % length
        return slice(k, k + 1), 0
    start, stop, step = index.indices(length)
    if step == 1:
        return slice(start, max(start, stop)), slice(None)
    positions = range(start, stop, step)
    low, high = (min(positions), max(positions) + 1) if positions else (0, 0)
    return slice(low, high), [p - low for p in positions]
