"""The Laplacian pyramid against OpenCV's, and its own laws."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slidefusion.errors import OptionError, StackError
from slidefusion.transforms.laplacian import (
    forward,
    inverse,
    pad_to_period,
    reach_px,
)


def random_image(seed: int, channels: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).random((channels, height, width), dtype=np.float32)


@pytest.mark.parametrize("levels", [1, 2, 3, 4])
def test_equals_opencv_in_the_interior(levels: int) -> None:
    image = random_image(levels, 2, 256, 320)
    pyramid = forward(image, levels)
    for channel in range(2):
        gaussian = [image[channel]]
        for _ in range(levels):
            gaussian.append(cv2.pyrDown(gaussian[-1]))
        for j in range(levels):
            expected = gaussian[j] - cv2.pyrUp(gaussian[j + 1])
            margin = -(-(2 + reach_px(j + 1)) // 2**j) + 2  # away from the border rules
            inside = (slice(margin, -margin), slice(margin, -margin))
            assert np.abs(pyramid[j][channel][inside] - expected[inside]).max() < 1e-5
        margin = -(-reach_px(levels) // 2**levels)
        inside = (slice(margin, -margin), slice(margin, -margin))
        assert np.abs(pyramid[-1][channel][inside] - gaussian[-1][inside]).max() < 1e-5


@settings(deadline=None, max_examples=25)
@given(
    st.integers(1, 5),
    st.integers(1, 3),
    st.integers(1, 6),
    st.integers(1, 6),
    st.integers(0, 1000),
)
def test_inverse_rebuilds_the_image(
    levels: int, channels: int, rows: int, columns: int, seed: int
) -> None:
    image = random_image(seed, channels, rows * 2**levels, columns * 2**levels)
    before = image.copy()
    assert np.abs(inverse(forward(image, levels)) - image).max() < 1e-6
    assert np.array_equal(image, before)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_integers_decompose_like_floats(dtype: type) -> None:
    image = np.random.default_rng(1).integers(0, 255, (3, 32, 48)).astype(dtype)
    for ours, expected in zip(forward(image, 3), forward(image.astype(np.float32), 3), strict=True):
        assert ours.dtype == np.float32
        assert np.array_equal(ours, expected)


def test_a_constant_has_no_detail_at_the_border_either() -> None:
    *details, low = forward(np.full((1, 32, 64), 7, np.float32), 4)
    assert all(np.abs(detail).max() < 1e-5 for detail in details)
    assert np.allclose(low, 7)


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_reaches_are_exact(level: int) -> None:
    """An impulse marks what depends on it, and the furthest such sample is at the reach."""
    size = 2 ** (level + 3)
    felt = 0
    for position in range(size // 2, size // 2 + 2**level):
        image = np.zeros((1, 2**level, size), np.float32)
        image[..., position] = 1
        samples = np.flatnonzero(forward(image, level)[-1][0, 0]) * 2**level
        felt = max(felt, np.abs(samples - position).max())
    assert felt == reach_px(level)
    low = np.zeros((1, 1, 8), np.float32)
    low[..., 4] = 1
    zeros = [np.zeros((1, 2 ** (level - j), size >> j), np.float32) for j in range(level)]
    expanded = np.flatnonzero(inverse([*zeros, low])[0, 0])
    assert np.abs(expanded - 4 * 2**level).max() == reach_px(level)


def test_a_shape_off_the_period_is_refused() -> None:
    with pytest.raises(StackError, match=r"pad_to_period\(image, 4\)"):
        forward(np.zeros((1, 8, 6), np.float32), 2)
    padded = pad_to_period(np.arange(6.0).reshape(1, 1, 6), 4)
    assert padded.shape == (1, 4, 8)
    assert padded[0, 3].tolist() == [0, 1, 2, 3, 4, 5, 5, 5]


@pytest.mark.parametrize("levels", [-1, 1.5, None, "2"])
def test_levels_are_a_whole_number(levels: Any) -> None:
    with pytest.raises(OptionError, match="give a whole number, 0 or more"):
        forward(np.zeros((1, 8, 8), np.float32), levels)


@pytest.mark.parametrize("period", [0, -4, 2.5])
def test_a_period_is_a_whole_number(period: Any) -> None:
    with pytest.raises(StackError, match="give a whole number of pixels"):
        pad_to_period(np.zeros((1, 8, 8)), period)


@pytest.mark.parametrize(
    "shapes",
    [[], [(8, 8)], [(1, 64, 64), (1, 1, 1)], [(1, 8, 8), (1, 40, 40)], [(3, 8, 8), (1, 4, 4)]],
)
def test_what_is_no_pyramid_is_not_inverted(shapes: list[tuple[int, ...]]) -> None:
    with pytest.raises(StackError, match="are no Laplacian pyramid"):
        inverse([np.zeros(shape, np.float32) for shape in shapes])
