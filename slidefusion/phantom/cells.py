"""Cells: from a structure's description to its sheets of cytoplasm and nuclei."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from slidefusion.phantom.artist import Artist
from slidefusion.phantom.matter import rods
from slidefusion.phantom.paint_cells import (
    OUTLINE_UM,
    CytoplasmLook,
    NucleusLook,
    paint_cytoplasm,
    paint_nucleus,
)
from slidefusion.phantom.structures import Sheet
from slidefusion.phantom.textures import textures

__all__ = ["glandular", "neutrophil", "parabasal", "squamous"]

Table = npt.NDArray[np.float64]


def squamous(art: Artist) -> list[Sheet]:
    """A superficial or intermediate cell: thin, polygonal, folded."""
    settings, rng = art.settings, art.rng
    if art.item.hue is not None:
        hue = art.item.hue
    else:
        hue = art.between(0.75, 1.0) if art.chance(settings.pink) else art.between(0.0, 0.2)
    superficial = art.chance(0.25 + 0.5 * hue)
    radius = 0.5 * settings.cell_um * math.exp(0.16 * art.normal(1.8))
    sides = _polygon(art, radius, int(rng.integers(4, 8)), 0.18, art.between(0, 0.18))
    if art.item.sides:
        sides = np.array(art.item.sides)
    slope = art.slope()
    halo = art.chance(0.03)
    look = CytoplasmLook(
        art.item.z_um,
        *slope,
        art.between(0.3, 1.8) * min(1.0, settings.depth_um / 5),
        *art.texture(),
        contrast=settings.granularity * art.between(0.5, 1.4),
        crumple=settings.folding * art.between(0.4, 1.8),
        roughness=art.between(0.15, 0.7),
        rim=art.between(0.0, 0.6) * settings.folding,
        rolled=2.2 * art.between(0.0, 1.0) ** 3 * settings.folding,
        bulge=art.between(0.0, 0.25),
        waviness=art.between(0.5, 2.6),
        thinning=art.between(0.0, 0.6),
        soft=art.between(0.3, 0.9),
        gradient_y=0.15 * art.normal() / radius,
        gradient_x=0.15 * art.normal() / radius,
        halo=art.between(6.5, 9.0) if halo else 0.0,
        halo_contrast=art.between(0.2, 0.45),
    )
    density = settings.cytoplasm_density * (0.85 if superficial else 1.0)
    folds = _folds(art, float(sides[:, 2].mean()))
    colour = art.cytoplasm(hue, density)
    sheets = _cytoplasm(art, sides, look, colour, folds, _wrinkles(art, radius))
    place = (0.07 * radius * art.normal(), 0.07 * radius * art.normal())
    z = art.item.z_um + slope[0] * place[0] + slope[1] * place[1] + 0.4
    if superficial and art.chance(0.65):
        mean, dense, chromatin = art.between(2.2, 3.0), art.between(1.5, 2.1), 0.06
    else:
        mean = 0.5 * settings.nucleus_um * math.exp(0.11 * art.normal())
        dense, chromatin = art.between(0.6, 1.2), art.between(0.12, 0.32)
    if art.chance(0.96):
        long = math.exp(0.11 * abs(art.normal()))
        axes = (mean * long, mean / long)
        sheets += _nucleus(art, place, axes, dense, chromatin, z, slope, art.between(0.2, 0.6))
    if art.chance(0.35):
        count = int(min(400, 40 * rng.exponential() ** 1.5 * settings.bacteria))
        sheets += rods(art, count, 0.8 * radius, art.item.z_um + art.between(0.2, 1.8), slope)
    return sheets


def parabasal(art: Artist) -> list[Sheet]:
    """A small, round, dense cell with a large nucleus."""
    settings = art.settings
    radius = art.between(7.5, 12.0) * settings.cell_um / 52
    sides = _polygon(art, radius, 9, 0.07, art.between(0, 0.12))
    slope = art.slope()
    look = CytoplasmLook(
        art.item.z_um,
        *slope,
        0.3,
        *art.texture(),
        contrast=settings.granularity,
        roughness=0.2,
        bulge=0.25,
    )
    hue = art.between(0.0, 0.25) if art.item.hue is None else art.item.hue
    colour = art.cytoplasm(hue, settings.cytoplasm_density * art.between(1.0, 1.7))
    sheets = _cytoplasm(art, sides, look, colour)
    mean = 0.5 * settings.nucleus_um * art.between(0.95, 1.2)
    place = (art.normal(), art.normal())
    axes, dense = (mean * 1.06, mean / 1.06), art.between(0.8, 1.3)
    z = art.item.z_um + 0.6
    return sheets + _nucleus(art, place, axes, dense, art.between(0.12, 0.25), z, slope, 0.25)


def glandular(art: Artist) -> list[Sheet]:
    """A cell of a crowded group: little cytoplasm, a dark nucleus."""
    settings = art.settings
    scale = settings.nucleus_um / 8
    sides = _polygon(art, art.between(5.0, 7.0) * scale, 8, 0.12, art.between(0, 0.2))
    slope = art.slope()
    look = CytoplasmLook(
        art.item.z_um, *slope, 0.3, *art.texture(), contrast=settings.granularity, rim=0.1
    )
    hue = 0.3 if art.item.hue is None else art.item.hue
    colour = art.cytoplasm(hue, settings.cytoplasm_density * art.between(0.6, 1.0))
    sheets = _cytoplasm(art, sides, look, colour)
    mean, long = 0.5 * settings.nucleus_um * art.between(0.8, 1.0), art.between(1.0, 1.2)
    place = (0.6 * art.normal(), 0.6 * art.normal())
    axes, dense = (mean * long, mean / long), art.between(0.9, 1.4)
    z = art.item.z_um + 0.3
    return sheets + _nucleus(art, place, axes, dense, art.between(0.1, 0.2), z, slope, 0.25)


def neutrophil(art: Artist) -> list[Sheet]:
    """A pale granular cell with a nucleus of two to four lobes."""
    settings = art.settings
    sides = _polygon(art, art.between(4.2, 6.0), 8, 0.15, 0.2)
    slope = art.slope()
    look = CytoplasmLook(
        art.item.z_um,
        *slope,
        0.2,
        *art.texture(),
        contrast=2.2 * settings.granularity,
        roughness=0.6,
        rim=0.15,
        bulge=0.0,
        waviness=0.6,
    )
    colour = art.cytoplasm(0.35, settings.cytoplasm_density * art.between(0.4, 1.2))
    sheets = _cytoplasm(art, sides, look, colour)
    lobes = int(art.rng.integers(2, 5))
    turn, bow = art.between(0, 2 * math.pi), art.between(0.8, 1.5)
    dense = art.between(1.1, 1.8)
    for lobe in range(lobes):
        t = turn + bow * (lobe - (lobes - 1) / 2)
        place = (1.9 * math.sin(t), 1.9 * math.cos(t))
        axes = (art.between(1.5, 2.4), art.between(1.2, 1.8))
        z = art.item.z_um + 0.2 * lobe
        sheets += _nucleus(art, place, axes, dense, 0.12, z, slope, 0.2)
    return sheets


def _polygon(art: Artist, radius: float, corners: int, uneven: float, stretch: float) -> Table:
    """Sides (N, 3) of a random convex polygon around the centre."""
    turn = art.between(0, 2 * math.pi)
    spread = art.rng.uniform(-0.28, 0.28, corners)
    angles = turn + (np.arange(corners) + spread) * 2 * math.pi / corners
    distances = radius * (1 + uneven * art.rng.uniform(-1, 1, corners))
    distances *= 1 + stretch * np.cos(2 * (angles - art.between(0, math.pi)))
    return np.stack([np.sin(angles), np.cos(angles), distances], axis=1)


def _folds(art: Artist, radius: float) -> Table:
    """Lines (F, 4) along which the margin is turned over, see ``paint_cytoplasm``."""
    count = min(3, int(art.rng.poisson(0.7 * art.settings.folding)))
    lines = np.empty((count, 4))
    for line in lines:
        turn = art.between(0, 2 * math.pi)
        # Half of them are narrow hems.
        far = (art.between(0.82, 0.98) if art.chance(0.5) else art.between(0.55, 0.9)) * radius
        bend = art.between(-0.008, 0.008)
        line[:] = math.sin(turn), math.cos(turn), far, bend
    return lines


def _wrinkles(art: Artist, radius: float) -> Table:
    """Wrinkles (W, 9), see ``paint_cytoplasm``."""
    count = min(10, int(art.rng.poisson(5.0 * art.settings.folding)))
    lines = np.empty((count, 9))
    for line in lines:
        turn = art.between(0, 2 * math.pi)
        line[:3] = math.sin(turn), math.cos(turn), radius * art.between(0.0, 0.85)
        line[3:5] = art.between(-0.02, 0.02), art.between(-0.5, 0.5) * radius
        line[5:7] = radius * art.between(0.3, 1.0), art.between(0.25, 0.9)
        line[7:] = 0.12 + 0.6 * art.between(0, 1) ** 2, art.between(1.5, 6.0)
    return lines


def _fitted(sides: Table, reach_um: float) -> tuple[Table, float]:
    """Sides shrunk, if need be, to stay within ``reach_um``, and how far they reach, in um."""
    angle = np.linspace(0, 2 * math.pi, 90, endpoint=False)
    along = np.sin(angle)[:, None] * sides[:, 0] + np.cos(angle)[:, None] * sides[:, 1]
    farthest = float((1 / (np.maximum(along / sides[:, 2], 0) ** 16).sum(axis=1) ** (1 / 16)).max())
    allowed = reach_um - OUTLINE_UM
    if farthest > allowed:
        sides = sides * np.array([1.0, 1.0, allowed / farthest])
        farthest = allowed
    return sides, farthest + OUTLINE_UM


def _cytoplasm(
    art: Artist,
    sides: Table,
    look: CytoplasmLook,
    colour: npt.NDArray[np.float64],
    folds: Table | None = None,
    wrinkles: Table | None = None,
) -> list[Sheet]:
    """A sheet of cytoplasm and, where it is folded, its turned-over flap."""
    sides, reach = _fitted(sides, art.item.reach_um)
    canvas = art.canvas(reach)
    flap, flap_depth = np.zeros_like(canvas.amount), np.zeros_like(canvas.depth)
    folds = np.empty((0, 4)) if folds is None else folds
    wrinkles = np.empty((0, 9)) if wrinkles is None else wrinkles
    paint_cytoplasm(
        canvas.amount,
        canvas.depth,
        flap,
        flap_depth,
        *canvas.frame,
        sides / np.stack([sides[:, 2], sides[:, 2], np.ones(len(sides))], axis=1),
        folds,
        wrinkles,
        CytoplasmLook(*(float(value) for value in look)),
        textures(),
    )
    return canvas.sheet(colour) + canvas.sheet(colour, flap, flap_depth)


def _nucleus(
    art: Artist,
    place: tuple[float, float],
    axes: tuple[float, float],
    dense: float,
    chromatin: float,
    z_um: float,
    slope: tuple[float, float],
    irregular: float,
) -> list[Sheet]:
    """A nucleus ``place`` (y, x) um from the structure's centre, ``dense`` times the usual."""
    long, short = axes
    look = NucleusLook(
        long,
        short,
        art.between(0, math.pi),
        irregular,
        *art.texture(),
        z_um,
        *slope,
        chromatin=chromatin,
        coarseness=art.between(0.9, 1.6),
        membrane=art.between(0.15, 0.5) * min(1.0, chromatin / 0.15),
        dome=art.between(0.0, 0.35),
        edge=art.between(0.5, 1.1),
        nucleolus=art.between(0.4, 0.9) if art.chance(0.18) else 0.0,
        nucleolus_y=art.between(-0.35, 0.35) * short,
        nucleolus_x=art.between(-0.35, 0.35) * short,
        nucleolus_radius=art.between(0.5, 0.9),
    )
    canvas = art.canvas(max(axes) + 1.5, *place)
    paint_nucleus(canvas.amount, canvas.depth, *canvas.frame, look, textures())
    stains = art.settings
    parts = ((stains.hematoxylin, 1.0), (stains.eosin, art.between(0, 0.15)))
    return canvas.sheet(art.mix(dense * stains.nucleus_density, *parts))
