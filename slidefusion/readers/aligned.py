"""A reader whose planes are moved upon each other, for scans that drift from plane to plane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from slidefusion.engine import PlaneSource
from slidefusion.geometry import Size, Window
from slidefusion.readers.base import Reader
from slidefusion.registration import Gray, plane_shifts
from slidefusion.value_range import white_of

__all__ = ["AlignedReader", "Shifts", "aligned", "drift_of"]

Shifts = tuple[tuple[int, int], ...]
"""(down, right) of each plane, in px."""

_GRID = 4
_SIDE_PX = 512
_PLACES = 6
"""Of the places of the grid, those with the most in them are compared."""
_ANY = Size(1, 1)
"""The tile of a source of which any rectangle can be read alone."""


class AlignedReader:
    """``reader`` with its planes moved by whole pixels, so that none is interpolated.

    Where a moved plane ends before the slide does, its last row or column is repeated. All that
    is not said here is the reader's.
    """

    def __init__(self, reader: Reader, shifts: Shifts) -> None:
        self._reader = reader
        self.shifts = shifts
        """How far (down, right) each plane lies from the reference plane, in px."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # also while it is unpickled
            raise AttributeError(name)
        return getattr(self._reader, name)

    @property
    def provenance(self) -> dict[str, Any]:
        """The reader's, and by how much its planes were moved."""
        return {**self._reader.provenance, "planes_moved_by_px": [[-y, -x] for y, x in self.shifts]}

    def read(self, z: int, window: Window) -> npt.NDArray[Any]:
        """``window`` of the moved plane ``z`` as an array (C, h, w).

        Raises what the reader raises.
        """
        _, _, height, width = self._reader.shape
        down, right = self.shifts[z]
        rows = np.clip(np.arange(window.y, window.bottom) + down, 0, height - 1)
        columns = np.clip(np.arange(window.x, window.right) + right, 0, width - 1)
        y, x = int(rows[0]), int(columns[0])
        there = Window(y, x, int(rows[-1]) - y + 1, int(columns[-1]) - x + 1)
        found = self._reader.read(z, there)
        if there.height == window.height and there.width == window.width:
            return found
        return found[:, (rows - y)[:, np.newaxis], columns - x]


def aligned(reader: Reader, reference: int) -> Reader:
    """``reader`` with its planes moved to where the plane ``reference`` lies."""
    # What it does not say, the reader does.
    return cast("Reader", AlignedReader(reader, drift_of(reader, reference, reader.tile)))


def drift_of(
    source: PlaneSource,
    reference: int,
    tile: Size = _ANY,
    *,
    side_px: int = _SIDE_PX,
    most: int = _PLACES,
) -> Shifts:
    """How far (down, right) each plane lies from the plane ``reference``, in whole px.

    That is found at the places, ``most`` at most, where that plane shows most, once for a whole
    plane: planes that are turned, enlarged, or moved differently from place to place have no such
    numbers. ``tile`` is what has to be read at once.

    Raises what reading raises.
    """
    _, count, height, width = source.shape
    tall, wide = min(side_px, height), min(side_px, width)
    ys = [(height - tall) * k // (_GRID - 1) for k in range(_GRID)]
    xs = [(width - wide) * k // (_GRID - 1) for k in range(_GRID)]
    grid = list(dict.fromkeys(Window(y, x, tall, wide) for y in ys for x in xs))
    seen = dict(zip(grid, _grays(source, reference, grid, tile), strict=True))
    white = white_of(np.stack(list(seen.values())).astype(source.dtype))
    places = sorted(seen, key=lambda place: -float(seen[place].std()))[:most]
    planes = (_grays(source, z, places, tile) for z in range(count))
    shifts = plane_shifts(planes, reference, white)
    return tuple((round(y), round(x)) for y, x in shifts.tolist())


def _grays(source: PlaneSource, z: int, places: Sequence[Window], tile: Size) -> list[Gray]:
    """The mean of the channels of plane ``z`` at these places."""
    _, _, height, width = source.shape
    if 2 * tile.height * tile.width > height * width:  # any place decodes it all
        plane = np.asarray(source.read(z, Window(0, 0, height, width)))
        found = [plane[(slice(None), *place.slices)] for place in places]
    else:
        found = [np.asarray(source.read(z, place)) for place in places]
    return [pixels.mean(axis=0, dtype=np.float32) for pixels in found]
