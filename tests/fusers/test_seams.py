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
    borders = sorted({e for k in range(0, side - tile, stride) for e in (k, k + tile)} - {0})

    def excess(image: np.ndarray) -> float:
        """How much steeper than beside them an image (Y, X) is at the borders, along x."""
        steep = np.abs(np.diff(image, axis=1)).mean(axis=0)  # between columns x and x + 1
        at = np.mean([steep[x - 1] for x in borders])
        beside = np.mean([[*steep[x - 9 : x - 2], *steep[x + 1 : x + 8]] for x in borders])
        return float(at / beside)

    # What lies at 20 columns is a little steeper or flatter by chance: the plane's own is known.
    before, after = (image.mean(axis=0, dtype=np.float32) for image in (plane[:, 0], fused))
    assert excess(after) == pytest.approx(excess(before), rel=0.02)
    assert excess(after.T) == pytest.approx(excess(before.T), rel=0.02)
