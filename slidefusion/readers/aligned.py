"""A reader whose planes are moved upon each other, for scans that drift from plane to plane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from slidefusion.engine import PlaneSource
from slidefusion.errors import SlidefusionError, advise
from slidefusion.geometry import Size, Window
from slidefusion.overview import read_parts
from slidefusion.readers.base import Reader
from slidefusion.registration import Gray, plane_shifts
from slidefusion.stack import from_group

__all__ = ["AlignedReader", "Shifts", "aligned", "drift_of", "warn_of_drift"]

Shifts = tuple[tuple[int, int], ...]
"""(down, right) of each plane, in px."""

_SIDE_PX = 512
_FEWEST, _MOST = 4, 8
"""Places of that side that are looked at along an axis, beside each other unless the slide is so
large that there would be more: tissue of 2 mm on one of 15 x 15 mm is met."""
_CHUNK = Size(256, 256)
"""The tile of a stack in a store."""
_LOOK_PX = 256
"""Side of what is read of each place to see what is there, if they are more than the fewest."""
_PLACES = 12
"""Of the places of the grid, those with the most in them are compared."""
_EMPTY = 0.02
"""Of the range of a slide's values: a place that varies by less shows nothing to compare."""
_WARNED_PX = 3
"""From which on planes are said to lie beside each other. Planes of phantoms of 1024 px, which do
not, seem to by up to 1.8 px where they are farthest out of focus."""


class AlignedReader:
    """``reader`` with its planes moved by whole pixels, so that none is interpolated.

    Where a moved plane ends before the slide does, its last row or column is repeated. All that
    is not said here is the reader's.
    """

    def __init__(self, reader: Reader, shifts: Shifts) -> None:
        self._reader = reader
        # By themselves, as from Python 3.12 on what ``__getattr__`` gives makes no Reader.
        self.name, self.shape, self.dtype = reader.name, reader.shape, reader.dtype
        self.tile, self.pixel_size_um, self.z_um = reader.tile, reader.pixel_size_um, reader.z_um
        self.channel_names, self.is_rgb = reader.channel_names, reader.is_rgb
        self.shifts = shifts
        """How far (down, right) each plane lies from the reference plane, in px."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # also while it is unpickled
            raise AttributeError(name)
        return getattr(self._reader, name)

    def close(self) -> None:
        """Close the reader."""
        self._reader.close()

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


def aligned(reader: Reader, reference: int, retries: int = 3) -> Reader:
    """``reader`` with its planes moved to where the plane ``reference`` lies.

    Warns of planes of which nothing can be told. Raises :class:`ProcessingError` when it cannot be
    read, nor after so many ``retries``.
    """
    shifts, alone = drift_of(reader, reference, reader.tile, retries=retries)
    if alone and len(shifts) > 1:
        listed = ", ".join(f"{z - reference:+d}" if z != reference else "0" for z in alone)
        advise(
            f"planes {listed} show nothing that another plane shows, too, so that it cannot be "
            "told where they lie: they are moved as the planes before them"
        )
    return cast("Reader", AlignedReader(reader, shifts))  # what it does not say, the reader does


def drift_of(
    source: PlaneSource,
    reference: int,
    tile: Size = _CHUNK,
    *,
    most: int = _PLACES,
    retries: int = 3,
) -> tuple[Shifts, list[int]]:
    """How far (down, right) each plane lies from the plane ``reference``, in whole px.

    That is found at the places, ``most`` at most, where that plane shows most, once for a whole
    plane: planes that are turned, enlarged, or moved differently from place to place have no such
    numbers. Less than a pixel counts as none, since what comes into focus beside what goes out of
    it looks like as much. ``tile`` is what has to be read at once. The second result are the planes
    of which nothing can be told.

    Raises :class:`ProcessingError` when ``source`` cannot be read.
    """
    _, count, height, width = source.shape
    tall, wide = min(_SIDE_PX, height), min(_SIDE_PX, width)
    grid = [Window(y, x, tall, wide) for y in _starts(height, tall) for x in _starts(width, wide)]
    few = len(grid) <= _FEWEST**2
    looks = grid if few else [_middle(place, tile) for place in grid]
    seen = dict(zip(grid, _grays(source, reference, looks, tile, retries), strict=True))
    places = sorted(seen, key=lambda place: -float(seen[place].std()))[:most]
    values = np.concatenate([gray.ravel() for gray in seen.values()])
    dark, bright = np.percentile(values, (0.1, 99.9))
    planes = (_grays(source, z, places, tile, retries) for z in range(count))
    found, alone = plane_shifts(planes, reference, _EMPTY * float(bright - dark))
    shifts = found * (2 if _is_halved(tall, wide) else 1)
    return tuple((_whole(down), _whole(right)) for down, right in shifts.tolist()), alone


def _starts(length: int, side: int) -> list[int]:
    """Where places of so many px begin along an axis."""
    count = min(max(length // side, _FEWEST), _MOST)
    return sorted({(length - side) * k // (count - 1) for k in range(count)})


def _middle(place: Window, tile: Size) -> Window:
    """What is looked at of a place: about its middle, within one tile if tiles are large enough."""
    y, height = _within(place.y, place.height, tile.height)
    x, width = _within(place.x, place.width, tile.width)
    return Window(y, x, height, width)


def _within(start: int, length: int, tile: int) -> tuple[int, int]:
    middle = start + length // 2
    if tile < _LOOK_PX // 2:
        return middle - _LOOK_PX // 2, _LOOK_PX
    first = middle // tile * tile
    low, high = max(first, start), min(first + tile, start + length)
    side = min(_LOOK_PX, high - low)
    return min(max(middle - side // 2, low), high - side), side


def warn_of_drift(where: str, reference: int) -> None:
    """Warn of a stack at ``where`` whose planes drift, as every fusion of it has double edges."""
    try:
        source: Any = from_group(where).source
        shifts, _ = drift_of(source, reference, most=6)
    except SlidefusionError:  # the stack is whole, read or not
        return
    down, right = max(shifts, key=lambda shift: max(map(abs, shift)))
    if max(abs(down), abs(right)) >= _WARNED_PX:
        plane = shifts.index((down, right)) - reference
        vertical, horizontal = "lower" if down > 0 else "higher", "right" if right > 0 else "left"
        advise(
            f"the planes of {where} lie beside each other, plane {plane:+d} {abs(down)} px "
            f"{vertical} and {abs(right)} px further {horizontal} than plane 0: fused so, edges "
            "would be double; convert with align=True (--align), which moves them"
        )


def _whole(pixels: float) -> int:
    return round(pixels) if abs(pixels) >= 1 else 0


def _is_halved(height: int, width: int) -> bool:
    """Whether places of this size are compared at half of it: what is compared is coarse enough."""
    return min(height, width) >= _SIDE_PX // 2


def _grays(
    source: PlaneSource, z: int, places: Sequence[Window], tile: Size, retries: int
) -> list[Gray]:
    """The mean of the channels of plane ``z`` at these places; 0 for what is no number."""
    _, _, height, width = source.shape
    if 2 * tile.height * tile.width > height * width:  # any place decodes it all
        whole = (z, 0, 0, height, width)
        plane = read_parts(source, [whole], retries)[0][whole]
        found = [plane[(slice(None), *place.slices)] for place in places]
    else:
        parts, _ = read_parts(source, [(z, *place) for place in places], retries)
        found = [parts[(z, *place)] for place in places]
    return [_small(np.nan_to_num(pixels.mean(axis=0, dtype=np.float32))) for pixels in found]


def _small(gray: Gray) -> Gray:
    height, width = gray.shape
    if not _is_halved(height, width):
        return gray
    pairs = gray[: height // 2 * 2, : width // 2 * 2].reshape(height // 2, 2, width // 2, 2)
    return np.asarray(pairs.mean(axis=(1, 3)))
