"""`dtcwt`: the fuser contract, and the method written with the torch transform."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from slidefusion.errors import OptionError
from slidefusion.fusers.dtcwt import Dtcwt
from slidefusion.testing import FuserContract
from slidefusion.transforms import torch_dtcwt
from tests.fusers.wavelet_oracle import soft_shares, voted_shares


class TestContract(FuserContract):
    fuser_class = Dtcwt
    examples = 6
    options: ClassVar = [
        {"levels": 2},
        {"filters": "legall", "levels": 3, "activity": "magnitude", "window": 2},
        {"filters": "near_sym_b", "qshift": "qshift_d", "levels": 2, "selection": "max"},
        {"qshift": "qshift_06", "levels": 2, "lowpass": "mean", "clamp": False},
    ]


@pytest.mark.parametrize(
    "options",
    [
        {"activity": "energy", "selection": "soft", "lowpass": "activity"},
        {"activity": "magnitude", "selection": "max", "lowpass": "mean"},
    ],
)
def test_equals_the_method_written_with_torch(options: dict[str, Any]) -> None:
    stack = np.random.default_rng(2).random((3, 2, 48, 64))
    levels, window, noise, vote = 3, 1, 0.01, 1
    names = "near_sym_b", "qshift_c"
    lows, bands = torch_dtcwt.forward(torch.from_numpy(stack), levels, *names)
    fused = []
    for level in bands:  # (Z, C, 6, y, x)
        coefficients = level.numpy()
        if options["activity"] == "energy":
            # A complex coefficient counts as its two parts.
            mean_square = (np.abs(coefficients) ** 2).mean((1, 2)) / 2
            activities = list(np.sqrt(mean_square))
        else:
            activities = list(np.abs(coefficients).mean((1, 2)))
        if options["selection"] == "soft":
            shares = np.stack(soft_shares(activities, window, 8, noise))
        else:
            shares = np.stack(voted_shares(activities, window, vote, noise))
        fused.append(torch.from_numpy(np.einsum("zyx,zcbyx->cbyx", shares, coefficients)))
    if options["lowpass"] == "activity":
        finest = shares.repeat(2, 1).repeat(2, 2)
        low = torch.from_numpy(np.einsum("zyx,zcyx->cyx", finest, lows.numpy()))
    else:
        low = lows.mean(0)
    expected = torch_dtcwt.inverse(low, fused, (48, 64), *names).numpy()
    fuser = Dtcwt(
        filters=names[0],
        qshift=names[1],
        levels=levels,
        window=window,
        noise=noise,
        consistency=vote,
        clamp=False,
        **options,
    )
    actual = fuser(stack.astype(np.float32)).image
    assert np.abs(actual - expected).max() < 1e-5


def test_depth_follows_the_sharp_plane() -> None:
    rng = np.random.default_rng(4)
    sharp = rng.random((1, 64, 128), dtype=np.float32)
    left, right = np.full_like(sharp, 0.5), np.full_like(sharp, 0.5)
    left[..., :64] = sharp[..., :64]
    right[..., 64:] = sharp[..., 64:]
    depth = Dtcwt(selection="max")(np.stack([left, right])).depth
    assert depth is not None
    assert (depth[:, :56] == 0).all()
    assert (depth[:, 72:] == 1).all()


def test_halo_grows_with_what_it_follows_from() -> None:
    base = Dtcwt().footprint
    assert base.period == 64
    assert Dtcwt(background="fuse").footprint.period == 8
    assert Dtcwt(window=2).footprint.halo == base.halo + 8
    assert Dtcwt(selection="max").footprint.halo == base.halo + 8
    assert Dtcwt(qshift="qshift_d").footprint.halo > base.halo


def test_unknown_filters() -> None:
    with pytest.raises(OptionError, match="did you mean 'qshift_a'"):
        Dtcwt(qshift="qshifta")
