"""Displacements between images that were moved and blurred by a known amount."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, shift

from slidefusion.registration import correlation, displacement, overlap, plane_shifts

SIDE = 160


def cells(seed: int) -> np.ndarray:
    """(Y, X) float32, larger than SIDE: structures of some pixels."""
    noise = np.random.default_rng(seed).normal(size=(SIDE + 80, SIDE + 80))
    blurred = gaussian_filter(noise, 3)
    return (128 + 40 * blurred / blurred.std()).clip(0, 255).astype(np.float32)


@given(st.integers(-30, 30), st.integers(-30, 30), st.integers(0, 5), st.booleans())
def test_a_displacement_is_found(down: int, across: int, seed: int, blurred: bool) -> None:
    whole = cells(seed)
    other = gaussian_filter(whole, 4) if blurred else whole
    image = whole[40 - down : 40 - down + SIDE, 40 - across : 40 - across + SIDE]
    found = displacement(image, other[40 : 40 + SIDE, 40 : 40 + SIDE])
    assert np.abs(np.subtract(found, (down, across))).max() < 0.5
    first, second = overlap(image, other[40 : 40 + SIDE, 40 : 40 + SIDE], down, across)
    assert first.shape == second.shape == (SIDE - abs(down), SIDE - abs(across))
    assert correlation(first, second) > (0.8 if blurred else 0.999)


@pytest.mark.parametrize("way", [(0.3, 0.0), (-1.6, 2.25), (4.5, -0.75)])
def test_it_is_found_to_a_tenth_of_a_pixel(way: tuple[float, float]) -> None:
    whole = cells(1)
    image = shift(whole, way, order=5)[40:200, 40:200]
    assert displacement(image, whole[40:200, 40:200]) == pytest.approx(way, abs=0.1)


def test_uneven_light_that_stays_with_the_camera_is_not_followed() -> None:
    light = np.linspace(0, 200, SIDE, dtype=np.float32)[:, None]
    whole = cells(2)
    found = displacement(whole[33:193, 45:205] + light, whole[40:200, 40:200] + light)
    assert found == pytest.approx((7, -5), abs=0.3)


@given(st.integers(0, 300), st.sampled_from([1, 2, 3, 8, 20]))
def test_of_noise_any_displacement_within_a_quarter_is_had(seed: int, side: int) -> None:
    first, second = np.random.default_rng(seed).normal(size=(2, side, side)).astype(np.float32)
    assert np.abs(displacement(first, second)).max() <= side // 4 * 2 + 1


def test_planes_that_show_nothing_lie_where_their_neighbours_do() -> None:
    whole = cells(3)
    seen = [whole[40:200, 40:200], whole[38:198, 40:200], np.full((SIDE, SIDE), 9, np.float32)]
    places, alone = plane_shifts([[plane] for plane in seen], 0, 3)
    assert places == pytest.approx(np.array([[0, 0], [2, 0], [2, 0]]), abs=0.2)
    assert alone == [2]
    places, alone = plane_shifts([[seen[0]]], 0, 3)
    assert places.tolist() == [[0, 0]] and alone == [0]


@pytest.mark.parametrize("odd", range(5))
@pytest.mark.parametrize("reference", [0, 2, 4])
def test_a_plane_that_shows_nothing_does_not_cut_the_others_in_two(
    odd: int, reference: int
) -> None:
    whole = cells(3)
    seen = [whole[40 - 3 * z : 200 - 3 * z, 40 + z : 200 + z] for z in range(5)]
    rng = np.random.default_rng(0)
    for nothing in (np.full((SIDE, SIDE), 9), rng.normal(0, 50, (SIDE, SIDE))):
        seen[odd] = nothing.astype(np.float32)
        places, alone = plane_shifts([[plane] for plane in seen], reference, 3)
        assert alone == [odd]
        others = [z for z in range(5) if z != odd]
        steps = np.diff(places[others], axis=0) / np.diff(others)[:, None]
        assert steps == pytest.approx(np.tile([3.0, -1.0], (3, 1)), abs=0.2)
