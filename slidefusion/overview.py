"""What a fuser's ``prepare`` gets to see of the whole slide, independent of how it is cut."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from slidefusion.engine import PlaneSource, read_plane
from slidefusion.geometry import Window
from slidefusion.stack import FocusStack

__all__ = ["MemoryOverview", "SlideOverview"]

_THUMBNAIL_PX = 1024
_PATCH_PX = 128
_PATCH_GRID = 5
_READERS = 8
_QUICK_S = 1e-3
"""In which a patch of one plane is read from a store that is not waited for."""


@dataclass(frozen=True)
class MemoryOverview:
    """An :class:`~slidefusion.fuser.Overview` of arrays that are there already."""

    thumbnail: npt.NDArray[Any]
    patches: npt.NDArray[Any]
    downsample: float = 1.0
    pixel_size_um: tuple[float, float] | None = None
    z_um: tuple[float, ...] | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the patches."""
        return self.patches.dtype


class SlideOverview:
    """An :class:`~slidefusion.fuser.Overview` of some planes of a stack, read when asked for.

    The thumbnail comes from the coarsest pyramid level that is large enough, or is subsampled from
    level 0, strip by strip, when there is no pyramid. Reading raises ``ProcessingError`` when the
    store cannot be read.
    """

    def __init__(self, stack: FocusStack, planes: Sequence[int]) -> None:
        assert stack.source is not None, "a Dask array is wrapped as a source before"
        self._source, self._planes = stack.source, tuple(planes)
        self._levels = stack.levels or (stack.source,)
        self.pixel_size_um = stack.pixel_size_um
        self.z_um = None if stack.z_um is None else tuple(stack.z_um[z] for z in planes)

    @functools.cached_property
    def thumbnail(self) -> npt.NDArray[Any]:
        """(Z, C, h, w)."""
        return _subsample(_thumbnail_level(self._levels), self._planes)

    @functools.cached_property
    def patches(self) -> npt.NDArray[Any]:
        """(N, Z, C, p, p)."""
        return _patches(self._source, self._planes)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the stack."""
        return self._source.dtype

    @property
    def downsample(self) -> float:
        """Level-0 pixels a thumbnail pixel."""
        height, width = self._source.shape[2:]
        rows, columns = self.thumbnail.shape[2:]
        return float(max(height / rows, width / columns))


def _thumbnail_level(levels: Sequence[PlaneSource]) -> PlaneSource:
    """The coarsest level that is at least half a thumbnail, or the coarsest there is."""
    large = [level for level in levels if max(level.shape[2:]) > _THUMBNAIL_PX // 2]
    return large[-1] if large else levels[0]


def _subsample(source: PlaneSource, planes: Sequence[int]) -> npt.NDArray[Any]:
    _, _, height, width = source.shape
    step = max(1, -(-max(height, width) // _THUMBNAIL_PX))
    strip = max(1, 256 // step) * step
    columns = []
    for z in planes:
        rows = [
            read_plane(source, z, Window(y, 0, min(strip, height - y), width))[:, ::step, ::step]
            for y in range(0, height, strip)
        ]
        columns.append(np.concatenate(rows, axis=1))
    return np.stack(columns)


def _patches(source: PlaneSource, planes: Sequence[int]) -> npt.NDArray[Any]:
    _, _, height, width = source.shape
    side_y, side_x = min(_PATCH_PX, height), min(_PATCH_PX, width)

    def patch(at: tuple[int, int]) -> npt.NDArray[Any]:
        y, x = (
            (length - side) * (2 * step + 1) // (2 * _PATCH_GRID)
            for length, side, step in zip((height, width), (side_y, side_x), at, strict=True)
        )
        # On multiples of the side a patch lies in one chunk, and decodes no others.
        window = Window(y - y % side_y, x - x % side_x, side_y, side_x)
        return np.stack([read_plane(source, z, window) for z in planes])

    steps = range(_PATCH_GRID)
    first, *rest = ((row, column) for row in steps for column in steps)
    start = time.perf_counter()
    found = [patch(first)]
    # More threads than processors where a store is waited for; where it is not, they only compete.
    waits = time.perf_counter() - start > _QUICK_S * len(planes)
    with ThreadPoolExecutor(_READERS if waits else 1) as readers:
        return np.stack([*found, *readers.map(patch, rest)])
