"""`wt`: the fuser contract, and the method written with PyWavelets."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import pywt

from slidefusion.errors import OptionError
from slidefusion.fusers.wt import Wt
from slidefusion.testing import FuserContract
from tests.fusers.wavelet_oracle import soft_shares, voted_shares

SHAPE = (3, 2, 88, 96)


class TestContract(FuserContract):
    fuser_class = Wt
    examples = 6
    options: ClassVar = [
        {"levels": 2},
        {"wavelet": "db2", "levels": 3, "activity": "magnitude", "window": 1},
        {"wavelet": "haar", "levels": 2, "selection": "max", "consistency": 2},
        {"wavelet": "db3", "levels": 2, "lowpass": "mean", "selection": "max", "clamp": False},
    ]


def random_stack(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(SHAPE, dtype=np.float32)


@pytest.mark.parametrize(
    "options",
    [
        {"wavelet": "db2", "activity": "energy", "selection": "soft", "lowpass": "activity"},
        {"wavelet": "bior4.4", "activity": "magnitude", "selection": "max", "lowpass": "mean"},
    ],
)
def test_equals_the_method_written_with_pywavelets(options: dict[str, Any]) -> None:
    stack = random_stack(2).astype(np.float64)
    levels, window, noise, vote = 3, 1, 0.01, 1
    wavelet = options["wavelet"]
    pyramids = [pywt.wavedec2(plane, wavelet, "symmetric", level=levels) for plane in stack]
    fused: list[Any] = [None] * (levels + 1)
    for j in range(levels, 0, -1):  # PyWavelets counts from the coarsest level
        bands = np.stack([np.stack(pyramid[j]) for pyramid in pyramids])  # (Z, 3, C, y, x)
        if options["activity"] == "energy":
            activities = list(np.sqrt((bands**2).mean((1, 2))))
        else:
            activities = list(np.abs(bands).mean((1, 2)))
        if options["selection"] == "soft":
            shares = np.stack(soft_shares(activities, window, 8, noise))
        else:
            shares = np.stack(voted_shares(activities, window, vote, noise))
        fused[j] = tuple(np.einsum("zyx,zbcyx->bcyx", shares, bands))
        if j == 1:
            lows = np.stack([pyramid[0] for pyramid in pyramids])
            if options["lowpass"] == "activity":
                fused[0] = np.einsum("zyx,zcyx->cyx", shares, lows)
            else:
                fused[0] = lows.mean(0)
    expected = pywt.waverec2(fused, wavelet, "symmetric")
    fuser = Wt(levels=levels, window=window, noise=noise, consistency=vote, clamp=False, **options)
    actual = fuser(stack.astype(np.float32)).image
    assert np.abs(actual - expected).max() < 1e-5


def test_depth_follows_the_sharp_plane() -> None:
    rng = np.random.default_rng(4)
    sharp = rng.random((1, 64, 128), dtype=np.float32)
    flat = np.full_like(sharp, 0.5)
    left, right = flat.copy(), flat.copy()
    left[..., :64] = sharp[..., :64]
    right[..., 64:] = sharp[..., 64:]
    depth = Wt(selection="max")(np.stack([left, right])).depth
    assert depth is not None
    assert (depth[:, :56] == 0).all()
    assert (depth[:, 72:] == 1).all()
    boundary = (depth == 0).sum(1).mean()
    assert abs(boundary - 64) < 4


def test_halo_grows_with_what_it_follows_from() -> None:
    base = Wt(wavelet="db2", levels=4, window=1, background="fuse").footprint
    assert base.halo == 61
    assert base.period == 16
    assert Wt(wavelet="db2", levels=4, window=2).footprint.halo == 61 + 16
    assert Wt(wavelet="db2", levels=4, window=1, selection="max").footprint.halo == 61 + 16
    assert Wt(wavelet="db4", levels=4, window=1).footprint.halo > base.halo


def test_clamp_keeps_the_range_of_the_planes() -> None:
    stack = random_stack(6)
    image = Wt()(stack).image
    assert (image >= stack.min(0)).all()
    assert (image <= stack.max(0)).all()
    free = Wt(clamp=False)(stack).image
    assert ((free < stack.min(0)) | (free > stack.max(0))).any()


def test_unknown_wavelet() -> None:
    with pytest.raises(OptionError, match="'db99' is unknown"):
        Wt(wavelet="db99")
