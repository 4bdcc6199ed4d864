"""What a fuser's ``prepare`` gets to see of the whole slide, independent of how it is cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from slidefusion.engine import PlaneSource
from slidefusion.fuser import Overview
from slidefusion.geometry import Window
from slidefusion.stack import FocusStack

__all__ = ["make_overview"]

_THUMBNAIL_PX = 1024
_PATCH_PX = 128
_PATCH_GRID = 5


def make_overview(stack: FocusStack, planes: Sequence[int]) -> Overview:
    """A thumbnail and a grid of full-resolution patches of these planes.

    The thumbnail comes from the coarsest pyramid level that is large enough, or is subsampled from
    level 0, strip by strip, when there is no pyramid.

    Raises
    ------
    ProcessingError
        When the store cannot be read.
    """
    base = stack.source
    assert base is not None, "a Dask array is wrapped as a source before"
    level = _thumbnail_level(stack.levels or (base,))
    height, width = stack.shape[2:]
    thumbnail = _subsample(level, planes)
    return Overview(
        thumbnail=thumbnail,
        patches=_patches(base, planes),
        downsample=max(height / thumbnail.shape[2], width / thumbnail.shape[3]),
        pixel_size_um=stack.pixel_size_um,
        z_um=None if stack.z_um is None else tuple(stack.z_um[z] for z in planes),
    )


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
            source.read(z, Window(y, 0, min(strip, height - y), width))[:, ::step, ::step]
            for y in range(0, height, strip)
        ]
        columns.append(np.concatenate(rows, axis=1))
    return np.stack(columns)


def _patches(source: PlaneSource, planes: Sequence[int]) -> npt.NDArray[Any]:
    _, _, height, width = source.shape
    side_y, side_x = min(_PATCH_PX, height), min(_PATCH_PX, width)
    found = []
    for row in range(_PATCH_GRID):
        for column in range(_PATCH_GRID):
            y = (height - side_y) * (2 * row + 1) // (2 * _PATCH_GRID)
            x = (width - side_x) * (2 * column + 1) // (2 * _PATCH_GRID)
            window = Window(y, x, side_y, side_x)
            found.append(np.stack([source.read(z, window) for z in planes]))
    return np.stack(found)
