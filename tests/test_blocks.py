"""How a source is cut for conversion: whole shards, large against its tiles."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from slidefusion.blocks import block_grid, block_size, block_window
from slidefusion.geometry import Size

SIDES = st.integers(1, 60_000)


@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from([256, 1000, 2048]), st.integers(1, 200))
def test_blocks_are_whole_shards_and_fit(
    height: int, width: int, tile_y: int, tile_x: int, shard: int, pixel_bytes: int
) -> None:
    tile = Size(min(tile_y, height), min(tile_x, width))
    limit = 2**27
    block = block_size(Size(height, width), tile, shard, pixel_bytes, limit)
    assert block.height % shard == block.width % shard == 0
    tile_area = (tile.height + shard) * (tile.width + shard)
    assert block.height * block.width * pixel_bytes <= max(
        limit, tile_area * pixel_bytes, shard * shard * pixel_bytes
    )


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 9), st.integers(1, 9))
def test_blocks_cover_the_slide_once(height: int, width: int, down: int, across: int) -> None:
    slide, block = Size(height, width), Size(16 * down, 16 * across)
    covered = np.zeros(slide, int)
    rows, columns = block_grid(slide, block)
    for row in range(rows):
        for column in range(columns):
            window = block_window(slide, block, row, column)
            assert window.y % 16 == window.x % 16 == 0
            covered[window.slices] += 1
    assert (covered == 1).all()


def test_strips_and_whole_planes_are_not_cut_across() -> None:
    assert block_size(Size(9000, 7000), Size(8, 7000), 2048, 3).width >= 7000
    whole = block_size(Size(9000, 7000), Size(9000, 7000), 2048, 3)
    assert whole.height >= 9000 and whole.width >= 7000
