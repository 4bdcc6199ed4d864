"""The dual-tree complex wavelet transform against the ``dtcwt`` package, and its own laws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from slidefusion.errors import OptionError, StackError
from slidefusion.transforms import dtcwt, dwt, torch_dtcwt
from slidefusion.transforms.dtcwt_filters import LEVEL1, QSHIFT, dual_tree

GOLDEN = sorted((Path(__file__).parent / "golden").glob("dtcwt_*.npz"))
filters = st.tuples(st.sampled_from(sorted(LEVEL1)), st.sampled_from(sorted(QSHIFT)))


def image_of(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 1, shape).astype(np.float32)


def assert_close(actual: np.ndarray, expected: np.ndarray) -> None:
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= 1e-5 * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_equals_the_dtcwt_package(path: Path) -> None:
    golden = np.load(path)
    names = str(golden["level1_filters"]), str(golden["qshift_filters"])
    pyramid = dtcwt.forward(golden["image"], 4, *names)
    assert_close(pyramid.lowpass, golden["lowpass"])
    for j, band in enumerate(pyramid.highpasses):
        assert band.dtype == np.complex64
        assert_close(band, golden[f"level{j + 1}"])
        band *= golden["gains"][:, j, np.newaxis, np.newaxis]
    assert_close(dtcwt.inverse(pyramid, *names), golden["scaled"])


def test_every_published_filter_is_compared() -> None:
    assert len(GOLDEN) == 7
    assert all(any(f"{name}_qshift" in path.stem for path in GOLDEN) for name in LEVEL1)
    assert all(any(f"{name}_" in path.stem for path in GOLDEN) for name in QSHIFT)


@given(filters, st.integers(1, 4), st.integers(1, 70), st.integers(1, 70))
def test_any_size_is_rebuilt(names: tuple[str, str], levels: int, height: int, width: int) -> None:
    image = image_of(height, 2, height, width)
    assert_close(dtcwt.inverse(dtcwt.forward(image, levels, *names), *names), image)


@given(filters, st.integers(1, 40), st.integers(1, 40))
def test_torch_agrees(names: tuple[str, str], height: int, width: int) -> None:
    image = image_of(width, 2, height, width)
    pyramid = dtcwt.forward(image, 3, *names)
    lowpass, highpasses = torch_dtcwt.forward(torch.from_numpy(image), 3, *names)
    assert_close(lowpass.numpy(), pyramid.lowpass)
    for one, other in zip(pyramid.highpasses, highpasses, strict=True):
        assert_close(other.numpy(), one)
    rebuilt = torch_dtcwt.inverse(lowpass, highpasses, (height, width), *names)
    assert_close(rebuilt.numpy(), image)


@given(
    filters,
    st.integers(1, 4),
    st.tuples(st.integers(0, 3), st.integers(0, 3)),
    st.integers(0, 100),
)
def test_window_has_the_coefficients_of_the_whole(
    names: tuple[str, str], levels: int, corner: tuple[int, int], seed: int
) -> None:
    tree = dual_tree(*names)
    period = 2**levels
    before, after = dtcwt.analysis_reach_px(tree, levels)
    side = period * (-(-(before + after) // period) + 3)
    top, left = (period * n for n in corner)
    image = image_of(seed, top + side + period, left + side + 2 * period)
    whole = dtcwt.forward(image, levels, *names)
    part = dtcwt.forward(image[top : top + side, left : left + side], levels, *names)
    for level in range(1, levels + 1):
        step = 2**level
        before, after = dtcwt.analysis_reach_px(tree, level)
        first, last = -(-before // step), (side - 1 - after) // step
        assert last > first
        y, x = top // step, left // step
        inner = part.highpasses[level - 1][:, first : last + 1, first : last + 1]
        same = whole.highpasses[level - 1][:, y + first : y + last + 1, x + first : x + last + 1]
        assert np.array_equal(inner, same)
    inner = part.lowpass[2 * first : 2 * last + 2, 2 * first : 2 * last + 2]
    same = whole.lowpass[2 * (y + first) : 2 * (y + last) + 2, 2 * (x + first) : 2 * (x + last) + 2]
    assert np.array_equal(inner, same)


@pytest.mark.parametrize("names", [("near_sym_a", "qshift_a"), ("near_sym_b", "qshift_d")])
@pytest.mark.parametrize("pixel", [256, 259, 263])
def test_reach_of_the_inverse(names: tuple[str, str], pixel: int) -> None:
    # Coefficients further than the reach from a pixel may be anything: it does not change a bit.
    tree = dual_tree(*names)
    pyramid = dtcwt.forward(image_of(3, 16, 512), 3, *names)
    rebuilt = dtcwt.inverse(pyramid, *names)
    for j, band in enumerate(pyramid.highpasses):
        before, after = dtcwt.synthesis_reach_px(tree, j + 1)
        at = 2 ** (j + 1) * np.arange(band.shape[-1])
        band[..., (at < pixel - before) | (at > pixel + after)] += 1
    column = dtcwt.inverse(pyramid, *names)[:, pixel]
    assert np.array_equal(column, rebuilt[:, pixel])


@pytest.mark.parametrize(
    "names, most", [(("near_sym_a", "qshift_a"), 0.12), (("near_sym_b", "qshift_d"), 0.02)]
)
def test_energy_hardly_depends_on_the_position(names: tuple[str, str], most: float) -> None:
    # Kingsbury 2001, section 2: a step moved sample by sample, and the energy of each level.
    energy, separable = [], []
    for shift in range(16):
        image = np.zeros((128, 128), np.float32)
        image[:, 50 + shift :] = 1
        bands = dtcwt.forward(image, 4, *names).highpasses
        energy.append([(np.abs(band[:, :, 2:-2]) ** 2).sum() for band in bands])
        details = dwt.forward(image, "db2", 4)[:-1]
        separable.append([(band[:, :, 4:-4] ** 2).sum() for band in details])
    spread, spread_dwt = (np.std(e, 0) / np.mean(e, 0) for e in (energy, separable))
    assert spread.max() < most
    assert spread_dwt.min() > 0.3


@pytest.mark.parametrize("angle, band", [(15, 0), (45, 1), (75, 2), (-75, 3), (-45, 4), (-15, 5)])
def test_orientations(angle: int, band: int) -> None:
    y, x = np.mgrid[:64, :64]
    across = np.cos(np.deg2rad(angle)) * y + np.sin(np.deg2rad(angle)) * x
    grating = np.cos(0.4 * np.pi * across).astype(np.float32)
    energy = (np.abs(dtcwt.forward(grating, 2).highpasses[1]) ** 2).sum((1, 2))
    assert energy.argmax() == band
    assert np.sort(energy)[-2] < energy[band] / 2


def test_bad_requests() -> None:
    image = image_of(0, 8, 8)
    with pytest.raises(OptionError, match="did you mean 'near_sym_b'"):
        dtcwt.forward(image, level1="near_symb")
    with pytest.raises(OptionError, match="'qshift_e' are unknown"):
        dtcwt.forward(image, qshift="qshift_e")
    for levels in (0, 2.5):
        with pytest.raises(OptionError, match=f"levels={levels}"):
            dtcwt.forward(image, levels=levels)  # type: ignore[arg-type]
        with pytest.raises(OptionError, match=f"levels={levels}"):
            torch_dtcwt.forward(torch.from_numpy(image), levels=levels)  # type: ignore[arg-type]
    with pytest.raises(StackError, match=r"shape \(8,\)"):
        dtcwt.forward(image[0])
    pyramid = dtcwt.forward(image, 2)
    wrong = dtcwt.Pyramid(pyramid.lowpass, pyramid.highpasses, (12, 8))
    with pytest.raises(StackError, match="12 x 8 px"):
        dtcwt.inverse(wrong)


def test_input_is_neither_written_nor_required_to_be_writable() -> None:
    image = image_of(5, 3, 21, 26)
    image.flags.writeable = False
    kept = image.copy()
    pyramid = dtcwt.forward(image)
    copies = [pyramid.lowpass.copy(), *(band.copy() for band in pyramid.highpasses)]
    dtcwt.inverse(pyramid)
    assert np.array_equal(image, kept)
    after = [pyramid.lowpass, *pyramid.highpasses]
    assert all(np.array_equal(a, b) for a, b in zip(after, copies, strict=True))
