"""No seam where tiles meet: the image is no steeper there than beside it."""

from __future__ import annotations

import numpy as np
import pytest

import slidefusion as sf
from slidefusion.geometry import Window
from slidefusion.phantom import Phantom


@pytest.mark.slow
def test_gradients_across_tile_borders_are_those_beside_them() -> None:
    """With the weights that ship: 4096 x 4096 px, tiles of 512 px, 384 px apart."""
    side, stride, tile = 4096, 384, 512
    phantom = Phantom(side, side, planes=3, seed=11)
    plane = phantom.stack(Window(0, 0, side, side))[:, 1:2]  # (C, Z, Y, X)
    phantom.close()
    fused = np.asarray(sf.fuse(plane, "focusgan"))
    gray = fused.mean(axis=0, dtype=np.float32)
    borders = sorted({e for k in range(0, side - tile, stride) for e in (k, k + tile)} - {0})
    for image in (gray, gray.T):
        steep = np.abs(np.diff(image, axis=1)).mean(axis=0)  # between columns x and x + 1
        at = np.mean([steep[x - 1] for x in borders])
        beside = np.mean(
            [steep[x - 9 : x - 2].mean() + steep[x + 1 : x + 8].mean() for x in borders]
        )
        assert at == pytest.approx(beside / 2, rel=0.02)
