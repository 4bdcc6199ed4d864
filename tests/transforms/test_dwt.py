"""The wavelet transform against PyWavelets, and its own laws."""

from __future__ import annotations

import numpy as np
import pytest
import pywt
import torch
from hypothesis import given
from hypothesis import strategies as st

from slidefusion.errors import OptionError, StackError
from slidefusion.transforms import dwt, torch_dwt
from slidefusion.transforms.wavelets import MODES, filter_bank

WAVELETS = pywt.wavelist(kind="discrete")
SOME = ["haar", "db2", "db7", "sym8", "coif3", "bior4.4", "rbio3.1"]


def image_of(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 1, shape).astype(np.float32)


def assert_close(actual: np.ndarray, expected: np.ndarray, scale: float = 1.0) -> None:
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= 1e-5 * max(scale, np.abs(expected).max())


@pytest.mark.filterwarnings("ignore:Level value of")  # PyWavelets, about short images
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("wavelet", WAVELETS)
def test_equals_pywavelets(wavelet: str, mode: str) -> None:
    for shape in [(33, 47), (64, 40), (5, 1)]:
        image = image_of(1, *shape)
        low, *details = pywt.wavedec2(image.astype(np.float64), wavelet, mode, level=3)
        ours = dwt.forward(image, wavelet, 3, mode)
        assert_close(ours[-1], low)
        for band, theirs in zip(ours, reversed(details), strict=False):
            assert band.dtype == np.float32
            assert_close(band, np.stack(theirs))
        theirs = pywt.waverec2([low, *details], wavelet, mode)[: shape[0], : shape[1]]
        assert_close(dwt.inverse(ours, shape, wavelet, mode), theirs)


@given(
    st.sampled_from(SOME),
    st.sampled_from(MODES),
    st.integers(1, 4),
    st.integers(1, 70),
    st.integers(1, 70),
)
def test_any_size_is_rebuilt(wavelet: str, mode: str, levels: int, height: int, width: int) -> None:
    image = image_of(height, 2, height, width)
    pyramid = dwt.forward(image, wavelet, levels, mode)
    # Rounding errors are relative to the coefficients; rbio3.1's grow to hundreds.
    largest = max(np.abs(band).max() for band in pyramid)
    assert_close(dwt.inverse(pyramid, (height, width), wavelet, mode), image, largest)


@given(st.sampled_from(SOME), st.sampled_from(MODES), st.integers(1, 40), st.integers(1, 40))
def test_torch_agrees(wavelet: str, mode: str, height: int, width: int) -> None:
    image = image_of(width, 2, height, width)
    compiled = dwt.forward(image, wavelet, 3, mode)
    readable = torch_dwt.forward(torch.from_numpy(image), wavelet, 3, mode)
    for one, other in zip(compiled, readable, strict=True):
        assert_close(other.numpy(), one)
    largest = max(np.abs(band).max() for band in compiled)
    rebuilt = torch_dwt.inverse(readable, (height, width), wavelet, mode)
    assert_close(rebuilt.numpy(), image, largest)


@given(
    st.sampled_from(SOME),
    st.integers(1, 4),
    st.tuples(st.integers(0, 3), st.integers(0, 3)),
    st.integers(0, 100),
)
def test_window_has_the_coefficients_of_the_whole(
    wavelet: str, levels: int, corner: tuple[int, int], seed: int
) -> None:
    bank = filter_bank(wavelet)
    period = 2**levels
    before, after = dwt.analysis_reach_px(bank, levels)
    side = before + after + 3 * period + seed % 37  # a few coefficients are out of the border's way
    top, left = (period * n for n in corner)
    image = image_of(seed, top + side + 11, left + side + 5)
    whole = dwt.forward(image, wavelet, levels)
    part = dwt.forward(image[top : top + side, left : left + side], wavelet, levels)
    bands = [(j + 1, whole[j], part[j]) for j in range(levels)]
    bands.append((levels, whole[-1][np.newaxis], part[-1][np.newaxis]))
    for level, of_whole, of_part in bands:
        step = 2**level
        before, after = dwt.analysis_reach_px(bank, level)
        first, last = -(-before // step), (side - 1 - after) // step
        assert last > first
        y, x = top // step, left // step
        inner = of_part[:, first : last + 1, first : last + 1]
        same = of_whole[:, y + first : y + last + 1, x + first : x + last + 1]
        assert np.array_equal(inner, same)


@pytest.mark.parametrize("wavelet", SOME)
def test_reach_of_the_inverse(wavelet: str) -> None:
    # Coefficients further than the reach from a pixel may be anything: it does not change a bit.
    bank = filter_bank(wavelet)
    image = image_of(3, 1, 400)
    pyramid = dwt.forward(image, wavelet, 3)
    rebuilt = dwt.inverse(pyramid, image.shape, wavelet)
    pixel = 203
    for j, band in enumerate([*pyramid[:-1], pyramid[-1][np.newaxis]]):
        level = min(j + 1, 3)
        before, after = dwt.synthesis_reach_px(bank, level)
        at = 2**level * np.arange(band.shape[-1])
        band[..., (at < pixel - before) | (at > pixel + after)] += 1
    assert dwt.inverse(pyramid, image.shape, wavelet)[0, pixel] == rebuilt[0, pixel]


def test_near_match_is_named() -> None:
    with pytest.raises(OptionError, match="did you mean 'coif5'"):
        filter_bank("coif_5")


def test_bad_requests() -> None:
    image = image_of(0, 8, 8)
    with pytest.raises(OptionError, match="mode 'wrap' is unknown"):
        dwt.forward(image, mode="wrap")
    for levels in (0, 2.5):
        with pytest.raises(OptionError, match=f"levels={levels}"):
            dwt.forward(image, levels=levels)  # type: ignore[arg-type]
        with pytest.raises(OptionError, match=f"levels={levels}"):
            torch_dwt.forward(torch.from_numpy(image), levels=levels)  # type: ignore[arg-type]
    with pytest.raises(StackError, match=r"shape \(8,\)"):
        dwt.forward(image[0])
    with pytest.raises(StackError, match="not the haar pyramid"):
        dwt.inverse(dwt.forward(image, "db2", 2), (8, 8), "haar")


def test_input_is_neither_written_nor_required_to_be_writable() -> None:
    image = image_of(5, 3, 20, 24)
    image.flags.writeable = False
    kept = image.copy()
    pyramid = dwt.forward(image)
    copies = [band.copy() for band in pyramid]
    dwt.inverse(pyramid, (20, 24))
    assert np.array_equal(image, kept)
    assert all(np.array_equal(a, b) for a, b in zip(pyramid, copies, strict=True))
