"""One global grid of overlapping tiles, and how what was made of each becomes one image.

Tile k of an axis covers ``[k * stride, k * stride + tile)`` with ``stride = tile - overlap``, from
the slide's origin on. Where two tiles overlap they are weighted by the distance from their ends
(arXiv:2001.00692: 512 px tiles, 128 px of overlap): a linear ramp over the overlap that never
reaches 0, and the two ramps sum to 1. At the ends of the slide there is no neighbour and no ramp.
Weights of the two axes multiply. A tile that reaches beyond the slide is filled up by reflection.

Because windows of such a fuser start on multiples of the stride, the grid is known from the window
alone; a tile is computed from the same pixels whichever window it lies in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from slidefusion.geometry import Size, Window

__all__ = ["RowMerger", "TileGrid", "cut_tile", "ramp"]

FloatArray = npt.NDArray[np.float32]

_ROWS = 32


def ramp(tile: int, overlap: int, first: bool, last: bool) -> FloatArray:
    """Weights (tile,) along one axis; without the ramp where a tile has no neighbour.

    >>> ramp(4, 1, first=False, last=True).tolist()
    [0.5, 1.0, 1.0, 1.0]
    """
    weights = np.ones(tile, np.float32)
    rising = np.arange(1, overlap + 1, dtype=np.float32) / np.float32(overlap + 1)
    if not first:
        weights[:overlap] = rising
    if not last:
        weights[tile - overlap :] = np.float32(1) - rising
    return weights


@dataclass(frozen=True)
class TileGrid:
    """The tiles of a window whose origin lies on the grid.

    >>> grid = TileGrid(Size(1000, 512), tile=512, overlap=128)
    >>> grid.rows, grid.columns, grid.touching(Window(400, 0, 100, 512))
    (3, 1, (range(0, 2), range(0, 1)))
    """

    size: Size
    """Of the part of the window that lies on the slide."""
    tile: int
    """Side of a tile in px."""
    overlap: int
    """Shared with each neighbour, in px; at most half a tile."""

    @property
    def stride(self) -> int:
        """From one tile to the next, in px."""
        return self.tile - self.overlap

    @property
    def rows(self) -> int:
        """Tiles from top to bottom: no more than are needed to cover all."""
        return max(1, -(-(self.size.height - self.overlap) // self.stride))

    @property
    def columns(self) -> int:
        """Tiles from left to right."""
        return max(1, -(-(self.size.width - self.overlap) // self.stride))

    def touching(self, part: Window) -> tuple[range, range]:
        """Rows and columns of the tiles that contribute to ``part``."""
        return (
            self._touching(part.y, part.bottom, self.rows),
            self._touching(part.x, part.right, self.columns),
        )

    def _touching(self, start: int, stop: int, count: int) -> range:
        first = max(0, (start - self.tile) // self.stride + 1)
        # A part in the padding below the slide needs the last tile, which is reflected there.
        return range(min(first, count - 1), min(count, -(-stop // self.stride)))

    def place(self, row: int, column: int) -> Window:
        """Where that tile lies; the last ones may reach beyond ``size``."""
        return Window(row * self.stride, column * self.stride, self.tile, self.tile)


def cut_tile(strip: npt.NDArray[Any], x: int, tile: int) -> npt.NDArray[Any]:
    """Columns ``x`` to ``x + tile`` of a strip (..., h, w); beyond its ends it is reflected.

    ``h`` is at most ``tile``, and ``x`` lies in the strip. Reflection repeats the edge's pixel
    (``mode="symmetric"``) and goes to and fro as often as it must.

    >>> cut_tile(np.array([[1, 2, 3]]), 1, 4).tolist()[0]
    [2, 3, 3, 2]
    """
    part = strip[..., x : x + tile]
    below, right = tile - part.shape[-2], tile - part.shape[-1]
    if below == 0 and right == 0:
        return part
    pad = [(0, 0)] * (part.ndim - 2) + [(0, below), (0, right)]
    return np.pad(part, pad, mode="symmetric")


class RowMerger:
    """Adds up weighted tiles, row of tiles by row of tiles, for one ``part`` of the window.

    It holds the rows of one tile only. Every pixel gets its (at most four) tiles in reading order,
    so its value does not depend on which other tiles were computed.
    """

    def __init__(self, grid: TileGrid, part: Window, channels: int) -> None:
        self.grid, self.part = grid, part
        self._sums: FloatArray = np.zeros((channels, grid.tile, part.width), np.float32)
        self._row: int | None = None

    def add(self, row: int, column: int, tile: FloatArray) -> None:
        """Add the result (C, tile, tile) for that place of the grid."""
        grid, part = self.grid, self.part
        if self._row != row:
            self._begin(row)
        place = grid.place(row, column)
        left, right = max(place.x, part.x), min(place.right, part.right)
        if right <= left:
            return
        down = ramp(grid.tile, grid.overlap, row == 0, row == grid.rows - 1)
        across = ramp(grid.tile, grid.overlap, column == 0, column == grid.columns - 1)
        weights = down[:, np.newaxis] * across[left - place.x : right - place.x]
        tile = tile[..., left - place.x : right - place.x]
        sums = self._sums[..., left - part.x : right - part.x]
        for top in range(0, grid.tile, _ROWS):  # what lies between stays in the cache
            rows = slice(top, top + _ROWS)
            sums[:, rows] += tile[:, rows] * weights[rows]

    def _begin(self, row: int) -> None:
        """Move what the tiles above reach into this row to its top."""
        if self._row is not None:
            overlap = self.grid.overlap
            self._sums[:, :overlap] = self._sums[:, self.grid.stride :].copy()
            self._sums[:, overlap:] = 0
        self._row = row

    def finish(self, row: int) -> tuple[Window, FloatArray]:
        """The rows that no tile below ``row`` touches: where, in the window, and (C, h, w).

        Call it once after each row of tiles, in order. What is returned is valid until the next
        tile is added.
        """
        grid, part = self.grid, self.part
        y = row * grid.stride
        done = grid.tile if row == grid.rows - 1 else grid.stride
        top, bottom = max(y, part.y), max(min(y + done, part.bottom), max(y, part.y))
        finished = self._sums[:, top - y : bottom - y]
        return Window(top, part.x, bottom - top, part.width), finished
