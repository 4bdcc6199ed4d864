"""Masks of blur: artificial ones mark what was changed, real ones what is not as the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from slidefusion.training.degradation import blurred_places, degrade

SHARP = (
    ndimage.gaussian_filter(np.random.default_rng(0).normal(128, 120, (3, 128, 128)), (0, 1, 1))
    .clip(0, 255)
    .astype(np.uint8)
)


def test_a_blurred_half_is_found() -> None:
    plane = SHARP.copy()
    plane[:, :, 64:] = ndimage.gaussian_filter(SHARP.astype(float), (0, 3, 3))[:, :, 64:]
    mask = blurred_places(plane, SHARP)
    assert mask[:, 80:].mean() > 0.98
    assert mask[:, :48].mean() < 0.02


def test_glass_is_not_blurred() -> None:
    rng = np.random.default_rng(1)
    glass = np.clip(240 + rng.normal(0, 1.0, (3, 64, 64)), 0, 255).astype(np.uint8)
    assert not blurred_places(glass, np.full_like(glass, 240)).any()
    _, mask = degrade(glass, rng)
    assert not mask.any()


@pytest.mark.parametrize("seed", range(5))
def test_artificial_blur_lies_in_its_mask(seed: int) -> None:
    image, mask = degrade(SHARP, np.random.default_rng(seed))
    changed = np.abs(image.astype(float) - SHARP).mean(axis=0)
    inside = ndimage.binary_erosion(mask, iterations=6)
    outside = ndimage.binary_erosion(~mask, iterations=8)
    assert 0.05 < mask.mean() < 0.95
    assert changed[inside].mean() > 4 * changed[outside].mean()
