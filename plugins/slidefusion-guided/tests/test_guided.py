"""The contract, the paper's formulas in floats, and borders."""

from typing import ClassVar

import numpy as np
import pytest
from scipy import ndimage
from slidefusion_guided import Guided, reach_px

from slidefusion.testing import FuserContract

SMALL = {"base_radius": 3, "base_weight_radius": 4, "detail_weight_radius": 2}


class TestGuided(FuserContract):
    fuser_class = Guided
    options: ClassVar = [
        {},
        {**SMALL, "saliency_radius": 1, "base_weight_eps": 1e-7, "detail_weight_eps": 1e-7},
        {"base_radius": 63, "base_weight_radius": 1, "detail_weight_radius": 1},
    ]


def box(image, radius):
    """Mean over the part of the window that lies inside the image."""
    size = 2 * radius + 1
    inside = ndimage.uniform_filter(np.ones_like(image), size, mode="constant")
    return ndimage.uniform_filter(image, size, mode="constant") / inside


def guided_filter(p, guide, radius, eps):
    """He, Sun and Tang 2010, in floats."""
    mean_i, mean_p = box(guide, radius), box(p, radius)
    a = (box(guide * p, radius) - mean_i * mean_p) / (box(guide**2, radius) - mean_i**2 + eps)
    b = mean_p - a * mean_i
    return box(a, radius) * guide + box(b, radius)


def as_in_the_paper(stack, fuser):
    """Li, Kang and Hu 2013, equations 1 to 10, for planes (Z, C, Y, X) in [0, 1]."""
    shares = np.array([0.299, 0.587, 0.114]) if stack.shape[1] == 3 else 1 / stack.shape[1]
    guides = (stack * np.reshape(shares * np.ones(stack.shape[1]), (-1, 1, 1))).sum(axis=1)
    taps = np.exp(-0.5 * (np.arange(-fuser.saliency_radius, fuser.saliency_radius + 1) / 5.0) ** 2)
    taps /= taps.sum()
    saliency = []
    for guide in guides:
        smooth = np.abs(ndimage.laplace(guide, mode="nearest"))
        for axis in (0, 1):
            smooth = ndimage.correlate1d(smooth, taps, axis=axis, mode="nearest")
        saliency.append(smooth)
    chosen = np.argmax(saliency, axis=0)
    base = np.stack([[box(c, fuser.base_radius) for c in plane] for plane in stack])
    fused = 0
    for layer, radius, eps in (
        (base, fuser.base_weight_radius, fuser.base_weight_eps),
        (stack - base, fuser.detail_weight_radius, fuser.detail_weight_eps),
    ):
        weights = np.stack(
            [
                np.maximum(guided_filter((chosen == z) * 1.0, guides[z], radius, eps), 0)
                for z in range(len(stack))
            ]
        )
        fused = fused + (layer * weights[:, None]).sum(axis=0) / weights.sum(axis=0)
    return fused, chosen


def focus_stack(channels, planes=3, seed=0, size=(90, 110)):
    """Planes (Z, C, Y, X) in [0, 1], each sharp in its own vertical band."""
    rng = np.random.default_rng(seed)
    sharp = ndimage.gaussian_filter(rng.random((channels, *size)), (0, 0.7, 0.7))
    sharp = (sharp - sharp.min()) / np.ptp(sharp)
    soft = ndimage.gaussian_filter(sharp, (0, 3, 3))
    band = np.arange(size[1]) * planes // size[1]
    return np.stack([np.where(band == z, sharp, soft) for z in range(planes)]), sharp


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("options", [{}, SMALL])
def test_it_follows_the_paper(channels, options):
    fuser = Guided(**options)
    stack, _ = focus_stack(channels)
    expected, chosen = as_in_the_paper(stack, fuser)
    fused = fuser(stack.astype(np.float32))
    # The Gaussian's integer taps move the border of a choice by a pixel here and there.
    error = np.abs(fused.image - expected)
    assert np.mean(error) < 1e-3
    assert np.quantile(error, 0.99) < 5e-3
    assert np.mean(fused.depth == chosen) > 0.97


def test_it_recovers_the_sharp_image_where_weights_do_not_blend():
    size, planes, fuser = (90, 200), 4, Guided()
    stack, sharp = focus_stack(3, planes, size=size)
    fused = fuser(np.rint(stack * 255).astype(np.uint8))
    truth = np.arange(size[1]) * planes // size[1]
    assert np.mean(fused.depth == truth) > 0.9
    # Across the hard border of two bands the detail's weights change over two of their radii.
    borders = np.flatnonzero(np.diff(truth)) + 0.5
    distance = np.abs(np.arange(size[1])[:, None] - borders).min(axis=1)
    clear = distance > 2 * fuser.detail_weight_radius
    error = np.abs(fused.image / 255 - sharp)[..., clear].mean()
    best_plane = min(np.abs(plane - sharp)[..., clear].mean() for plane in stack)
    assert error < 0.1 * best_plane


def test_float_range_is_a_scale():
    stack, _ = focus_stack(1)
    stack = stack.astype(np.float32)
    expected = Guided()(stack).image
    np.testing.assert_allclose(
        Guided(float_range=4096.0)(stack * np.float32(4096)).image / 4096, expected, atol=1e-6
    )


def test_values_beyond_the_float_range_survive():
    stack, _ = focus_stack(1)
    stack = (stack * 300 - 20).astype(np.float32)
    copies = np.repeat(stack[:1], 3, axis=0)
    np.testing.assert_allclose(Guided()(copies).image, copies[0], rtol=1e-5, atol=1e-4)


def test_the_reach_follows_from_the_radii():
    assert Guided().footprint.halo == reach_px(15, 45, 7, 5) == 96
    assert reach_px(60, 1, 1, 1) == 60
    assert reach_px(1, 2, 9, 3) == 22
