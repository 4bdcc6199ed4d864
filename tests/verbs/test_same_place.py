"""Whether an image shows what planes show: against images moved and blurred by a known amount."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from slidefusion.errors import SlidefusionWarning, StackError
from slidefusion.geometry import Window
from slidefusion.verbs.same_place import check_same_place, fullest_place

SIDE = 160
PLACE = Window(0, 0, SIDE, SIDE)


def cells(seed: int) -> np.ndarray:
    """(Y, X) float32, larger than SIDE: structures of some pixels."""
    noise = np.random.default_rng(seed).normal(size=(SIDE + 80, SIDE + 80))
    blurred = gaussian_filter(noise, 3)
    return (128 + 40 * blurred / blurred.std()).clip(0, 255).astype(np.float32)


def compare(image: np.ndarray, *planes: np.ndarray) -> None:
    check_same_place(
        image[None], [plane[None] for plane in planes],
        white=255, names=("truth.zarr", "stack.zarr"), place=PLACE,
    )  # fmt: skip


def test_what_is_in_place_passes() -> None:  # and a warning would be an error
    whole = cells(0)
    compare(whole, gaussian_filter(whole, 6), cells(1))  # one plane shows it, out of focus
    compare(whole[2:, 1:], whole[:-2, :-1])  # planes of one scan differ by as much
    compare(np.full((64, 64), 240, np.float32), whole[:64, :64])  # glass: cannot be told
    compare(np.full((1, 1), 7, np.uint8), np.full((1, 1), 9, np.uint8))


def test_noise_is_no_difference() -> None:
    rng = np.random.default_rng(0)
    whole = (cells(0) - 128) / 4 + 128
    compare(whole, whole + rng.normal(0, 25, whole.shape).astype(np.float32))


def test_a_shift_is_told() -> None:
    whole = cells(0)
    text = "truth.zarr is shifted against stack.zarr: .* 4 px further down and -3 px further right"
    with pytest.warns(SlidefusionWarning, match=text):
        compare(whole[20 : 20 + SIDE, 10 : 10 + SIDE], whole[24 : 24 + SIDE, 7 : 7 + SIDE])


def test_another_image_is_refused() -> None:
    with pytest.raises(StackError, match=r"truth.zarr does not show what stack.zarr shows.*order"):
        compare(cells(0), cells(1), cells(2), np.full((SIDE + 80, SIDE + 80), 9, np.float32))


def test_the_fullest_place_has_the_cell() -> None:
    image = np.full((3, 700, 900), 240, np.uint8)
    image[1] = 0  # a flat colour is nothing to compare
    image[::2, 600:640, 100:140] = 60
    place = fullest_place((700, 900), lambda window: image[(slice(None), *window.slices)])
    assert place == Window(444, 0, 256, 256)
