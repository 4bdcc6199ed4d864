"""The arrays of a multiscale image, laid out so that one task writes whole shards only.

A region of level 0 determines the same rectangle of the levels above it, as long as its side halves
evenly; the task that owns the region writes those too. The few levels above are made at the end
from the last of these. Two tasks never touch one shard: concurrent partial writes to a shard lose
pixels without an error.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from slidefusion.errors import OptionError
from slidefusion.geometry import Window
from slidefusion.omezarr.access import reading, writing
from slidefusion.omezarr.metadata import level_sizes
from slidefusion.omezarr.read_shards import read_part
from slidefusion.omezarr.shards import shard_path, write_whole_shards
from slidefusion.omezarr.store import codec_pipeline, open_array
from slidefusion.tasks.interrupt import check_stop
from slidefusion.tiling import divisor_up_to, round_up

if TYPE_CHECKING:
    import zarr
    from zarr.codecs import BloscCodec

__all__ = ["CHUNK_PX", "PyramidLayout"]

CHUNK_PX = 256
"""Side of a chunk: a window's halo decodes whole chunks, 1.6 times its pixels here, 2.3 at 512."""
_SHARD_PX = 2048
_SMALLEST_SHARD_PX = 128
_MOST_CHUNKS = 64  # along the side of a region, unless they are as large as was asked for
_BAND_PX = 1024
_OVERVIEW_PX = 1024
"""Longest side of an overview."""
_AGAIN = "run again with verify=True (--verify), which makes anew what is damaged"


@dataclass(frozen=True)
class PyramidLayout:
    """Shapes, shards and chunks of every level, from the size of the slide and of a region.

    >>> layout = PyramidLayout("cyx", (3, 5000, 4321), "uint8", region_px=2048)
    >>> layout.shape(1), layout.shard(1), layout.chunk(1), layout.levels, layout.region_levels
    ((3, 2500, 2161), (3, 1024, 1024), (3, 256, 256), 6, 5)

    Raises
    ------
    OptionError
        The side of a region has no divisors but small ones, so that its chunks are too many.
    """

    axes: str
    """``"czyx"`` or ``"cyx"``."""
    shape0: tuple[int, ...]
    """Shape of level 0."""
    dtype: str
    region_px: int
    """Side of the region that a task writes at level 0."""
    method: Literal["mean", "nearest"] = "mean"
    """How levels are made: the mean of 2 x 2, or every second pixel (labels)."""
    shard_px: int = 0
    """Longest side of a level-0 shard; 0 chooses."""
    chunk_px: int = CHUNK_PX
    """Longest side of a chunk."""
    token: str = ""
    """Of the output that it is of: an array that was open is not taken for one made anew."""

    def __post_init__(self) -> None:
        chunk = self.chunk(0)[-1]
        if chunk < self.chunk_px and self.region_px > _MOST_CHUNKS * chunk:
            better = max(1, round(self.region_px / CHUNK_PX)) * CHUNK_PX
            raise OptionError(
                f"regions or shards of {self.region_px} px (chunks=, shard_px=) only divide into "
                f"chunks of {chunk} px, which are too many: choose {better}, or another "
                f"multiple of {CHUNK_PX}"
            )

    @functools.cached_property
    def _side(self) -> int:
        """Side of a level-0 shard: divides the region."""
        height, width = self.shape0[-2:]
        # A region larger than the slide must not make shards larger than it.
        longest = round_up(max(height, width), self.chunk_px)
        limit = min(self.shard_px or _SHARD_PX, longest)
        return divisor_up_to(self.region_px, limit)

    @functools.cached_property
    def levels(self) -> int:
        """Number of levels."""
        return len(level_sizes(*self.shape0[-2:]))

    @functools.cached_property
    def region_levels(self) -> int:
        """How many levels, the first included, a region determines by itself in whole shards."""
        count, side = 1, self._side
        while count < self.levels and side % 2 == 0 and side // 2 >= _SMALLEST_SHARD_PX:
            side //= 2
            count += 1
        return count

    def shape(self, level: int) -> tuple[int, ...]:
        """Shape of that level."""
        return (*self.shape0[:-2], *level_sizes(*self.shape0[-2:])[level])

    def shard(self, level: int) -> tuple[int, ...]:
        """Shape of that level's shards: one plane deep, all channels."""
        side = self._side >> level if level < self.region_levels else _BAND_PX
        return tuple({"c": self.shape0[0], "z": 1}.get(axis, side) for axis in self.axes)

    def chunk(self, level: int) -> tuple[int, ...]:
        """Shape of that level's chunks."""
        side = divisor_up_to(self.shard(level)[-1], self.chunk_px)
        return tuple({"c": self.shape0[0], "z": 1}.get(axis, side) for axis in self.axes)

    def create(self, group: zarr.Group, where: str) -> None:
        """Make the arrays of all levels in an opened group that has none yet."""
        from zarr.codecs import Crc32cCodec

        # Blosc decodes changed bytes to changed pixels, so each chunk has a checksum.
        with writing(f"the arrays of {where}"), codec_pipeline(where):
            for level in range(self.levels):
                group.create_array(
                    str(level),
                    shape=self.shape(level),
                    dtype=self.dtype,
                    shards=self.shard(level),
                    chunks=self.chunk(level),
                    compressors=(self._blosc(level), Crc32cCodec()),
                    filters=None,
                    fill_value=0,
                    dimension_names=tuple(self.axes),
                )

    def _blosc(self, level: int) -> BloscCodec:
        """How that level's chunks are compressed.

        Bit shuffling lets LZ4 find the few bits that vary between neighbouring pixels: near zstd in
        size on slides and faster than it both ways. Blosc uses vector instructions for elements of
        two bytes and more only, so two pixels of one byte count as an element if they fit.
        """
        from zarr.codecs import BloscCodec

        bytes_a_pixel = np.dtype(self.dtype).itemsize
        even = math.prod(self.chunk(level)) * bytes_a_pixel % 2 == 0
        typesize = max(2, bytes_a_pixel) if even else 1
        return BloscCodec(typesize=typesize, cname="lz4", clevel=5, shuffle="bitshuffle")

    def write_region(
        self, where: str, name: str, region: Window, block: npt.NDArray[Any], z: int | None = None
    ) -> None:
        """Write a region's block (C, h, w), plane ``z`` of a stack, and the levels it determines.

        ``name`` is the image group's path inside the store at ``where``.

        Raises
        ------
        ProcessingError
            When the store refuses.
        """
        y, x = region.y, region.x
        for level in range(self.region_levels):
            if level:
                block = self._halve(block)
                y, x = y // 2, x // 2
            rows, columns = slice(y, y + block.shape[1]), slice(x, x + block.shape[2])
            self._write(where, name, level, (rows, columns), block, z)

    def write_upper(self, where: str, name: str) -> None:
        """Make the levels that no single region determines, from the last one that regions wrote.

        Raises
        ------
        ProcessingError
            When the store refuses.
        """
        planes = [None] if "z" not in self.axes else list(range(self.shape0[1]))
        for level in range(self.region_levels, self.levels):
            height, width = self.shape(level)[-2:]
            for z in planes:
                for y in range(0, height, _BAND_PX):
                    for x in range(0, width, _BAND_PX):
                        check_stop()
                        rows = slice(y, min(y + _BAND_PX, height))
                        columns = slice(x, min(x + _BAND_PX, width))
                        below = self._read(where, name, level - 1, (rows, columns), z)
                        block = self._halve(below)
                        self._write(where, name, level, (rows, columns), block, z)

    def overview(self, where: str, name: str) -> npt.NDArray[Any]:
        """A small version (C, h, w) of what was written; of a stack, of its middle plane.

        Raises
        ------
        ProcessingError
            When the store refuses, or is damaged.
        """
        level = next(k for k in range(self.levels) if max(self.shape(k)[-2:]) <= _OVERVIEW_PX)
        rows, columns = (slice(0, side) for side in self.shape(level)[-2:])
        z = self.shape0[1] // 2 if "z" in self.axes else None
        return self._part(where, name, level, (rows, columns), z)

    def _halve(self, block: npt.NDArray[Any]) -> npt.NDArray[Any]:
        from slidefusion.omezarr.downsample import halve_mean, halve_nearest

        return halve_mean(block) if self.method == "mean" else halve_nearest(block)

    def _read(
        self, where: str, name: str, level: int, at: tuple[slice, slice], z: int | None
    ) -> npt.NDArray[Any]:
        """The 2 x 2 times larger block of ``level`` below ``at`` of the next level."""
        height, width = self.shape(level)[-2:]
        rows = slice(2 * at[0].start, min(2 * at[0].stop, height))
        columns = slice(2 * at[1].start, min(2 * at[1].stop, width))
        return self._part(where, name, level, (rows, columns), z)

    def _part(
        self, where: str, name: str, level: int, at: tuple[slice, slice], z: int | None
    ) -> npt.NDArray[Any]:
        planes = () if z is None else (slice(z, z + 1),)  # a number is slow: see `read_planes`
        with reading(f"level {level} of {where}", _AGAIN):
            array, index = self._array(where, name, level), (slice(None), *planes, *at)
            block = read_part(where, _path(name, level), array, index)
        return block if z is None else block[:, 0]

    def _write(
        self,
        where: str,
        name: str,
        level: int,
        at: tuple[slice, slice],
        block: npt.NDArray[Any],
        z: int | None,
    ) -> None:
        planes = () if z is None else (slice(z, z + 1),)
        index = (slice(None), *planes, *at)
        block = block if z is None else block[:, np.newaxis]
        with writing(f"level {level}, y {at[0].start}, x {at[1].start} of {where}"):
            write_whole_shards(where, _path(name, level), repr(self), index, block)

    def _array(self, where: str, name: str, level: int) -> zarr.Array[Any]:
        return open_array(where, _path(name, level), "r+", repr(self))

    def shard_files(
        self, name: str, region: Window, z: int | None = None
    ) -> Iterator[tuple[str, int]]:
        """The shards that :meth:`write_region` makes of a region, and the chunks each holds.

        Paths are below the store's root.
        """
        for level in range(self.region_levels):
            y, x = region.y >> level, region.x >> level
            height, width = self.shape(level)[-2:]
            bottom = min(-(-region.bottom >> level), height)
            right = min(-(-region.right >> level), width)
            yield from self._files(name, level, Window(y, x, bottom - y, right - x), z)

    def upper_files(self, name: str) -> Iterator[tuple[str, int]]:
        """The shards that :meth:`write_upper` makes, like :meth:`shard_files`."""
        for level in range(self.region_levels, self.levels):
            for z in [None] if "z" not in self.axes else range(self.shape0[1]):
                yield from self._files(name, level, Window(0, 0, *self.shape(level)[-2:]), z)

    def _files(
        self, name: str, level: int, window: Window, z: int | None
    ) -> Iterator[tuple[str, int]]:
        shard, chunk = self.shard(level), self.chunk(level)
        chunks = math.prod(s // c for s, c in zip(shard, chunk, strict=True))
        rows = range(window.y // shard[-2], -(-window.bottom // shard[-2]))
        columns = range(window.x // shard[-1], -(-window.right // shard[-1]))
        plane = () if "z" not in self.axes else (z or 0,)
        for row, column in itertools.product(rows, columns):
            yield f"{_path(name, level)}/{shard_path((0, *plane, row, column))}", chunks


def _path(name: str, level: int) -> str:
    return f"{name}/{level}" if name else str(level)
