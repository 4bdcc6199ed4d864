from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slidefusion.errors import OptionError
from slidefusion.fuser import Footprint
from slidefusion.geometry import Size, Window
from slidefusion.tiling import Tiling, divisor_up_to, round_up

lengths = st.integers(1, 300)


@st.composite
def tilings(draw: st.DrawFn) -> Tiling:
    size = Size(draw(lengths), draw(lengths))
    area = None
    if draw(st.booleans()):
        y, x = draw(st.integers(0, size.height - 1)), draw(st.integers(0, size.width - 1))
        height = draw(st.integers(1, size.height - y))
        area = Window(y, x, height, draw(st.integers(1, size.width - x)))
    footprint = Footprint(draw(st.integers(0, 70)), draw(st.integers(1, 40)))
    return Tiling(size, draw(st.integers(1, 200)), footprint, area)


@given(tilings())
def test_regions_cover_the_target_once(tiling: Tiling) -> None:
    covered = np.zeros(tiling.size, int)
    regions = [tiling.region(*key) for key in tiling.regions()]
    for region in regions:
        covered[region.slices] += 1
    inside = np.zeros(tiling.size, bool)
    inside[tiling.target.slices] = True
    assert (covered == inside).all()
    assert len(regions) == tiling.count
    rows, columns = tiling.chunks()
    assert (sum(rows), sum(columns)) == tiling.target.size


@given(tilings())
def test_windows_reach_the_halo_and_lie_on_the_grid(tiling: Tiling) -> None:
    halo, period = tiling.footprint.halo, tiling.footprint.period
    padded = Window(0, 0, *tiling.padded)
    largest = tiling.largest_window()
    for key in tiling.regions():
        region = tiling.region(*key)
        window = tiling.window(region)
        assert padded.contains(window)
        assert window.contains(region)
        assert all(edge % period == 0 for edge in (*window[:2], window.bottom, window.right))
        # The halo is there on every side that the padded slide does not end.
        assert window.y == 0 or region.y - window.y >= halo
        assert window.x == 0 or region.x - window.x >= halo
        assert window.bottom == padded.height or window.bottom - region.bottom >= halo
        assert window.right == padded.width or window.right - region.right >= halo
        assert window.height <= largest.height
        assert window.width <= largest.width


@pytest.mark.parametrize(
    "area", [(0, 0, 0, 5), (-1, 0, 5, 5), (0, 0, 11, 5), (5, 5, 5, 16), (10, 0, 1, 1)]
)
def test_area_must_lie_inside(area: tuple[int, int, int, int]) -> None:
    with pytest.raises(OptionError, match=r"does not lie inside the slide of 10 x 20 px"):
        Tiling(Size(10, 20), 4, Footprint(), Window(*area))


def test_empty_slide_and_region_are_refused() -> None:
    with pytest.raises(OptionError, match="empty"):
        Tiling(Size(0, 20), 4, Footprint())
    with pytest.raises(OptionError, match="at least 1"):
        Tiling(Size(10, 20), 0, Footprint())


@given(st.integers(1, 5000), st.integers(1, 600))
def test_divisor_and_rounding(value: int, other: int) -> None:
    found = divisor_up_to(value, other)
    assert value % found == 0 and found <= other
    assert not any(value % d == 0 for d in range(found + 1, min(value, other) + 1))
    up = round_up(value, other)
    assert up % other == 0 and 0 <= up - value < other
