"""Grain comes back where only noise was taken, and not where something was restored."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from slidefusion.fusers import grain
from slidefusion.fusers.grain import keep_grain


def images(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A sharp scene (3, 96, 96) in [0, 1], flat on the left, and it blurred with noise."""
    rng = np.random.default_rng(seed)
    scene = np.full((3, 96, 96), 0.85)
    texture = ndimage.gaussian_filter(rng.normal(0, 1, (96, 40)), 1.0)
    scene[:, :, 56:] = 0.5 + 0.4 * np.tanh(2 * texture)
    blurred = ndimage.gaussian_filter(scene, (0, 3, 3))
    return scene, blurred + rng.normal(0, 0.01, scene.shape)


def tensor(*planes: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack(planes)[None].astype(np.float32))


def test_grain_on_glass_and_none_where_something_was_restored() -> None:
    scene, plane = images()
    kept = keep_grain(tensor(plane), tensor(scene)[:, 0])[0].numpy()
    glass, restored = np.s_[:, 8:-8, 8:40], np.s_[:, 8:-8, 66:-8]
    noise = (plane - scene)[glass]
    assert np.corrcoef(noise.ravel(), (kept - scene)[glass].ravel())[0, 1] > 0.9
    assert np.abs(kept - scene)[restored].mean() < 0.1 * np.abs(plane - scene)[restored].mean()


def test_the_grain_is_that_of_the_nearest_plane() -> None:
    scene, plane = images()
    rng = np.random.default_rng(5)
    sharp = scene + rng.normal(0, 0.01, scene.shape)
    kept = keep_grain(tensor(plane, sharp), tensor(scene)[:, 0])[0].numpy()
    inside = np.s_[:, 8:-8, 66:-8]
    added = (kept - scene)[inside]
    assert np.corrcoef((sharp - scene)[inside].ravel(), added.ravel())[0, 1] > 0.8


def test_an_image_that_lacks_nothing_is_unchanged() -> None:
    _, plane = images()
    plane = plane.clip(0, 1)
    assert torch.equal(keep_grain(tensor(plane), tensor(plane)[:, 0]), tensor(plane)[:, 0])


@pytest.mark.parametrize("shape", [(2, 3, 3, 140, 70), (1, 1, 3, 96, 96), (1, 2, 3, 4, 5)])
def test_compiled_and_as_tensors(shape: tuple[int, ...]) -> None:
    torch.manual_seed(3)
    planes = 0.5 + 0.05 * torch.randn(shape)
    change = 0.03 * torch.randn(shape)[:, 0] * torch.linspace(0, 1, shape[-1])
    image = planes[:, 0] + change
    found = keep_grain(planes, image)
    torch.testing.assert_close(found, grain._as_tensors(planes, image), atol=2e-6, rtol=0)
    assert not torch.equal(found, image)
