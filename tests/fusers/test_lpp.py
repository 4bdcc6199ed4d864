"""`lpp` against a plain OpenCV pyramid, and the laws of cutting."""

from __future__ import annotations

import tracemalloc
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slidefusion.errors import OptionError
from slidefusion.fuser import Footprint
from slidefusion.fusers.dtcwt import Dtcwt
from slidefusion.fusers.lpp import Lpp, halo_px
from slidefusion.fusers.selection import binomial_window
from slidefusion.fusers.wt import Wt
from slidefusion.testing import FuserContract
from slidefusion.testing.stacks import focus_stack, overview

DTYPES: list[type] = [np.uint8, np.uint16, np.float32]


def random_stack(seed: int, shape: tuple[int, ...], dtype: Any = np.uint8) -> np.ndarray:
    values = np.random.default_rng(seed).random(shape, dtype=np.float32)
    return values if np.dtype(dtype).kind == "f" else (values * np.iinfo(dtype).max).astype(dtype)


def textured(seed: int, height: int, width: int) -> np.ndarray:
    """A sharp image (3, Y, X) uint8 with detail of every size."""
    rng = np.random.default_rng(seed)
    image = np.zeros((height, width, 3), np.float32)
    for sigma in (0.7, 2, 6):
        noise = cv2.GaussianBlur(rng.standard_normal((height, width, 3)), (0, 0), sigma)
        image += noise / noise.std() * 20
    return (image + 128).clip(0, 255).astype(np.uint8).transpose(2, 0, 1)


def blurred(image: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(image.transpose(1, 2, 0), (0, 0), sigma).transpose(2, 0, 1)


def opencv_lpp(
    stack: np.ndarray, levels: int, power: int, floor: float, lowpass: str = "activity"
) -> np.ndarray:
    """The same method, written with whole arrays: (Z, C, Y, X) float32 of range 1."""
    taps = binomial_window(2)
    sums: list[Any] = [0] * (levels + 1)
    totals: list[Any] = [0] * levels
    shares: Any = 0
    for plane in stack:
        gaussian = [np.ascontiguousarray(plane.transpose(1, 2, 0))]
        for _ in range(levels):
            gaussian.append(cv2.pyrDown(gaussian[-1]))
        for j in range(levels):
            detail = gaussian[j] - cv2.pyrUp(gaussian[j + 1])
            h, w = detail.shape[0] // 2, detail.shape[1] // 2
            block = np.abs(detail).reshape(h, 2, w, 2, -1).mean((1, 3, 4))
            activity = cv2.sepFilter2D(block, -1, taps, taps)
            weight = (activity.astype(np.float64) + floor) ** power
            totals[j] += weight
            sums[j] += weight.repeat(2, 0).repeat(2, 1)[..., None] * detail
        share = weight if lowpass == "activity" else np.ones_like(weight)
        shares += share
        sums[levels] += share[..., None] * gaussian[levels]
    image = (sums[levels] / shares[..., None]).astype(np.float32)
    for j in reversed(range(levels)):
        share = totals[j].repeat(2, 0).repeat(2, 1)[..., None]
        image = cv2.pyrUp(image) + (sums[j] / share).astype(np.float32)
    return image.transpose(2, 0, 1)


@pytest.mark.parametrize("lowpass", ["activity", "mean"])
@pytest.mark.parametrize(("levels", "power"), [(1, 1), (3, 4), (3, 8)])
def test_equals_the_method_written_with_opencv(levels: int, power: int, lowpass: str) -> None:
    sharp = textured(3, 256, 320)
    planes = [sharp, blurred(sharp, 1.5), blurred(sharp, 4)]
    stack = np.stack(planes).astype(np.float32) / np.float32(255)
    fuser = Lpp(levels=levels, power=power, noise=0.001, clamp=False, lowpass=lowpass)
    margin = fuser.footprint.halo + 8  # away from the border rules
    inside = (slice(None), slice(margin, -margin), slice(margin, -margin))
    expected = opencv_lpp(stack, levels, power, 0.001, lowpass)
    assert np.abs(fuser(stack).image[inside] - expected[inside]).max() < 1e-5


class TestContract(FuserContract):
    fuser_class = Lpp
    options: ClassVar[Any] = [
        {},
        {"levels": 2, "window": 0, "selection": "max", "clamp": False, "background": "fuse"},
        {"levels": 2, "glass": (0.05, 0.02)},
        {"levels": 2, "lowpass": "mean"},
    ]
    examples = 10


def test_footprint_follows_from_the_options() -> None:
    assert Lpp(levels=3, background="fuse").footprint == Footprint(halo=56, period=8)
    assert Lpp(levels=4, background="fuse").footprint == Footprint(halo=116, period=16)
    assert Lpp(levels=4, window=3).footprint == Footprint(halo=132, period=64)
    assert Lpp(levels=3).footprint == Footprint(halo=63, period=64)  # a pixel sees its block


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_aligned_window_equals_the_whole(data: st.DataObject) -> None:
    fuser = Lpp(
        levels=data.draw(st.integers(1, 4)),
        window=data.draw(st.integers(0, 2)),
        selection=data.draw(st.sampled_from(["soft", "max"])),
        clamp=data.draw(st.booleans()),
        background="fuse",  # the window below is padded to the pyramid's own period
    )
    height, width = data.draw(st.integers(1, 320)), data.draw(st.integers(1, 320))
    planes, channels = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    dtype = data.draw(st.sampled_from(DTYPES))
    stack = random_stack(height * width, (planes, channels, height, width), dtype)
    y, x = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    bottom = data.draw(st.integers(y + 1, min(y + 50, height)))
    right = data.draw(st.integers(x + 1, min(x + 50, width)))
    halo, period = fuser.footprint.halo, fuser.footprint.period
    padding = ((0, 0), (0, 0), (0, -height % period), (0, -width % period))
    padded = np.pad(stack, padding, mode="edge")
    top = max(0, y - halo) // period * period
    left = max(0, x - halo) // period * period
    window = padded[
        ...,
        top : min(padded.shape[2], -(-(bottom + halo) // period) * period),
        left : min(padded.shape[3], -(-(right + halo) // period) * period),
    ]
    whole, part = fuser(stack), fuser(window)
    here = (slice(y - top, bottom - top), slice(x - left, right - left))
    assert np.array_equal(part.image[(..., *here)], whole.image[..., y:bottom, x:right])
    assert part.depth is not None and whole.depth is not None
    assert np.array_equal(part.depth[here], whole.depth[y:bottom, x:right])


def test_the_halo_is_needed() -> None:
    """Input a little nearer than the halo does matter: it is not declared larger than it is."""
    for levels, window in ((1, 0), (2, 1), (3, 1)):
        fuser = Lpp(levels=levels, window=window, clamp=False)
        halo = halo_px(levels, window)
        width = 4 * -(-halo // 2**levels) * 2**levels
        stack = random_stack(levels, (2, 1, 2**levels, width), np.float32)
        before = fuser(stack).image[0, 0]
        reach = 0
        for x in range(width // 2, width // 2 + 2**levels):
            changed = stack.copy()
            changed[..., x] += 100
            touched = np.flatnonzero(fuser(changed).image[0, 0] != before)
            reach = max(reach, np.abs(touched - x).max())
        assert halo - 2**levels <= reach <= halo


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("clamp", [True, False])
@pytest.mark.parametrize("selection", ["soft", "max"])
def test_identical_planes_are_an_identity(dtype: type, clamp: bool, selection: str) -> None:
    plane = random_stack(5, (2, 45, 70), dtype)
    fuser = Lpp(clamp=clamp, selection=selection)
    for planes in (1, 2, 7):
        fused = fuser(np.stack([plane] * planes))
        assert fused.image.dtype == dtype
        assert fused.depth is not None and not fused.depth.any()
        if np.dtype(dtype).kind == "f" and not clamp:
            assert np.abs(fused.image - plane).max() < 2e-6
        else:
            assert np.array_equal(fused.image, plane)


@pytest.mark.parametrize("selection", ["soft", "max"])
@pytest.mark.parametrize("position", [0, 3, 6])
def test_a_lone_sharp_plane_wins(selection: str, position: int) -> None:
    sharp = textured(position, 96, 130)
    stack = np.stack([blurred(sharp, 5)] * 7)
    stack[position] = sharp
    fused = Lpp(selection=selection)(stack)
    error = np.abs(fused.image.astype(int) - sharp)
    assert error.mean() < 1
    assert fused.depth is not None
    assert (fused.depth == position).mean() > 0.99


def test_soft_selection_averages_noise_and_max_does_not() -> None:
    noisy = 200 + 5 * np.random.default_rng(0).standard_normal((9, 3, 128, 128))
    stack = noisy.round().astype(np.uint8)
    soft, hard = (Lpp(selection=s)(stack).image.std() for s in ("soft", "max"))
    assert soft < 0.6 * stack.std() < hard


def test_colours_share_one_choice() -> None:
    """A grey scene stays grey, whatever is selected: no channel comes from another plane."""
    grey = random_stack(8, (4, 1, 64, 80)).repeat(3, axis=1)
    image = Lpp()(grey).image
    assert np.array_equal(image[0], image[1])
    assert np.array_equal(image[0], image[2])


def test_clamp_keeps_to_the_planes() -> None:
    stack = random_stack(9, (3, 2, 70, 90), np.uint16)
    image = Lpp(clamp=True)(stack).image
    assert np.all(image >= stack.min(0))
    assert np.all(image <= stack.max(0))
    free = Lpp(clamp=False)(stack).image
    assert np.any(free > stack.max(0))


def test_the_planes_are_left_as_they_are() -> None:
    stack = random_stack(10, (3, 1, 33, 47))
    before = stack.copy()
    stack.flags.writeable = False
    Lpp()(stack)
    assert np.array_equal(stack, before)


def test_float_values_may_have_any_range() -> None:
    stack = random_stack(11, (3, 1, 64, 64), np.float32) * 1e4 - 5e3
    image = Lpp()(stack).image
    assert np.isfinite(image).all()
    assert np.abs(image).max() <= 5e3


class OnePlaneAtATime:
    """Planes that exist only while they are looked at."""

    def __init__(self, shape: tuple[int, ...], dtype: type) -> None:
        self.shape = shape
        self.dtype = np.dtype(dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, z: int) -> np.ndarray:
        return random_stack(z, self.shape[1:], self.dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2, 3, 400, 600), (2, 1, 1000, 7), (3, 4, 100, 100)])
@pytest.mark.parametrize("clamp", [True, False])
def test_memory_stays_within_the_bound(dtype: type, shape: tuple[int, ...], clamp: bool) -> None:
    fuser = Lpp(clamp=clamp)
    stack = random_stack(0, shape, dtype)
    fuser(stack[..., :16, :16])
    tracemalloc.start()
    try:
        fuser(stack)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= fuser.working_bytes(*shape)


def test_memory_does_not_grow_with_the_planes() -> None:
    fuser = Lpp()
    peaks = []
    for planes in (4, 11):
        stack: Any = OnePlaneAtATime((planes, 1, 256, 256), np.uint8)
        fuser(stack)
        tracemalloc.start()
        try:
            fuser(stack)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < 1.01 * peaks[0] + 4096


def test_more_planes_than_a_byte_counts() -> None:
    stack = random_stack(12, (300, 1, 16, 16))
    fused = Lpp(levels=1, window=0)(stack)
    assert fused.depth is not None and fused.depth.dtype == np.uint16
    assert fused.depth.max() > 255


@pytest.mark.parametrize("kind", [Lpp, Wt, Dtcwt])
@pytest.mark.parametrize("device", ["cpu", "torch-cpu"])
def test_the_bits_of_the_camera_make_no_difference(kind: Any, device: str) -> None:
    stack = focus_stack(3, 3, 1, 128, 160, "uint8")  # (Z, C, Y, X)

    def fused(factor: float, dtype: str, white: float | None = None) -> np.ndarray:
        scaled = (stack * np.float64(factor)).astype(dtype)
        fuser = kind(background="fuse", device=device, white=white).prepare(overview(scaled))
        return fuser(scaled).image / factor

    usual = fused(1, "uint8")
    for factor, dtype in ((4, "uint16"), (16, "uint16"), (1 / 255, "float32")):
        assert np.abs(fused(factor, dtype, 255 * factor) - usual).max() <= 1
        # As measured the brightest 0.1 % are white, which is near it.
        assert np.abs(fused(factor, dtype) - usual).mean() < 0.5
    assert np.abs(fused(4, "uint16", 65535.0) - usual).mean() > 0.6


def test_white_is_above_zero() -> None:
    with pytest.raises(OptionError, match="is above 0"):
        Lpp(white=0.0)
