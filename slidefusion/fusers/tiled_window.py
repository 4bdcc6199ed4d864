"""A window in tiles for a network: how they are cut out in batches, and how results are merged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from slidefusion.fuser import Planes, as_cut
from slidefusion.fusers.tiles import RowMerger, TileGrid, cut_tile
from slidefusion.geometry import Window

__all__ = ["RGB", "Batch", "Job", "More", "TiledWindow"]

FloatArray = npt.NDArray[np.float32]
More = Callable[[FloatArray], FloatArray]
"""Makes one image (3, tile, tile) of the planes (Z, 3, tile, tile) of a tile."""

RGB = 3
"""Channels that the networks take."""

_ROWS = 32


@dataclass(frozen=True)
class Job:
    """One image of one tile."""

    row: int
    column: int
    channel: int | None
    """Of a stack that is not RGB."""


Batch = tuple[list[Job], Callable[[], FloatArray]]
"""Tiles that are computed together, and what cuts them out: (N, Z, 3, tile, tile)."""


class TiledWindow:
    """A window that is cut into tiles, and the image that is merged of their results.

    The arguments are those of `fuse_tiles`.
    """

    def __init__(
        self,
        stack: Planes,
        tile: int,
        overlap: int,
        white: float,
        more: More | None,
        maps: int,
        device: str,
    ) -> None:
        self._cut = as_cut(stack)
        channels, height, width = stack.shape[1:]
        self._grid = TileGrid(self._cut.on_slide, tile, overlap)
        self._rows, self._columns = self._grid.touching(self._cut.core)
        self._channels: list[int | None] = [None] if channels == RGB else list(range(channels))
        self._to_one = np.float32(1 / white)
        self._clips = stack.dtype == np.uint8
        self._more, self._device = more, device
        self._merger = RowMerger(self._grid, self._cut.core, channels + maps)
        self._white = white
        self.image: npt.NDArray[Any] = np.zeros((channels, height, width), stack.dtype)
        """(C, Y, X), finished where all tiles have been merged; 0 outside the core."""
        self.maps = np.zeros((maps, height, width), np.uint8)
        """(M, Y, X)."""

    def batches(self, size: int) -> Iterator[Batch]:
        """All tiles that are needed, row by row of tiles, ``size`` images at a time."""
        grid, on_slide, columns = self._grid, self._cut.on_slide, self._columns
        left, right = grid.place(0, columns[0]).x, grid.place(0, columns[-1]).right
        for row in self._rows:
            place = grid.place(row, 0)
            bottom, end = min(place.bottom, on_slide.height), min(right, on_slide.width)
            strip = list(self._cut.crop(Window(place.y, left, bottom - place.y, end - left)))
            jobs = [Job(row, column, channel) for column in columns for channel in self._channels]
            for start in range(0, len(jobs), size):
                chosen = jobs[start : start + size]
                yield chosen, partial(self._cut_out, strip, left, chosen)

    def _cut_out(self, strip: list[npt.NDArray[Any]], left: int, jobs: list[Job]) -> FloatArray:
        """The tiles of ``jobs`` from the planes of their row, which begin at ``left``.

        (N, Z, 3, tile, tile), 1 being white; Z + 1 with what ``more`` makes of them.
        """
        planes, tile = len(strip), self._grid.tile
        count = planes + (self._more is not None)
        tiles = np.empty((len(jobs), count, RGB, tile, tile), np.float32)
        for job, out in zip(jobs, tiles, strict=True):
            x = self._grid.place(0, job.column).x - left
            chosen = slice(None) if job.channel is None else slice(job.channel, job.channel + 1)
            for plane, made in zip(strip, out, strict=False):
                np.multiply(cut_tile(plane[chosen], x, tile), self._to_one, out=made)
            if self._clips:
                np.clip(out[:planes], 0, 1, out=out[:planes])
        if self._more is not None:
            from slidefusion.fusers.torch_workers import torch_workers

            # On the CPU this is one of the workers, with a tile of its own.
            each = map if self._device == "cpu" else torch_workers().map
            for out, made in zip(tiles, each(self._more, tiles[:, :-1]), strict=True):
                out[-1] = made
        return tiles

    def merge(self, job: Job, result: FloatArray) -> None:
        """Add the image and the maps (3 + M, tile, tile) of ``job``; jobs come in their order."""
        if job.channel is not None:
            result = self._share(job.channel, result)
        self._merger.add(job.row, job.column, result)
        if (job.column, job.channel) == (self._columns[-1], self._channels[-1]):
            self._store_row(job.row)

    def _share(self, channel: int, result: FloatArray) -> FloatArray:
        """What one channel of a stack that is not RGB adds: (C + M, tile, tile)."""
        channels = len(self._channels)
        share = np.zeros((channels + len(self.maps), *result.shape[1:]), np.float32)
        share[channel] = result[:RGB].mean(axis=0)
        share[channels:] = result[RGB:] / np.float32(channels)
        return share

    def _store_row(self, row: int) -> None:
        """Store what no tile below ``row`` touches."""
        place, finished = self._merger.finish(row)
        inside, channels = (slice(None), *place.slices), len(self.image)
        _store(finished[:channels], self._white, self.image[inside])
        _store(finished[channels:], 255.0, self.maps[inside])


def _store(image: FloatArray, white: float, out: npt.NDArray[Any]) -> None:
    """:func:`_as_dtype` into ``out``, a few rows at a time, which stay in the cache."""
    for top in range(0, image.shape[1], _ROWS):
        rows = slice(top, top + _ROWS)
        out[:, rows] = _as_dtype(image[:, rows], white, out.dtype)


def _as_dtype(image: FloatArray, white: float, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Values in [0, 1] as ``dtype``, 1 being ``white``: rounded and clipped unless it is float."""
    scaled = image * np.float32(white)
    if dtype.kind == "f":
        return scaled.astype(dtype, copy=False)
    highest = np.float32(np.iinfo(dtype).max)
    rounded: npt.NDArray[Any] = np.minimum(scaled + np.float32(0.5), highest).astype(dtype)
    return rounded
