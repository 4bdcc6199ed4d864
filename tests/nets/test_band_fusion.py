"""The fusion that a generator can begin from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from slidefusion.nets.band_fusion import FLOOR, BandFusion, fused_plane


def by_scipy(stack: np.ndarray) -> np.ndarray:
    """:func:`fused_plane` of (Z, C, H, W) in float64, from its definition."""

    def smooth(image: np.ndarray, step: int) -> np.ndarray:
        taps = np.zeros(4 * step + 1)
        taps[::step] = np.array([1, 4, 6, 4, 1]) / 16
        for axis in (-2, -1):
            image = ndimage.convolve1d(image, taps, axis=axis, mode="nearest")
        return image

    image, total = stack, 0.0
    for step in (1, 2, 4):
        below = smooth(image, step)
        activity = smooth(smooth(np.abs(image - below).mean(axis=1), step), step)
        weights = np.maximum(activity, FLOOR)[:, None] ** 8
        total += (weights * (image - below)).sum(axis=0) / weights.sum(axis=0)
        image = below
    total += (weights * image).sum(axis=0) / weights.sum(axis=0)
    return np.clip(total, stack.min(axis=0), stack.max(axis=0))


@pytest.mark.parametrize("shape", [(3, 3, 70, 41), (2, 1, 5, 90), (1, 3, 20, 20), (4, 3, 9, 9)])
def test_it_is_what_it_says(shape: tuple[int, ...]) -> None:
    stack = np.random.default_rng(1).random((2, *shape), np.float32)
    stack[:, :, :, : shape[2] // 2] = 0.3 + 0.01 * stack[:, :, :, : shape[2] // 2]
    found = fused_plane(torch.from_numpy(stack)).numpy()
    for one, image in zip(stack, found, strict=True):
        np.testing.assert_allclose(image, by_scipy(one.astype(np.float64)), atol=2e-6)


def test_what_is_sharp_in_a_plane_is_sharp() -> None:
    truth = np.random.default_rng(2).random((3, 96, 96), np.float32)
    soft = ndimage.gaussian_filter(truth, (0, 3, 3))
    left, right = truth.copy(), truth.copy()
    left[:, :, 48:], right[:, :, :48] = soft[:, :, 48:], soft[:, :, :48]
    stack = torch.from_numpy(np.stack([left, soft, right]))[None]
    error = np.abs(fused_plane(stack)[0].numpy() - truth)
    assert error[:, :, :30].max() < 0.02 and error[:, :, -30:].max() < 0.02


@pytest.mark.parametrize("planes", [1, 2, 3, 4])
def test_it_stands_in_the_middle(planes: int) -> None:
    stack = torch.rand(2, planes, 3, 16, 24)
    more = BandFusion()(stack)
    at = more.shape[1] // 2
    assert more.shape == (2, planes + 1, 3, 16, 24)
    assert torch.equal(more[:, at], fused_plane(stack))
    assert torch.equal(torch.cat([more[:, :at], more[:, at + 1 :]], dim=1), stack)
