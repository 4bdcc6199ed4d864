"""Which rectangles of a slide are fused by which task: pure functions of integers.

The output is cut into *regions*, one a task. A region's *window* is what its task reads: the
region grown by the fuser's halo, snapped outward to the fuser's period, clipped to the slide. The
slide itself counts as edge-padded at the bottom and right to a multiple of the period, so every
window starts and ends on the period; that, as much as the halo, is what makes cut and whole agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from slidefusion.errors import OptionError
from slidefusion.fuser import Footprint
from slidefusion.geometry import Size, Window

__all__ = ["Tiling", "divisor_up_to", "round_up"]


def round_up(value: int, multiple: int) -> int:
    """The smallest multiple of ``multiple`` that is at least ``value``.

    >>> round_up(5000, 32)
    5024
    """
    return -(-value // multiple) * multiple


def divisor_up_to(value: int, limit: int) -> int:
    """The largest divisor of ``value`` that is at most ``limit``.

    >>> divisor_up_to(1536, 256), divisor_up_to(1000, 256)
    (256, 250)
    """
    limit = min(value, limit)
    return next(d for d in range(limit, 0, -1) if value % d == 0)


@dataclass(frozen=True)
class Tiling:
    """The cutting of ``area`` of a slide into square regions of ``region_px``.

    >>> tiling = Tiling(Size(5000, 4321), 2048, Footprint(halo=100, period=32))
    >>> tiling.grid, tiling.region(1, 1)
    ((3, 3), Window(y=2048, x=2048, height=2048, width=2048))
    >>> tiling.window(tiling.region(1, 1))
    Window(y=1920, x=1920, height=2304, width=2304)
    """

    size: Size
    """The whole slide."""
    region_px: int
    """Side of a region; the last ones of a row or column are what is left."""
    footprint: Footprint
    """Of the fuser."""
    area: Window | None = None
    """The rectangle of the slide to fuse; None is all of it."""

    def __post_init__(self) -> None:
        if self.region_px < 1:
            raise OptionError(f"regions of {self.region_px} px: the side must be at least 1")
        if self.size.height < 1 or self.size.width < 1:
            raise OptionError(f"a slide of {self.size.height} x {self.size.width} px is empty")
        area = self.area
        if area is not None:
            whole = Window(0, 0, *self.size)
            if area.height < 1 or area.width < 1 or not whole.contains(area):
                raise OptionError(
                    f"the rectangle y={area.y}, x={area.x}, height={area.height}, "
                    f"width={area.width} does not lie inside the slide of "
                    f"{self.size.height} x {self.size.width} px (height x width)"
                )

    @property
    def target(self) -> Window:
        """The rectangle that gets fused, in slide coordinates."""
        return Window(0, 0, *self.size) if self.area is None else self.area

    @property
    def padded(self) -> Size:
        """The slide's size, rounded up to the period."""
        period = self.footprint.period
        return Size(round_up(self.size.height, period), round_up(self.size.width, period))

    @property
    def grid(self) -> tuple[int, int]:
        """Number of regions down and across."""
        target = self.target
        return -(-target.height // self.region_px), -(-target.width // self.region_px)

    @property
    def count(self) -> int:
        """Number of regions."""
        rows, columns = self.grid
        return rows * columns

    def region(self, row: int, column: int) -> Window:
        """The region in that row and column of the grid, in slide coordinates."""
        target, side = self.target, self.region_px
        y, x = target.y + row * side, target.x + column * side
        return Window(y, x, min(side, target.bottom - y), min(side, target.right - x))

    def regions(self) -> Iterator[tuple[int, int]]:
        """Every (row, column) of the grid, in reading order."""
        rows, columns = self.grid
        return ((row, column) for row in range(rows) for column in range(columns))

    def chunks(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Heights of the rows and widths of the columns of regions, as Dask writes chunks."""
        rows, columns = self.grid
        return (
            tuple(self.region(row, 0).height for row in range(rows)),
            tuple(self.region(0, column).width for column in range(columns)),
        )

    def window(self, region: Window) -> Window:
        """What the task of ``region`` reads; it may reach into the padding below and right."""
        halo, period, padded = self.footprint.halo, self.footprint.period, self.padded
        top = max(0, (region.y - halo) // period * period)
        left = max(0, (region.x - halo) // period * period)
        bottom = min(padded.height, round_up(region.bottom + halo, period))
        right = min(padded.width, round_up(region.right + halo, period))
        return Window(top, left, bottom - top, right - left)

    def largest_window(self) -> Size:
        """Height and width of the largest window that any region can need."""
        halo, period = self.footprint.aligned_halo, self.footprint.period
        side = round_up(self.region_px, period) + 2 * halo
        if self.target.y % period or self.target.x % period or self.region_px % period:
            side += period
        return Size(min(side, self.padded.height), min(side, self.padded.width))
