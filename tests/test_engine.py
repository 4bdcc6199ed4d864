from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import slidefusion as sf
from slidefusion.engine import MOST, ArraySource, WindowPlanes, fuse_array, fuse_region
from slidefusion.errors import PluginError, ProcessingError, StackError
from slidefusion.fuser import Fused
from slidefusion.geometry import Size, Window
from slidefusion.tiling import Tiling

from .conftest import BlockSum


@given(
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    region=st.integers(1, 40),
    period=st.integers(1, 9),
    dtype=st.sampled_from([np.uint8, np.uint16]),
)
def test_cut_equals_whole(height: int, width: int, region: int, period: int, dtype: Any) -> None:
    stack = np.random.default_rng(height * 61 + width).integers(
        0, 255, (2, 3, height, width), dtype=dtype
    )
    fuser = BlockSum(period)
    whole, cut = fuse_array(fuser, stack), fuse_array(fuser, stack, region)
    assert np.array_equal(whole.image, cut.image)
    assert whole.depth is not None and cut.depth is not None
    assert np.array_equal(whole.depth, cut.depth)


def test_whole_is_the_padded_image(block_sum: BlockSum) -> None:
    stack = np.random.default_rng(0).integers(0, 255, (1, 2, 10, 13), dtype=np.uint8)
    padded = np.pad(stack, ((0, 0), (0, 0), (0, 2), (0, 3)), mode="edge")
    expected = block_sum(padded.transpose(1, 0, 2, 3)).image[:, :10, :13]
    assert np.array_equal(fuse_array(block_sum, stack).image, expected)


def test_window_planes_read_lazily_and_read_only() -> None:
    reads = []

    class Counting(ArraySource):
        def read(self, z: int, window: Window, /) -> Any:
            reads.append((z, window))
            return super().read(z, window)

    array = np.arange(2 * 4 * 6 * 8, dtype=np.uint16).reshape(2, 4, 6, 8)
    planes = WindowPlanes(Counting(array), [3, 1], Window(4, 4, 4, 8))
    assert planes.shape == (2, 2, 4, 8) and len(planes) == 2 and planes.dtype == np.uint16
    assert reads == []
    plane = planes[0]
    assert reads == [(3, Window(4, 4, 2, 4))]  # only what lies on the slide
    assert np.array_equal(plane, np.pad(array[:, 3, 4:, 4:], ((0, 0), (0, 2), (0, 4)), mode="edge"))
    assert not plane.flags.writeable and plane.flags.c_contiguous
    assert np.asarray(planes).shape == planes.shape
    assert array[:, 1, 4:, 4:].sum() == np.asarray(planes)[1, :, :2, :4].sum()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(block_sum: BlockSum, bad: float) -> None:
    array = np.ones((1, 2, 8, 8), np.float32)
    array[0, 1, 3, 3] = bad
    with pytest.raises(StackError, match=r"at index 1 .* holds 1 values that are NaN or infinite"):
        fuse_array(block_sum, array)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_a_fuser_makes_are_finite(bad: float) -> None:
    class Dividing(BlockSum):
        def __call__(self, stack: Any) -> Fused:
            image = np.ones(stack.shape[1:], np.float32)
            image[0, 5, 3] = bad
            return Fused(image)

    array = np.ones((1, 2, 8, 8), np.float32)
    with pytest.raises(ProcessingError, match=r"'block-sum' made 1 values .* in y 4-8, x 0-4"):
        fuse_array(Dividing(), array, region_px=4)


@pytest.mark.parametrize(
    ("name", "levels"), [("lpp", 6), ("wt", 6), ("dtcwt", 6), ("wt", 8), ("dtcwt", 8)]
)
def test_values_are_not_so_large_that_squares_overflow(name: str, levels: int) -> None:
    values = np.random.default_rng(0).choice([-MOST, MOST], (1, 2, 96, 64)).astype(np.float32)
    values[:, :, 48:] = 1e15
    options: dict[str, Any] = {"background": "fuse", "levels": levels}
    large = sf.fuse(values, name, **options).values
    assert np.isfinite(large).all() and large.std() > 1e14
    with pytest.raises(StackError, match=r"values from -2e\+15 to 2e\+15 .*; at most 1e\+15 is"):
        sf.fuse(values * 2, name, **options).compute()


def test_a_fuser_that_fails_is_named_with_the_region() -> None:
    class Failing(BlockSum):
        def __call__(self, stack: Any) -> Fused:
            raise AttributeError("no attribute 'shade'")

    # A bare AttributeError would become one of the DataArray, which has ``values``.
    lazy = sf.fuse(np.ones((1, 2, 8, 8), np.uint8), Failing(), chunks=4)
    with pytest.raises(ProcessingError, match=r"'block-sum' failed in y .*no attribute 'shade'"):
        _ = lazy.values


class _Wrong(BlockSum):
    which = 0

    def __call__(self, stack: Any) -> Fused:
        right = super().__call__(stack)
        depth, sure = np.zeros((6, 6), np.int64), np.zeros((6, 6), np.uint8)
        made: dict[int, Any] = {
            1: Fused(right.image[:, 1:], right.depth),
            2: replace(right, image=right.image.astype(np.float64)),
            3: replace(right, depth=np.zeros((1, 1), np.uint8)),
            4: right.image,
            5: None,
            6: replace(right, depth=depth + 2),
            7: replace(right, depth=depth - 1),
            8: replace(right, depth=depth.astype(np.float64)),
            9: replace(right, confidence=sure.astype(np.int64) + 300),
            10: replace(right, confidence=sure.astype(np.float32)),
            11: Fused([1]),  # type: ignore[arg-type]
            12: replace(right, depth=[0]),  # type: ignore[arg-type]
            13: replace(right, maps={"blur": None}),  # type: ignore[dict-item]
            14: Fused([1], maps={"image": depth}),  # type: ignore[arg-type]
        }
        return made[self.which]


@pytest.mark.parametrize(
    ("which", "message"),
    [
        (1, "must keep shape and dtype"),
        (2, "must keep shape and dtype"),
        (3, "depth map"),
        (4, "a ndarray: a fuser returns slidefusion.fuser.Fused"),
        (5, "a NoneType: a fuser returns"),
        (6, "from 2 to 2: it must hold integers from 0 to 1"),
        (7, "from -1 to -1: it must hold integers from 0 to 1"),
        (8, "depth map of float64 .* must hold integers"),
        (9, "confidence map of int64 .* must hold uint8 from 0 to 255"),
        (10, "confidence map of float32 .* must hold uint8"),
        (11, "a list as its image: it must be a NumPy array"),
        (12, "a list as its depth: it must be a NumPy array"),
        (13, "a NoneType as its blur: it must be a NumPy array"),
        (14, "a list as its image: it must be a NumPy array"),
    ],
)
def test_a_fuser_that_breaks_the_protocol_is_named(which: int, message: str) -> None:
    array = np.ones((1, 2, 6, 6), np.uint8)
    tiling = Tiling(Size(6, 6), 6, BlockSum(1).footprint)
    wrong = type("Wrong", (_Wrong,), {"which": which})(1)
    with pytest.raises(PluginError, match=f"'block-sum' returned .*{message}"):
        fuse_region(wrong, ArraySource(array), [0, 1], tiling, Window(0, 0, 6, 6))
