"""Grain comes back where only noise was taken, and not where something was restored."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from slidefusion.fusers import grain
from slidefusion.fusers.grain import keep_grain, noise_level
from slidefusion.nets.heads import detail_bands


def images(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A sharp scene (3, 96, 96) in [0, 1], flat on the left, and it blurred with noise."""
    rng = np.random.default_rng(seed)
    scene = np.full((3, 96, 96), 0.85)
    texture = ndimage.gaussian_filter(rng.normal(0, 1, (96, 40)), 1.0)
    scene[:, :, 56:] = 0.5 + 0.4 * np.tanh(2 * texture)
    blurred = ndimage.gaussian_filter(scene, (0, 3, 3))
    return scene, blurred + rng.normal(0, 0.01, scene.shape)


def tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image[None].astype(np.float32))


def test_grain_on_glass_and_none_where_something_was_restored() -> None:
    scene, plane = images()
    kept = keep_grain(tensor(plane), tensor(scene), 0.009)[0].numpy()
    glass, restored = np.s_[:, 8:-8, 8:40], np.s_[:, 20:-20, 66:-8]
    noise = (plane - scene)[glass]
    assert np.corrcoef(noise.ravel(), (kept - scene)[glass].ravel())[0, 1] > 0.9
    assert np.abs(kept - scene)[restored].mean() < 0.1 * np.abs(plane - scene)[restored].mean()


def test_an_image_that_lacks_nothing_is_unchanged() -> None:
    _, plane = images()
    plane = plane.clip(0, 1)
    assert torch.equal(keep_grain(tensor(plane), tensor(plane), 0.01), tensor(plane))


def with_particles(plane: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``plane`` (3, H, W) with eight dark spots on its glass, and where they are (H, W)."""
    spots = np.zeros(plane.shape[1:])
    spots[16:88:18, [14, 30]] = 1
    spots = ndimage.gaussian_filter(spots, 1.5)
    return plane - 0.06 * spots / spots.max(), spots > 0.5 * spots.max()


@pytest.mark.parametrize("fused", [False, True])
def test_what_was_erased_comes_back_and_noise_does_not(fused: bool) -> None:
    scene, plane = images()
    seen, spots = with_particles(plane)
    noise = 0.009 if not fused else 0.014  # a fusion has less than its planes
    kept = keep_grain(tensor(seen), tensor(scene), noise, 0.0, 1.0, fused=fused)[0].numpy()
    bands = detail_bands(tensor(seen - scene))
    lost = -np.sum([band[0].numpy()[:, spots].mean() for band in bands])
    # The finest band of so faint a thing is hardly more than the noise; the others come back whole.
    assert (scene - kept)[:, spots].mean() > 0.6 * lost > 0.02
    glass = ~ndimage.binary_dilation(spots, iterations=9)
    glass[:, 46:] = False
    before, after = (np.abs(image - scene)[:, glass].mean() for image in (plane, kept))
    assert after < 0.15 * before
    half = keep_grain(tensor(seen), tensor(scene), noise, 0.0, 0.5, fused=fused)[0].numpy()
    np.testing.assert_allclose(half - scene, (kept - scene) / 2, atol=1e-6)


def test_a_plane_that_has_less_than_the_image_takes_nothing_from_it() -> None:
    scene, plane = images()
    kept = keep_grain(tensor(plane), tensor(scene), 0.009, 0.0, 1.0)[0].numpy()
    np.testing.assert_allclose(kept[:, 24:-24, 70:-10], scene[:, 24:-24, 70:-10], atol=0.02)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("shape", [(2, 3, 140, 70), (1, 3, 96, 96), (1, 3, 4, 5), (1, 1, 64, 9)])
def test_compiled_and_as_tensors(shape: tuple[int, ...], fused: bool) -> None:
    torch.manual_seed(3)
    source = 0.5 + 0.05 * torch.randn(shape)
    image = source + 0.03 * torch.randn(shape) * torch.linspace(0, 1, shape[-1])
    image[..., shape[-1] // 2 :] = 0.5 + 0.5 * (image[..., shape[-1] // 2 :] - 0.5)
    shares = torch.rand(2, shape[0], 1, *shape[2:])
    found = keep_grain(source, image, 0.01, *shares, fused=fused)
    levels = [0.01 * level for level in grain._LEVELS]
    limits = (16.0, 0.7) if fused else (4.0, 1.5)
    expected = grain._as_tensors(source, image, levels, limits, *shares)
    torch.testing.assert_close(found, expected, atol=5e-6, rtol=0)
    for some in (0, 1):
        alone = keep_grain(
            source,
            image,
            0.01,
            *(shares * (torch.arange(2) == some).reshape(2, 1, 1, 1, 1)),
            fused=fused,
        )
        assert not torch.equal(found, alone) and not torch.equal(alone, image)


def test_levels_are_those_of_white_noise() -> None:
    noise = torch.from_numpy(np.random.default_rng(1).normal(0, 1, (1, 1, 512, 512)))
    finest, *coarser = (float(band.std()) for band in detail_bands(noise))
    found = [1.0, *(band / finest for band in coarser)]
    assert found == pytest.approx(grain._LEVELS, rel=0.02)


@pytest.mark.parametrize(("dtype", "white"), [("uint8", 255.0), ("uint16", 4000.0)])
def test_noise_is_that_of_the_glass_whatever_else_there_is(dtype: str, white: float) -> None:
    rng = np.random.default_rng(2)
    patches = np.full((8, 2, 3, 128, 128), 0.8)
    patches[4:] += ndimage.gaussian_filter(rng.normal(0, 1, patches[4:].shape), (0, 0, 0, 1, 1))
    patches += rng.normal(0, 0.01, patches.shape)
    patches[:3, ..., :64] = 1.0  # filled up: no noise at all
    given = (white * patches).clip(0, white).round().astype(dtype)
    finest = 0.01 * float(detail_bands(torch.randn(1, 1, 256, 256))[0].std())
    assert noise_level(given, white) == pytest.approx(finest, rel=0.1)
    assert noise_level(given[:3, ..., :64], white) == 0.0
