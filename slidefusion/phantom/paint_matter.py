"""Compiled painters of bacteria, debris and mucus; conventions as in ``paint_cells``."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from slidefusion.jit import kernel
from slidefusion.phantom.sampling import edge, sample

__all__ = ["BlobLook", "StrandLook", "paint_blob", "paint_rods", "paint_strand"]

Floats = npt.NDArray[np.float32]


class BlobLook(NamedTuple):
    """How a lump of debris looks and lies."""

    long: float
    """Longer half axis in um."""
    short: float
    """Shorter half axis in um."""
    angle: float
    """Direction of the longer axis in radians."""
    fraying: float
    """How ragged it is, relative to its size."""
    holes: float
    """Amount below which there is a hole, relative to its mean."""
    texture_y: float
    """Where in the textures it is cut from, um."""
    texture_x: float
    """Where in the textures it is cut from, um."""
    depth: float
    """Depth of its centre in um."""
    slope_y: float
    """Change of depth along y, um a um."""
    slope_x: float
    """Change of depth along x, um a um."""


class StrandLook(NamedTuple):
    """How a wisp of mucus looks and lies."""

    long: float
    """Half length in um."""
    wide: float
    """Half width in um."""
    angle: float
    """Direction in radians."""
    bend: float
    """Bend in 1/um."""
    waviness: float
    """How far in um it wanders from its arc."""
    texture_y: float
    """Where in the textures it is cut from, um."""
    texture_x: float
    """Where in the textures it is cut from, um."""
    depth: float
    """Depth of its middle in um."""
    slope: float
    """Change of depth along it, um a um."""


@kernel
def paint_rods(
    amount: Floats, top: float, left: float, step: float, rods: npt.NDArray[np.float64]
) -> None:
    """Draw bacteria and granules.

    ``rods`` (N, 7): y, x, angle, length, width (all um), amount, bend in 1/um.
    """
    height, width = amount.shape
    for i in range(rods.shape[0]):
        y, x, angle, length, thick = rods[i, 0], rods[i, 1], rods[i, 2], rods[i, 3], rods[i, 4]
        reach = 0.5 * length + 1.5 * thick + step
        y0 = max(0, int((y - reach - top) / step))
        y1 = min(height, int((y + reach - top) / step) + 2)
        x0 = max(0, int((x - reach - left) / step))
        x1 = min(width, int((x + reach - left) / step) + 2)
        c, s = math.cos(angle), math.sin(angle)
        for iy in range(y0, y1):
            v = top + iy * step - y
            for ix in range(x0, x1):
                u = left + ix * step - x
                along = c * u + s * v
                across = c * v - s * u + rods[i, 6] * along * along
                over = max(0.0, abs(along) - 0.5 * length)
                d2 = across * across + over * over
                value = rods[i, 5] * math.exp(-d2 / (0.36 * thick * thick))
                if value > 0.004 and value > amount[iy, ix]:
                    amount[iy, ix] = value


@kernel
def paint_blob(
    amount: Floats,
    depth: Floats,
    top: float,
    left: float,
    step: float,
    look: BlobLook,
    tex: Floats,
) -> None:
    """Draw a lump of debris, frayed and with holes, of about unit mean amount."""
    height, width = amount.shape
    ca, sa = math.cos(look.angle), math.sin(look.angle)
    oy, ox = look.texture_y, look.texture_x
    mean = math.sqrt(look.long * look.short)
    for iy in range(height):
        v = top + iy * step
        for ix in range(width):
            u = left + ix * step
            p = (ca * u + sa * v) / look.long
            q = (ca * v - sa * u) / look.short
            ragged = 0.25 * sample(tex[0], v + oy, u + ox)
            ragged += 0.15 * sample(tex[1], v * 4.0 + oy, u * 4.0 + ox)
            distance = (1.0 - math.sqrt(p * p + q * q) + look.fraying * ragged) * mean
            cover = edge(distance, 0.6)
            depth[iy, ix] = look.depth + look.slope_y * v + look.slope_x * u
            amount[iy, ix] = 0.0
            if cover > 0.0:
                lumps = 0.45 * sample(tex[0], v * 0.8 + ox, u * 0.8 + oy)
                grit = 0.2 * sample(tex[2], v + ox, u + oy) + 0.1 * sample(tex[4], v - oy, u - ox)
                amount[iy, ix] = cover * max(0.0, 1.0 + lumps + grit - look.holes)


@kernel
def paint_strand(
    amount: Floats,
    depth: Floats,
    top: float,
    left: float,
    step: float,
    look: StrandLook,
    tex: Floats,
) -> None:
    """Draw a wisp of mucus: fibres along an arc, fading outwards."""
    height, width = amount.shape
    ca, sa = math.cos(look.angle), math.sin(look.angle)
    oy, ox = look.texture_y, look.texture_x
    for iy in range(height):
        v = top + iy * step
        for ix in range(width):
            u = left + ix * step
            along = ca * u + sa * v
            across = ca * v - sa * u + look.bend * along * along
            across += look.waviness * sample(tex[1], v * 0.7 + oy, u * 0.7 + ox)
            depth[iy, ix] = look.depth + look.slope * along
            amount[iy, ix] = 0.0
            p, q = along / look.long, across / look.wide
            r2 = p * p + q * q
            if r2 < 1.0:
                fibre = sample(tex[3], across * 0.9 + oy, along * 0.22 + ox)
                cloud = sample(tex[0], v * 0.6 + oy, u * 0.6 + ox)
                value = (1.0 - r2) * (0.35 + 0.4 * max(0.0, fibre) + 0.15 * cloud)
                amount[iy, ix] = max(0.0, value)
