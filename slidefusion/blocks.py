"""Which rectangles of a source are converted by which task: pure functions of integers.

A block consists of whole shards of the output, so that no two tasks write one shard, and is large
against the tiles of the source, so that few of them are decoded twice. A source in strips is cut
into bands of the full width, and one whose planes are decoded whole is not cut at all.
"""

from __future__ import annotations

from slidefusion.geometry import Size, Window
from slidefusion.tiling import round_up

__all__ = ["BLOCK_BYTES", "block_grid", "block_size", "block_window"]

BLOCK_BYTES = 128 * 2**20
"""What one block may hold, unless a single tile of the source is larger."""
_TILES = 4
"""Tiles of the source along the side of a block: 1 in 4 is then decoded twice at worst."""


def block_size(
    slide: Size, tile: Size, shard_px: int, pixel_bytes: int, limit_bytes: int = BLOCK_BYTES
) -> Size:
    """The size of a block in px: multiples of ``shard_px``, or what the slide has.

    >>> block_size(Size(30000, 40000), Size(256, 256), 2048, 3)  # tiles
    Size(height=2048, width=2048)
    >>> block_size(Size(30000, 20000), Size(16, 20000), 2048, 3)  # strips
    Size(height=2048, width=20480)
    >>> block_size(Size(3000, 4000), Size(3000, 4000), 2048, 3)  # planes decoded whole
    Size(height=4096, width=4096)
    """
    whole = Size(round_up(slide.height, shard_px), round_up(slide.width, shard_px))
    height = min(round_up(_TILES * tile.height, shard_px), whole.height)
    width = min(round_up(_TILES * tile.width, shard_px), whole.width)
    least = round_up(tile.height, shard_px) * round_up(tile.width, shard_px)
    limit_px = max(limit_bytes // pixel_bytes, min(least, whole.height * whole.width))
    while height * width > limit_px and (height > shard_px or width > shard_px):
        # Cut where more tiles lie side by side: there a cut costs least.
        cut_rows = height / tile.height >= width / tile.width
        if width <= shard_px or (cut_rows and height > shard_px):
            height -= shard_px
        else:
            width -= shard_px
    return Size(height, width)


def block_grid(slide: Size, block: Size) -> tuple[int, int]:
    """Number of blocks down and across.

    >>> block_grid(Size(5000, 4321), Size(2048, 2048))
    (3, 3)
    """
    return -(-slide.height // block.height), -(-slide.width // block.width)


def block_window(slide: Size, block: Size, row: int, column: int) -> Window:
    """The block in that row and column; the last ones are what is left.

    >>> block_window(Size(5000, 4321), Size(2048, 2048), 2, 0)
    Window(y=4096, x=0, height=904, width=2048)
    """
    y, x = row * block.height, column * block.width
    return Window(y, x, min(block.height, slide.height - y), min(block.width, slide.width - x))
