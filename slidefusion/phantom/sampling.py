"""Two small compiled functions that every painter uses: a texture's value, and a soft edge."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from slidefusion.jit import kernel
from slidefusion.phantom.textures import SIDE, TEXEL_UM

__all__ = ["edge", "sample"]

_MASK = SIDE - 1  # the side is a power of two, so that wrapping around is a mask
_TEXELS_PER_UM = 1 / TEXEL_UM


@kernel
def sample(texture: npt.NDArray[np.float32], y: float, x: float) -> float:
    """The texture (Y, X) at (y, x) um, linear between texels and periodic."""
    ty = y * _TEXELS_PER_UM
    tx = x * _TEXELS_PER_UM
    fy = math.floor(ty)
    fx = math.floor(tx)
    wy = ty - fy
    wx = tx - fx
    y0 = int(fy) & _MASK
    x0 = int(fx) & _MASK
    y1 = (y0 + 1) & _MASK
    x1 = (x0 + 1) & _MASK
    above = texture[y0, x0] * (1.0 - wx) + texture[y0, x1] * wx
    below = texture[y1, x0] * (1.0 - wx) + texture[y1, x1] * wx
    return above * (1.0 - wy) + below * wy  # type: ignore[no-any-return]


@kernel
def edge(distance: float, width: float) -> float:
    """0 outside, 1 inside, smooth over ``width`` um around distance 0 (positive inside)."""
    t = distance / width + 0.5
    if t <= 0.0:
        return 0.0
    if t >= 1.0:
        return 1.0
    return t * t * (3.0 - 2.0 * t)
