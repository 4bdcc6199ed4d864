"""The physics: Beer-Lambert, the PSF, and focus through depth."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as run
from hypothesis import strategies as st
from scipy import special

from slidefusion.geometry import Window
from slidefusion.phantom import Phantom, PhantomSettings
from slidefusion.phantom.psf import _disc_transfer, blur_radius_px, kernel
from slidefusion.phantom.render import compose_block

from .conftest import CLEAN, disc_sheet

WHITE = 240.0


def sharpness(image):
    """Mean squared gradient."""
    gy, gx = np.gradient(image.astype(float))
    return float((gy**2 + gx**2).mean())


def kernel_2d(item):
    """The whole PSF (Y, X) of ``2 * reach + 1`` px a side."""
    right = np.concatenate([item.quadrant[:, :0:-1], item.quadrant], axis=1)
    return np.concatenate([right[:0:-1], right], axis=0)


def test_disc_transfer_is_the_bessel_function():
    x = np.linspace(1e-6, 90, 500)
    assert np.allclose(_disc_transfer(x), 2 * special.j1(x) / x, atol=1e-9)


@run(deadline=None, max_examples=40)
@given(
    st.floats(0, 30),
    st.sampled_from([0.1, 0.4, 0.8, 0.95]),
    st.floats(0.15, 0.6),
    st.floats(0.0, 0.5),
)
def test_psf_is_normalised_and_not_negative(dz_um, na, mpp_um, softness):
    item = kernel(PhantomSettings(na=na, mpp_um=mpp_um, softness=softness), round(dz_um, 3))
    full = kernel_2d(item)
    assert full.shape == (2 * item.reach + 1,) * 2
    assert full.min() >= 0
    assert full.sum() == pytest.approx(1, abs=1e-5)
    assert np.array_equal(full, full.T) and np.array_equal(full, full[::-1])


def test_psf_grows_with_distance_as_the_cone_does():
    def width(dz_um):
        item = kernel(PhantomSettings(), dz_um)
        full, line = kernel_2d(item).astype(float), np.arange(-item.reach, item.reach + 1)
        return math.sqrt((full.sum(axis=0) * line**2).sum()) * 2**item.level

    widths = [width(dz) for dz in (0.0, 0.7, 1.35, 2.7, 5.4, 10.8, 21.6)]
    assert widths == sorted(widths)
    # A uniform disc of radius r has the standard deviation r / 2 along an axis.
    radius = blur_radius_px(PhantomSettings(), 10.8)
    soft = PhantomSettings().softness * radius
    assert width(10.8) == pytest.approx(math.hypot(radius / 2, soft), rel=0.06)
    angle = math.asin(0.85 * 0.8 / 1.5)
    assert radius == pytest.approx(10.8 * math.tan(angle) / 0.243)


def test_doubling_a_density_squares_the_transmission():
    once = compose_block([disc_sheet(0.0, density=0.2)], CLEAN, 3, 0, 0, 0)
    twice = compose_block([disc_sheet(0.0, density=0.4)], CLEAN, 3, 0, 0, 0)
    two_cells = compose_block(
        [disc_sheet(0.0, density=0.2), disc_sheet(2.7, density=0.2)], CLEAN, 3, 0, 0, 0
    )
    for image in ("stack", "truth"):
        t1 = getattr(once, image)[..., 256, 256] / WHITE
        t2 = getattr(twice, image)[..., 256, 256] / WHITE
        assert t1 == pytest.approx(10**-0.2, abs=0.004)
        assert t2 == pytest.approx(t1**2, abs=0.006)
        assert getattr(two_cells, image)[..., 256, 256] / WHITE == pytest.approx(t2, abs=0.006)


def test_light_is_neither_lost_nor_gained_by_defocus():
    sheet = disc_sheet(0.0, radius=40, texture=0.6)
    stack = compose_block([sheet], CLEAN, 9, 0, 0, 0).stack
    absorbed = (WHITE - stack.astype(float)).sum(axis=(1, 2, 3))
    assert absorbed == pytest.approx(absorbed[4], rel=0.03)


@pytest.mark.parametrize("plane", [0, 2, 5, 8])
def test_a_cell_is_sharpest_where_it_lies_and_looks_like_the_truth_there(plane):
    depth = (plane - 4) * CLEAN.z_step_um
    region = compose_block([disc_sheet(depth, texture=0.7)], CLEAN, 9, 0, 0, 0)
    measure = [sharpness(image[0]) for image in region.stack]
    assert np.argmax(measure) == plane
    assert np.abs(region.stack[plane].astype(int) - region.truth).max() <= 1
    assert measure[plane] > 4 * max(measure[:plane] + measure[plane + 1 :])
    assert np.nanmedian(region.depth_um) == pytest.approx(depth)


def test_a_tilted_cell_is_sharp_along_a_line():
    sheet = disc_sheet(0.0, radius=120, texture=0.7, slope=0.06)
    region = compose_block([sheet], CLEAN, 5, 0, 0, 0)
    left, right = slice(196, 226), slice(286, 316)  # 45 px from the middle: 2.7 um of depth
    measure = lambda z, columns: sharpness(region.stack[z, 0, 200:310, columns])  # noqa: E731
    assert np.argmax([measure(z, left) for z in range(5)]) == 1
    assert np.argmax([measure(z, right) for z in range(5)]) == 3


def test_the_truth_is_the_limit_of_a_shallow_stack():
    shallow = replace(
        CLEAN, na=0.1, z_step_um=0.2, depth_um=0.0, tilt=0.0, wavelength_um=0.3, mpp_um=1.0
    )
    region = Phantom(400, 400, planes=3, seed=4, settings=shallow).render(Window(0, 0, 400, 400))
    assert region.cell_mask.any()
    difference = np.abs(region.stack.astype(int) - region.truth)
    # Layers are blurred before they are multiplied, the truth after: edges that cross differ.
    assert np.quantile(difference, 0.995) <= 2
    assert difference.max() <= 16


def test_the_grid_of_blocks_leaves_no_trace():
    sheets = [
        disc_sheet(z, radius=70, texture=0.5, centre=c)
        for z, c in ((-9.0, 470), (3.1, 540), (11.0, 600))
    ]
    block = compose_block(sheets, CLEAN, 5, 0, 0, 0)
    moved = compose_block(sheets, CLEAN, 5, 256, 64, 0)
    for a, b in zip(block, moved, strict=True):
        assert np.array_equal(
            a[..., 256:, 64:], b[..., :256, : 512 - 64], equal_nan=a.dtype.kind == "f"
        )


def test_far_blur_is_the_geometrical_disc():
    point = disc_sheet(0.0, radius=3, density=0.5)
    settings = replace(CLEAN, softness=0.0, z_step_um=9.0)
    image = WHITE - compose_block([point], settings, 3, 0, 0, 0).stack[0, 0].astype(float)
    exact = kernel_2d(kernel(settings, 9.0)) if kernel(settings, 9.0).level == 0 else None
    assert exact is None  # the reduced resolution is what is tested here
    line = np.arange(512) - 256
    second_moment = (image.sum(axis=0) * line**2).sum() / image.sum()
    assert math.sqrt(second_moment) == pytest.approx(blur_radius_px(settings, 9.0) / 2, rel=0.12)
