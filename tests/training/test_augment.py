"""Augmentation does the same to planes and truth, and nothing when it is off."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slidefusion.training.augment import Augmentation

IMAGE = np.random.default_rng(1).integers(0, 256, (3, 16, 16)).astype(np.uint8)
OFF = Augmentation(flips=False, stain=0.0, lamp=0.0, gray=0.0, repeat=0.0, border=0.0)


@given(st.integers(0, 2**32))
def test_planes_and_truth_change_alike(seed: int) -> None:
    stack, truth = Augmentation(repeat=0.0)(
        np.stack([IMAGE, IMAGE, IMAGE]), IMAGE, np.random.default_rng(seed)
    )
    assert all(np.array_equal(plane, truth) for plane in stack)
    assert truth.dtype == np.uint8 and truth.flags.c_contiguous


def test_off_means_unchanged() -> None:
    stack, truth = OFF(IMAGE[None], IMAGE, np.random.default_rng(0))
    assert np.array_equal(stack[0], IMAGE) and np.array_equal(truth, IMAGE)


def test_flips_are_the_symmetries_of_the_square() -> None:
    seen = {
        Augmentation(stain=0, lamp=0, gray=0, border=0)(
            IMAGE[None], IMAGE, np.random.default_rng(n)
        )[1].tobytes()
        for n in range(60)
    }
    turns = [np.rot90(image, k, (1, 2)) for image in (IMAGE, IMAGE[..., ::-1]) for k in range(4)]
    assert seen == {turn.tobytes() for turn in turns}


def test_stain_scales_the_optical_density() -> None:
    ramp = np.broadcast_to(np.arange(64, 256, 12, dtype=np.uint8), (3, 16, 16))
    only = dataclasses.replace(OFF, stain=0.3)
    _, changed = only(ramp[None], ramp, np.random.default_rng(4))
    before, after = np.log10(255 / ramp[:, 0, :-1]), np.log10(255 / changed[:, 0, :-1])
    factor = after[:, :1] / before[:, :1]
    assert not np.allclose(factor, 1, atol=0.02)
    assert np.abs(after - factor * before).max() < 0.01  # rounding to 8 bits


def test_gray_has_equal_channels() -> None:
    _, truth = Augmentation(gray=1.0)(IMAGE[None], IMAGE, np.random.default_rng(2))
    assert np.array_equal(truth[0], truth[1]) and np.array_equal(truth[0], truth[2])


@pytest.mark.parametrize("seed", range(4))
def test_repeat_gives_the_middle_plane_twice(seed: int) -> None:
    planes = np.stack([IMAGE // 4, IMAGE // 2, IMAGE])
    repeat = dataclasses.replace(OFF, repeat=1.0)
    stack, _ = repeat(planes, IMAGE, np.random.default_rng(seed))
    given = [planes.tolist().index(plane.tolist()) for plane in stack]
    assert given in ([1, 1, 2], [0, 1, 1])


def test_mixing_keeps_gray_and_glass_and_the_range_of_densities() -> None:
    mixing = Augmentation(flips=False, stain=0, lamp=0, gray=0, mix=1.0)
    gray = np.repeat(IMAGE[:1], 3, axis=0)
    _, same = mixing(gray[None], gray, np.random.default_rng(3))
    assert np.abs(same.astype(int) - np.maximum(gray, 1)).max() <= 1
    _, mixed = mixing(IMAGE[None], IMAGE, np.random.default_rng(3))
    assert not np.array_equal(mixed, IMAGE)
    assert (mixed.max(axis=0) <= IMAGE.max(axis=0).astype(int) + 1).all()
    assert (mixed.min(axis=0) >= np.maximum(IMAGE, 1).min(axis=0).astype(int) - 1).all()


@given(st.integers(0, 2**32))
def test_a_border_is_one_flat_value_behind_an_edge(seed: int) -> None:
    size = 64
    image = np.full((3, size, size), 200, np.uint8)
    stack, truth = dataclasses.replace(OFF, border=1.0)(
        image[None], image, np.random.default_rng(seed)
    )
    assert np.array_equal(stack[0], truth)  # which every plane shows as the truth does
    assert np.array_equal(truth[0], truth[1]) and np.array_equal(truth[0], truth[2])
    beyond = truth[0][truth[0] != 200]
    assert beyond.size  # the edge crosses the crop
    filled = beyond[np.argmax(np.abs(beyond.astype(int) - 200))]
    assert filled <= 40 or filled == 255
    between = (truth[0] != 200) & (truth[0] != filled)
    assert between.sum() <= 6 * size  # an edge of a pixel or two, as long as the crop or bent
