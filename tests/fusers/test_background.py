from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slidefusion.engine import fuse_array
from slidefusion.fuser import Footprint, Fused, PlaneRange
from slidefusion.fusers.background import (
    BLOCK_PX,
    background_bytes,
    fuse_unless_empty,
    glass_ranges,
    with_blocks,
)
from slidefusion.fusers.lpp import Lpp
from slidefusion.overview import MemoryOverview

GLASS = 235


@dataclass(frozen=True)
class First:
    """The first plane, but for empty blocks: a method that is easy to tell from the mean."""

    name: ClassVar[str] = "first"
    planes: ClassVar[PlaneRange] = PlaneRange(1)
    device: ClassVar[str] = "cpu"
    limits: tuple[float, float] = (0.05, 0.02)

    @property
    def footprint(self) -> Footprint:
        return with_blocks(Footprint())

    def working_bytes(self, planes: int, channels: int, height: int, width: int) -> int:
        return background_bytes(channels, height, width)

    def __call__(self, stack: Any) -> Fused:
        def fuse(planes: Any) -> Fused:
            return Fused(np.array(planes[0]), np.zeros(planes.shape[2:], np.uint8))

        return fuse_unless_empty(stack, self.limits, fuse)


def empty_by_numpy(stack: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """The rule, said again: (Y, X) whether the pixel's block of (C, Z, Y, X) is empty."""
    full = 1.0 if stack.dtype.kind == "f" else float(np.iinfo(stack.dtype).max)
    height, width = stack.shape[2:]
    bottom, right = -height % BLOCK_PX, -width % BLOCK_PX
    padded = np.pad(stack, ((0, 0), (0, 0), (0, bottom), (0, right)), mode="edge").astype(float)
    found = np.zeros(padded.shape[2:], bool)
    for y in range(0, padded.shape[2], BLOCK_PX):
        for x in range(0, padded.shape[3], BLOCK_PX):
            block = padded[:, :, y : y + BLOCK_PX, x : x + BLOCK_PX]
            cells = block.reshape(*block.shape[:2], 16, 4, 16, 4).mean((3, 5))
            flat = np.ptp(block, axis=(1, 2, 3)) <= limits[0] * full
            flat &= np.ptp(cells, axis=(1, 2, 3)) <= limits[1] * full
            found[y : y + BLOCK_PX, x : x + BLOCK_PX] = flat.all()
    return found[:height, :width]


def scene(seed: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Glass with a little noise and a few dark things, (C, Z, Y, X)."""
    rng = np.random.default_rng(seed)
    stack = GLASS + rng.normal(0, 1, shape)
    for _ in range(3):
        y, x = rng.integers(0, shape[2]), rng.integers(0, shape[3])
        stack[:, rng.integers(0, shape[1]), y : y + 9, x : x + 9] -= rng.integers(3, 90)
    scale = {"u1": 1, "u2": 257, "f4": 1 / 255}[np.dtype(dtype).str[1:]]
    stack = np.clip(stack, 0, 255) * scale
    return (stack if np.dtype(dtype).kind == "f" else np.rint(stack)).astype(dtype)


@given(
    st.integers(0, 99),
    st.integers(1, 200),
    st.integers(1, 200),
    st.integers(1, 150),
    st.sampled_from([np.uint8, np.uint16, np.float32]),
)
def test_the_rule_whatever_the_cutting(
    seed: int, height: int, width: int, region: int, dtype: Any
) -> None:
    stack = scene(seed, (2, 3, height, width), dtype)
    fuser = First()
    found = fuse_array(fuser, stack, region)
    empty = empty_by_numpy(stack, fuser.limits)
    mean = stack.astype(np.float64).mean(1)
    if stack.dtype.kind == "f":
        expected = np.where(empty, mean, stack[:, 0])
        np.testing.assert_allclose(found.image, expected, rtol=1e-6)
    else:
        rounded = np.floor(mean + 0.5)
        assert np.array_equal(found.image, np.where(empty, rounded, stack[:, 0]))
    assert found.depth is not None
    assert np.array_equal(found.depth, np.where(empty, 1, 0))
    whole = fuse_array(fuser, stack)
    assert np.array_equal(whole.image, found.image)


def test_an_empty_window_is_not_fused_and_read_once() -> None:
    reads: list[int] = []

    class Counting(np.ndarray):
        def __getitem__(self, index: Any) -> Any:
            reads.append(index)
            return np.asarray(self)[index]

    stack = np.full((5, 3, 128, 128), GLASS, np.uint8).view(Counting)

    def never(_: Any) -> Fused:
        raise AssertionError("glass was fused")

    fused = fuse_unless_empty(stack, (0.0, 0.0), never)
    assert reads == [0, 1, 2, 3, 4]
    assert (fused.image == GLASS).all()
    assert fused.depth is not None and (fused.depth == 2).all()


def overview(patches: np.ndarray) -> MemoryOverview:
    return MemoryOverview(patches[0], patches)


@pytest.mark.parametrize("sigma", [0.5, 1.5, 2.4])
def test_noise_alone_is_empty_and_faint_things_are_not(sigma: float) -> None:
    rng = np.random.default_rng(3)
    noise = GLASS - 30 + rng.normal(0, sigma, (25, 5, 3, 128, 128))
    patches = np.rint(noise).astype(np.uint8)
    limits = glass_ranges(overview(patches))
    image = np.rint(GLASS - 30 + rng.normal(0, sigma, (3, 5, 640, 640))).astype(np.uint8)
    assert empty_by_numpy(image, limits).mean() > 0.97
    # A thing of 8 x 8 px in one plane that is as faint as the noise of two pixels is seen.
    faint = 2 * max(sigma, 0.5) + 2
    for block in range(0, 640, BLOCK_PX):
        image[:, 2, block + 20 : block + 28, block + 20 : block + 28] -= np.uint8(round(faint))
    seen = ~empty_by_numpy(image, limits)
    assert all(seen[block + 24, block + 24] for block in range(0, 640, BLOCK_PX))


def test_ranges_come_from_patches_that_differ_from_plane_to_plane() -> None:
    rng = np.random.default_rng(0)
    patches = rng.normal(0.5, 0.005, (20, 3, 1, 64, 64)).astype(np.float32)
    pixels, cells = glass_ranges(overview(patches))
    assert pixels == pytest.approx(10 * 0.005, rel=0.05)
    assert cells == pytest.approx(8.5 * 0.005 / 4, rel=0.1)
    texture = rng.normal(0, 0.01, (1, 1, 1, 64, 64)).astype(np.float32)
    patches[4:] += texture  # in all planes: not noise
    assert glass_ranges(overview(patches))[0] == pytest.approx(pixels, rel=0.1)
    patches[:4] += texture
    assert glass_ranges(overview(patches)) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("dtype", "scale"), [("uint16", 65535), ("uint16", 4095), ("float32", 1), ("float32", 0.01)]
)
def test_what_counts_as_loud_and_related_is_the_same_on_any_scale(dtype: str, scale: float) -> None:
    """Noise of 3 % of white is too loud to be told from things; of .3 %, in values however small,
    it is noise, and texture that all planes share is not."""
    rng = np.random.default_rng(1)
    shape = (20, 3, 1, 64, 64)
    for sigma, believed in ((0.03, False), (0.003, True)):
        patches = (scale * rng.normal(0.7, sigma, shape)).clip(0, scale).astype(dtype)
        found = Lpp(white=scale).prepare(overview(patches))
        assert found.glass is not None and (found.glass[0] > 0) == believed
        if believed:
            full = 65535 if dtype == "uint16" else 1
            assert found.glass[0] == pytest.approx(10 * sigma * scale / full, rel=0.05)
    texture = rng.normal(0.7, 0.003, shape[-2:])
    assert glass_ranges(overview((scale * np.broadcast_to(texture, shape)).astype(dtype))) == (0, 0)


def test_no_glass_is_assumed_without_evidence() -> None:
    rng = np.random.default_rng(0)
    patches = rng.normal(0.5, 0.005, (20, 3, 1, 64, 64)).astype(np.float32)
    assert glass_ranges(overview(patches[..., :5, :5])) == (0.0, 0.0)  # too small
    assert glass_ranges(overview(patches[:, :1])) == (0.0, 0.0)  # one plane
    assert glass_ranges(overview(patches * 8)) == (0.0, 0.0)  # too loud
