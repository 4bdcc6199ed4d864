"""What the phantom's tests share."""

from __future__ import annotations

import numpy as np
import pytest

from slidefusion.phantom import PhantomSettings
from slidefusion.phantom.structures import Sheet

CLEAN = PhantomSettings(full_well=0, vignette=0, gray=True, white=(240, 240, 240))
"""A noiseless gray camera without vignette."""


def disc_sheet(z_um, *, radius=90, texture=0.0, density=0.3, centre=256, slope=0.0):
    """A round sheet in the middle of the block at (0, 0), of even or textured amount."""
    side = 2 * radius + 1
    line = np.arange(side) - radius
    inside = np.hypot(line[:, None], line[None, :]) <= radius
    rng = np.random.default_rng(5)
    amount = 1 + texture * rng.uniform(-1, 1, (side, side))
    depth = np.broadcast_to(z_um + slope * line, (side, side))
    return Sheet(
        centre - radius,
        centre - radius,
        np.where(inside, amount, 0).astype(np.float32),
        np.ascontiguousarray(depth, np.float32),
        np.array([density], np.float32),
        float(depth.min()),
        float(depth.max()),
    )


@pytest.fixture
def empty_caches(monkeypatch):
    """Rendering starts from nothing; call it to start over."""
    from slidefusion.phantom import phantom
    from slidefusion.phantom.cache import Cache

    def clear():
        monkeypatch.setattr(phantom, "_BLOCKS", Cache(2**28))
        monkeypatch.setattr(phantom, "_SHEETS", Cache(2**28))

    clear()
    return clear
