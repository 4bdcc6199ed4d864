from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import zarr
from hypothesis import example, given, settings
from hypothesis import strategies as st

from slidefusion.errors import OptionError
from slidefusion.geometry import Window
from slidefusion.omezarr.downsample import halve_mean, halve_nearest
from slidefusion.omezarr.pyramid import PyramidLayout


def mean_by_numpy(image: np.ndarray) -> np.ndarray:
    """The 2 x 2 mean, edges repeated, in float64."""
    c, h, w = image.shape
    padded = np.pad(image.astype(float), ((0, 0), (0, h % 2), (0, w % 2)), mode="edge")
    return padded.reshape(c, (h + 1) // 2, 2, (w + 1) // 2, 2).mean((2, 4))


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(["u1", "u2", "f4"]))
def test_halving_is_the_mean(height: int, width: int, dtype: str) -> None:
    rng = np.random.default_rng(height * 41 + width)
    image = rng.integers(0, 255, (2, height, width)).astype(dtype)
    found, expected = halve_mean(image), mean_by_numpy(image)
    assert found.dtype == image.dtype and found.shape == expected.shape
    if dtype == "f4":
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    else:
        assert np.array_equal(found, np.floor(expected + 0.5))


def test_labels_are_picked_not_averaged() -> None:
    labels = np.arange(15, dtype=np.uint8).reshape(1, 3, 5)
    assert halve_nearest(labels).tolist() == [[[0, 2, 4], [10, 12, 14]]]


@given(
    st.integers(1, 20_000), st.integers(1, 20_000), st.integers(1, 5000), st.sampled_from([64, 512])
)
def test_a_region_owns_whole_shards(height: int, width: int, region: int, chunk: int) -> None:
    try:
        layout = PyramidLayout("cyx", (3, height, width), "uint8", region, chunk_px=chunk)
    except OptionError:  # a prime, or little better
        assert all(region % side for side in range(-(-region // 64), min(chunk, height, width)))
        return
    assert 1 <= layout.region_levels <= layout.levels
    for level in range(layout.levels):
        shard, inner = layout.shard(level), layout.chunk(level)
        assert shard[0] == inner[0] == 3
        assert all(s % c == 0 for s, c in zip(shard, inner, strict=True))
        assert inner[-1] <= chunk
        if level < layout.region_levels:
            # Region borders fall on shard borders of every level that regions write.
            assert region % (shard[-1] << level) == 0


@settings(max_examples=8)
@given(
    st.integers(1, 1500),
    st.integers(1, 1500),
    st.sampled_from([256, 275, 300, 512, 1024]),  # 275: chunks of 55 px, an odd number of bytes
    st.sampled_from(["mean", "nearest"]),
)
@example(700, 600, 275, "mean")
def test_the_pyramid_does_not_depend_on_the_regions(
    tmp_path_factory: pytest.TempPathFactory,
    height: int,
    width: int,
    region: int,
    method: Literal["mean", "nearest"],
) -> None:
    where = str(tmp_path_factory.mktemp("pyramid") / "a.zarr")
    rng = np.random.default_rng(height + width)
    channels = 3 if region == 275 else 2
    image = rng.integers(0, 255, (channels, height, width), dtype=np.uint8)
    layout = PyramidLayout("cyx", image.shape, "uint8", region, method=method, chunk_px=128)
    group = zarr.create_group(where)
    layout.create(group, where)
    for y in range(0, height, region):
        for x in range(0, width, region):
            part = image[:, y : y + region, x : x + region]
            layout.write_region(where, "", Window(y, x, *part.shape[1:]), part)
    layout.write_upper(where, "")
    halve = halve_mean if method == "mean" else halve_nearest
    for level in range(layout.levels):
        array = group[str(level)]
        assert isinstance(array, zarr.Array)
        assert array.metadata.dimension_names == ("c", "y", "x")
        assert np.array_equal(array[...], image), level
        image = halve(image)


def test_planes_are_written_one_by_one(tmp_path: Path) -> None:
    where = str(tmp_path / "a.zarr")
    stack = np.random.default_rng(0).integers(0, 99, (3, 2, 600, 300), dtype=np.uint16)
    layout = PyramidLayout("czyx", stack.shape, "uint16", 1024)
    group = zarr.create_group(where)
    layout.create(group, where)
    for z in range(2):
        layout.write_region(where, "", Window(0, 0, 600, 300), stack[:, z], z)
    layout.write_upper(where, "")
    assert np.array_equal(group["0"][...], stack)
    assert np.array_equal(group["1"][:, 1], halve_mean(np.ascontiguousarray(stack[:, 1])))
    assert layout.levels == 3
