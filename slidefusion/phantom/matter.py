"""Everything that is not a cell: bacteria and granules, debris, mucus."""

from __future__ import annotations

import math

import numpy as np

from slidefusion.phantom.artist import Artist
from slidefusion.phantom.paint_matter import (
    BlobLook,
    StrandLook,
    paint_blob,
    paint_rods,
    paint_strand,
)
from slidefusion.phantom.structures import Sheet
from slidefusion.phantom.textures import textures

__all__ = ["bacteria", "debris", "mucus", "rods"]


def rods(
    art: Artist, count: int, spread_um: float, z_um: float, slope: tuple[float, float]
) -> list[Sheet]:
    """``count`` bacteria and granules within ``spread_um`` of the structure's centre."""
    if count < 1:
        return []
    rng = art.rng
    radius, turn = spread_um * np.sqrt(rng.random(count)), rng.random(count) * 2 * math.pi
    granule = rng.random(count) < 0.45
    table = np.empty((count, 7))
    table[:, 0], table[:, 1] = radius * np.sin(turn), radius * np.cos(turn)
    table[:, 2] = rng.random(count) * math.pi
    table[:, 3] = np.where(granule, 0.0, rng.uniform(1.2, 3.4, count))
    table[:, 4] = np.where(granule, rng.uniform(0.3, 0.65, count), rng.uniform(0.28, 0.42, count))
    table[:, 5] = rng.uniform(0.2, 0.85, count)
    table[:, 6] = rng.uniform(-0.12, 0.12, count)
    canvas = art.canvas(spread_um + 3.0)
    paint_rods(canvas.amount, *canvas.frame, table)
    line = np.arange(canvas.amount.shape[0]) * canvas.step
    rise = slope[0] * (line[:, None] + canvas.top) + slope[1] * (line + canvas.left)
    canvas.depth[:] = z_um + rise
    return canvas.sheet(art.mix(0.3, (art.settings.hematoxylin, 1.0)))


def bacteria(art: Artist) -> list[Sheet]:
    """Bacteria that lie on the glass."""
    count = 1 + min(80, int(art.rng.exponential(7)))
    return rods(art, count, art.item.reach_um - 3.0, art.item.z_um, (0.0, 0.0))


def debris(art: Artist) -> list[Sheet]:
    """A lump of dirt, dye or cell remains."""
    stains, size = art.settings, art.item.reach_um / 2.2
    canvas = art.canvas(art.item.reach_um)
    look = BlobLook(
        size,
        size * art.between(0.4, 1.0),
        art.between(0, math.pi),
        art.between(0.5, 1.1),
        art.between(0.0, 0.8),
        *art.texture(),
        art.item.z_um,
        *art.slope(),
    )
    paint_blob(canvas.amount, canvas.depth, *canvas.frame, look, textures())
    dark = art.chance(0.3)
    density = art.between(0.3, 0.8) if dark else stains.cytoplasm_density * art.between(0.5, 1.8)
    return canvas.sheet(
        art.mix(
            density,
            (stains.hematoxylin, 0.9 if dark else 0.4),
            (stains.orange, art.between(0, 0.3)),
            (stains.eosin, art.between(0, 0.4)),
        )
    )


def mucus(art: Artist) -> list[Sheet]:
    """A wisp of mucus."""
    stains, long = art.settings, 0.9 * art.item.reach_um
    canvas = art.canvas(art.item.reach_um)
    look = StrandLook(
        long,
        art.between(3.0, 12.0),
        art.between(0, math.pi),
        art.between(-0.25, 0.25) / long,
        art.between(2.0, 6.0),
        *art.texture(),
        art.item.z_um,
        0.04 * art.normal(),
    )
    paint_strand(canvas.amount, canvas.depth, *canvas.frame, look, textures())
    return canvas.sheet(
        art.mix(
            stains.cytoplasm_density * art.between(0.5, 1.6),
            (stains.hematoxylin, 0.7),
            (stains.eosin, art.between(0, 0.4)),
            (stains.light_green, art.between(0, 0.5)),
        )
    )
