"""Planes out of arrays whose axes come in any order, of which some are missing."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import zarr

from slidefusion.geometry import Window
from slidefusion.omezarr.sources import read_planes, zarr_source

SIZES = {"t": 1, "c": 2, "z": 4, "y": 9, "x": 11}
WINDOW = Window(2, 3, 5, 7)


@pytest.mark.parametrize("axes", ["tczyx", "czyx", "cyx", "tyx", "yx", "zyx"])
def test_axes_in_any_order(tmp_path: Path, axes: str) -> None:
    sizes = [SIZES[axis] if axis in axes else 1 for axis in "czyx"]
    czyx = np.random.default_rng(0).integers(0, 2**16, sizes).astype(np.uint16)
    given = "".join(axis for axis in "tczyx" if axis in axes)
    data = czyx.reshape([SIZES[axis] for axis in given])
    rows, columns = WINDOW.slices
    planes = slice(1, 3) if "z" in axes else slice(0, 1)
    orders = list(permutations(given))
    for number, order in enumerate(orders[:: -(-len(orders) // 24)]):
        turned = data.transpose([given.index(axis) for axis in order])
        where = str(tmp_path / f"{number}.zarr")
        array = zarr.create_array(where, name="0", data=turned, chunks=(4,) * turned.ndim)
        found = read_planes(where, "0", array, "".join(order), planes, WINDOW)
        np.testing.assert_array_equal(found, czyx[:, planes, rows, columns])
        assert not found.flags.owndata  # a view of what was read
        source = zarr_source(where, "0", order, array)
        z = planes.start
        np.testing.assert_array_equal(source.read(z, WINDOW), czyx[:, z, rows, columns])
        np.testing.assert_array_equal(source.read_planes(planes, WINDOW), found)
