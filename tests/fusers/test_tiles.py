"""The grid of tiles: covered with weights of sum 1, and the same whatever part is made."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slidefusion.fuser import Footprint
from slidefusion.fusers.tiles import RowMerger, TileGrid, cut_tile, ramp
from slidefusion.geometry import Size, Window
from slidefusion.tiling import Tiling

SIDES = st.integers(1, 120)


@st.composite
def grids(draw: st.DrawFn) -> TileGrid:
    tile = draw(st.integers(6, 64))
    overlap = draw(st.integers(0, tile // 2))
    return TileGrid(Size(draw(SIDES), draw(SIDES)), tile, overlap)


def merge(grid: TileGrid, part: Window, image: np.ndarray) -> np.ndarray:
    """``part`` of what tiles of ``image`` (C, Y, X) merge to; each tile is told apart."""
    rows, columns = grid.touching(part)
    merger = RowMerger(grid, part, len(image))
    result = np.full((len(image), part.height, part.width), np.nan, np.float32)
    for row in rows:
        for column in columns:
            place = grid.place(row, column)
            strip = image[:, place.y : place.y + grid.tile]
            merger.add(row, column, cut_tile(strip, place.x, grid.tile).astype(np.float32))
        where, finished = merger.finish(row)
        result[(slice(None), *where.relative_to(part).slices)] = finished
    return result


@given(grids())
@settings(max_examples=40, deadline=None)
def test_weights_sum_to_one(grid: TileGrid) -> None:
    ones = np.ones((1, *grid.size), np.float32)
    merged = merge(grid, Window(0, 0, *grid.size), ones)
    np.testing.assert_allclose(merged, 1, rtol=0, atol=1e-6)


@given(grids(), st.data())
@settings(max_examples=40, deadline=None)
def test_a_part_equals_the_whole(grid: TileGrid, data: st.DataObject) -> None:
    rng = np.random.default_rng(0)
    image = rng.random((2, *grid.size), dtype=np.float32)
    height, width = grid.size
    y, x = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    part = Window(y, x, data.draw(st.integers(1, height - y)), data.draw(st.integers(1, width - x)))
    whole = merge(grid, Window(0, 0, *grid.size), image)
    assert np.array_equal(merge(grid, part, image), whole[(slice(None), *part.slices)])


@given(grids(), st.integers(1, 90))
@settings(max_examples=40, deadline=None)
def test_the_tiles_of_a_region_are_those_of_the_slide(grid: TileGrid, region_px: int) -> None:
    """The window that the footprint asks for holds every tile of the region, at the same place."""
    footprint = Footprint(halo=max(0, grid.tile - 1), period=grid.stride)
    tiling = Tiling(grid.size, region_px, footprint)
    for row, column in list(tiling.regions())[:6]:
        region = tiling.region(row, column)
        window = tiling.window(region)
        size = Size(
            min(window.bottom, grid.size.height) - window.y,
            min(window.right, grid.size.width) - window.x,
        )
        own = TileGrid(size, grid.tile, grid.overlap)
        wanted = [grid.place(r, c) for r in range(grid.rows) for c in range(grid.columns)]
        rows, columns = own.touching(region.relative_to(window))
        places = {own.place(r, c) for r in rows for c in columns}
        found = {Window(p.y + window.y, p.x + window.x, *p.size) for p in places}
        touching = {
            p
            for p in wanted
            if p.y < region.bottom
            and region.y < p.bottom
            and p.x < region.right
            and region.x < p.right
        }
        assert found == touching
        for place in places:
            assert place.bottom <= size.height or window.y + size.height == grid.size.height


def test_a_slide_of_one_tile_is_one_tile() -> None:
    for side in (1, 300, 512):
        assert TileGrid(Size(side, side), 512, 128).rows == 1
    assert TileGrid(Size(513, 896), 512, 128).rows == 2
    assert TileGrid(Size(513, 896), 512, 128).columns == 2
    assert TileGrid(Size(513, 897), 512, 128).columns == 3


def test_ramps_fall_to_the_ends_and_never_reach_zero() -> None:
    weights = ramp(512, 128, first=False, last=False)
    np.testing.assert_allclose([weights[0], weights[-1]], 1 / 129, rtol=1e-5)
    assert (weights[128:384] == 1).all()
    assert (np.diff(weights[:129]) > 0).all()
    np.testing.assert_allclose(weights[:128] + weights[384:], 1, atol=1e-7)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (3, 2), (8, 8)])
def test_beyond_the_slide_is_reflection(shape: tuple[int, int]) -> None:
    strip = np.arange(shape[0] * shape[1]).reshape(1, *shape)
    wanted = np.pad(strip, [(0, 0), (0, 8 - shape[0]), (0, 8 - shape[1])], mode="symmetric")
    assert np.array_equal(cut_tile(strip, 0, 8), wanted)
