"""One structure of the specimen, from its description to the sheets that it is drawn as.

A structure's shape comes from its own random key, so it looks the same from every window.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from slidefusion.phantom.settings import PhantomSettings, Rgb
from slidefusion.phantom.textures import textures

__all__ = ["Sheet", "Structure", "draw", "random_source"]

Floats = npt.NDArray[np.float32]


class Sheet(NamedTuple):
    """A thin, semi-transparent, possibly tilted layer somewhere on the slide."""

    y: int
    """Row of its first pixel on the slide."""
    x: int
    """Column of its first pixel on the slide."""
    amount: Floats
    """(Y, X) amount of stain; 0 outside."""
    depth: Floats
    """(Y, X) depth in um."""
    colour: Floats
    """(C,) decadic optical density of a unit amount."""
    bottom_um: float
    """Least depth where there is stain."""
    top_um: float
    """Greatest depth where there is stain."""


@dataclass(frozen=True, eq=False)
class Structure:
    """Where a structure lies and what it is; the rest follows from ``key``."""

    kind: str
    """``squamous``, ``parabasal``, ``glandular``, ``neutrophil``, ``debris``, ``mucus``,
    ``bacteria``."""
    y_um: float
    """Position of the centre on the slide in um."""
    x_um: float
    """Position of the centre on the slide in um."""
    z_um: float
    """Depth of the centre in um."""
    reach_um: float
    """No part is further from the centre than this, in um."""
    key: tuple[int, ...]
    """Words that seed its random numbers."""
    slope: tuple[float, float] = (0.0, 0.0)
    """Slope in y and x, um a um, before its own variation."""
    sides: tuple[tuple[float, float, float], ...] = ()
    """Outline given by neighbours: normal y, x and distance in um."""
    hue: float | None = None
    """Stain shared with neighbours (0 cyan to 1 pink), or None."""


def random_source(*words: int) -> np.random.Generator:
    """A random generator that depends on ``words`` alone."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([w % 2**32 for w in words])))


def draw(item: Structure, settings: PhantomSettings) -> list[Sheet]:
    """The sheets of ``item``, bottom to top."""
    rng = random_source(*item.key)
    painter = {
        "squamous": _squamous,
        "parabasal": _parabasal,
        "glandular": _glandular,
        "neutrophil": _neutrophil,
        "debris": _debris,
        "mucus": _mucus,
        "bacteria": _bacteria,
    }[item.kind]
    return [sheet for sheet in painter(item, settings, rng) if sheet is not None]


class _Canvas:
    """Two zeroed images (amount, depth) on the slide's pixel grid around a centre."""

    def __init__(self, y_um: float, x_um: float, reach_um: float, mpp_um: float) -> None:
        self.y = math.floor((y_um - reach_um) / mpp_um)
        self.x = math.floor((x_um - reach_um) / mpp_um)
        side = math.ceil(2 * reach_um / mpp_um) + 2
        self.top = (self.y + 0.5) * mpp_um - y_um
        self.left = (self.x + 0.5) * mpp_um - x_um
        self.amount = np.zeros((side, side), np.float32)
        self.depth = np.zeros((side, side), np.float32)

    def sheet(
        self,
        colour: npt.NDArray[np.float64],
        amount: Floats | None = None,
        depth: Floats | None = None,
    ) -> Sheet | None:
        """Cut to where there is stain; None when there is none."""
        amount = self.amount if amount is None else amount
        depth = self.depth if depth is None else depth
        filled = amount > 0
        rows = np.flatnonzero(filled.any(axis=1))
        if not len(rows):
            return None
        columns = np.flatnonzero(filled.any(axis=0))
        y0, y1, x0, x1 = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        amount, depth = amount[y0:y1, x0:x1].copy(), depth[y0:y1, x0:x1].copy()
        used = depth[amount > 0]
        place = (self.y + int(y0), self.x + int(x0))
        return Sheet(
            *place, amount, depth, colour.astype(np.float32), float(used.min()), float(used.max())
        )


def _colour(
    settings: PhantomSettings, density: float, *parts: tuple[Rgb, float]
) -> npt.NDArray[np.float64]:
    """(C,) optical density whose mean over red, green and blue is ``density``."""
    mixed = sum((np.array(stain) * share for stain, share in parts), np.zeros(3))
    mixed *= density / max(mixed.mean(), 1e-9)
    return mixed.mean(keepdims=True) if settings.gray else mixed


def _cytoplasm_colour(
    settings: PhantomSettings, rng: np.random.Generator, hue: float, density: float
) -> npt.NDArray[np.float64]:
    """Cyan for ``hue`` 0 to pink (or orange) for 1, with variation."""
    wild = settings.stain_variation
    hue = float(np.clip(hue + 0.08 * wild * rng.standard_normal(), 0.0, 1.0))
    orange = hue * (rng.random() ** 3)
    tint = 0.25 * rng.random() * wild
    density *= math.exp(0.28 * wild * rng.standard_normal())
    return _colour(
        settings,
        density,
        (settings.light_green, (1 - hue)),
        (settings.eosin, hue - 0.7 * orange + 0.12 * tint),
        (settings.orange, 0.7 * orange),
        (settings.hematoxylin, tint),
    )


def _outline(
    rng: np.random.Generator, radius: float, corners: int, uneven: float, stretch: float
) -> npt.NDArray[np.float64]:
    """Sides (N, 3) of a random convex polygon around the centre."""
    turn = rng.random() * 2 * math.pi
    angles = turn + (np.arange(corners) + rng.uniform(-0.28, 0.28, corners)) * 2 * math.pi / corners
    distances = radius * (1 + uneven * rng.uniform(-1, 1, corners))
    axis = rng.random() * math.pi
    distances *= 1 + stretch * np.cos(2 * (angles - axis))
    return np.stack([np.sin(angles), np.cos(angles), distances], axis=1)


def _nucleus(
    item: Structure,
    settings: PhantomSettings,
    rng: np.random.Generator,
    place: tuple[float, float],
    half_axes: tuple[float, float],
    density: float,
    chromatin: float,
    z_um: float,
    slope: tuple[float, float],
    irregular: float = 0.25,
) -> Sheet | None:
    """A nucleus ``place`` (y, x) um from the structure's centre."""
    from slidefusion.phantom.painters import paint_nucleus

    a, b = half_axes
    canvas = _Canvas(item.y_um + place[0], item.x_um + place[1], max(a, b) + 1.5, settings.mpp_um)
    nucleolus = rng.random() < 0.18
    where = rng.uniform(-0.35, 0.35, 2) * min(a, b)
    shape = np.array([a, b, rng.random() * math.pi, irregular, *rng.uniform(0, 200, 2)])
    look = np.array(
        [
            chromatin,
            rng.uniform(0.15, 0.5) * min(1.0, chromatin / 0.15),
            rng.uniform(0.8, 1.3),
            z_um,
            *slope,
            rng.uniform(0.4, 0.9) if nucleolus else 0.0,
            *where,
            rng.uniform(0.5, 0.9),
            rng.uniform(0.0, 0.35),
            rng.uniform(0.35, 0.8),
        ]
    )
    paint_nucleus(
        canvas.amount,
        canvas.depth,
        canvas.top,
        canvas.left,
        settings.mpp_um,
        shape,
        look,
        textures(),
    )
    colour = _colour(
        settings, density, (settings.hematoxylin, 1.0), (settings.eosin, 0.12 * rng.random())
    )
    return canvas.sheet(colour)


def _rods(
    item: Structure,
    settings: PhantomSettings,
    rng: np.random.Generator,
    count: int,
    spread: float,
    z_um: float,
    slope: tuple[float, float],
    aligned: float = 0.0,
) -> Sheet | None:
    """``count`` bacteria or granules within ``spread`` um of the centre."""
    from slidefusion.phantom.painters import paint_rods

    if count < 1:
        return None
    canvas = _Canvas(item.y_um, item.x_um, spread + 3.0, settings.mpp_um)
    size = canvas.amount.shape[0]
    radius = spread * np.sqrt(rng.random(count))
    turn = rng.random(count) * 2 * math.pi
    grain = rng.random(count) < 0.45
    rods = np.empty((count, 7))
    rods[:, 0], rods[:, 1] = radius * np.sin(turn), radius * np.cos(turn)
    rods[:, 2] = rng.random(count) * math.pi * (1 - aligned) + rng.random() * math.pi
    rods[:, 3] = np.where(grain, 0.0, rng.uniform(1.2, 3.4, count))
    rods[:, 4] = np.where(grain, rng.uniform(0.30, 0.65, count), rng.uniform(0.28, 0.42, count))
    rods[:, 5] = rng.uniform(0.3, 1.0, count) * np.where(grain, 0.9, 1.0)
    rods[:, 6] = rng.uniform(-0.12, 0.12, count)
    paint_rods(canvas.amount, canvas.top, canvas.left, settings.mpp_um, rods)
    line = (np.arange(size) * settings.mpp_um).astype(np.float32)
    canvas.depth[:] = (
        z_um + slope[0] * (line[:, None] + canvas.top) + slope[1] * (line + canvas.left)
    )
    return canvas.sheet(_colour(settings, 0.30, (settings.hematoxylin, 1.0)))


def _squamous(
    item: Structure, settings: PhantomSettings, rng: np.random.Generator
) -> list[Sheet | None]:
    """A superficial or intermediate cell: thin, polygonal, folded."""
    hue = item.hue if item.hue is not None else _draw_hue(settings, rng)
    superficial = rng.random() < 0.25 + 0.5 * hue
    radius = 0.5 * settings.cell_um * math.exp(0.16 * rng.standard_normal())
    sides = _outline(rng, radius, int(rng.integers(5, 9)), 0.16, 0.14 * rng.random())
    if item.sides:
        sides = np.array(item.sides)
    slope = _slope(item, settings, rng)
    folds = []
    for _ in range(rng.poisson(0.55 * settings.folding)):
        if len(folds) < 3:
            turn = rng.random() * 2 * math.pi
            reach = float(sides[:, 2].mean())
            folds.append(
                [
                    math.sin(turn),
                    math.cos(turn),
                    reach * rng.uniform(0.55, 0.95),
                    rng.uniform(-0.008, 0.008),
                ]
            )
    wrinkles = []
    for _ in range(min(9, rng.poisson(3.2 * settings.folding))):
        turn = rng.random() * 2 * math.pi
        wrinkles.append(
            [
                math.sin(turn),
                math.cos(turn),
                radius * rng.uniform(0.0, 0.85),
                rng.uniform(-0.02, 0.02),
                rng.uniform(-0.5, 0.5) * radius,
                radius * rng.uniform(0.3, 1.0),
                rng.uniform(0.25, 0.7),
                rng.uniform(0.08, 0.55),
            ]
        )
    halo = rng.random() < 0.06
    contrast = settings.granularity * rng.uniform(0.5, 1.3)
    look = np.array(
        [
            contrast,
            rng.uniform(0.25, 0.7),
            rng.uniform(0.0, 0.5) * settings.folding,
            rng.uniform(0.0, 0.25),
            item.z_um,
            *slope,
            rng.uniform(0.2, 1.0) * min(1.0, settings.depth_um / 4),
            *rng.uniform(0, 200, 2),
            rng.uniform(6.5, 9.0) if halo else 0.0,
            rng.uniform(0.3, 0.6) if halo else 0.0,
            rng.uniform(0.4, 1.8),
        ]
    )
    density = settings.cytoplasm_density * (0.85 if superficial else 1.0)
    sheets = _draw_cytoplasm(
        item, settings, sides, folds, wrinkles, look, _cytoplasm_colour(settings, rng, hue, density)
    )
    place = tuple(rng.normal(0, 0.07 * radius, 2))
    z = item.z_um + slope[0] * place[0] + slope[1] * place[1]
    if superficial and rng.random() < 0.65:
        mean, dense, chromatin = (
            rng.uniform(2.2, 3.0),
            rng.uniform(1.5, 2.1),
            rng.uniform(0.03, 0.1),
        )
    else:
        mean = 0.5 * settings.nucleus_um * math.exp(0.11 * rng.standard_normal())
        dense, chromatin = rng.uniform(0.65, 1.25), rng.uniform(0.12, 0.26)
    if rng.random() > 0.04:
        long = math.exp(0.22 * abs(rng.standard_normal()))
        axes = (mean * math.sqrt(long), mean / math.sqrt(long))
        sheets.append(
            _nucleus(
                item,
                settings,
                rng,
                place,
                axes,
                dense * settings.nucleus_density,
                chromatin,
                z + 0.4,
                slope,
            )
        )
    if rng.random() < 0.75:
        count = int(rng.exponential(28) * settings.bacteria)
        sheets.append(
            _rods(item, settings, rng, min(count, 400), 0.8 * radius, item.z_um + 0.6, slope)
        )
    return sheets


def _draw_cytoplasm(item, settings, sides, folds, wrinkles, look, colour):  # type: ignore[no-untyped-def]
    """Cytoplasm and, when there is one, its turned-over flap."""
    from slidefusion.phantom.painters import paint_cytoplasm

    canvas = _Canvas(item.y_um, item.x_um, item.reach_um, settings.mpp_um)
    flap, flap_depth = np.zeros_like(canvas.amount), np.zeros_like(canvas.depth)
    paint_cytoplasm(
        canvas.amount,
        canvas.depth,
        flap,
        flap_depth,
        canvas.top,
        canvas.left,
        settings.mpp_um,
        sides,
        np.array(folds, dtype=float).reshape(-1, 4),
        np.array(wrinkles, dtype=float).reshape(-1, 8),
        look,
        textures(),
    )
    return [canvas.sheet(colour), canvas.sheet(colour, flap, flap_depth)]


def _slope(
    item: Structure, settings: PhantomSettings, rng: np.random.Generator
) -> tuple[float, float]:
    dy, dx = rng.normal(0, settings.tilt, 2)
    limit = 0.35
    return float(np.clip(item.slope[0] + dy, -limit, limit)), float(
        np.clip(item.slope[1] + dx, -limit, limit)
    )


def _draw_hue(settings: PhantomSettings, rng: np.random.Generator) -> float:
    return float(rng.uniform(0.75, 1.0) if rng.random() < settings.pink else rng.uniform(0.0, 0.2))


def _parabasal(
    item: Structure, settings: PhantomSettings, rng: np.random.Generator
) -> list[Sheet | None]:
    """A small, round, dense cell with a large nucleus."""
    radius = rng.uniform(7.5, 12.0) * settings.cell_um / 52
    sides = _outline(rng, radius, 9, 0.07, 0.12 * rng.random())
    slope = _slope(item, settings, rng)
    look = np.array(
        [
            settings.granularity,
            0.2,
            0.2,
            0.25,
            item.z_um,
            *slope,
            0.3,
            *rng.uniform(0, 200, 2),
            0.0,
            0.0,
            0.8,
        ]
    )
    density = settings.cytoplasm_density * rng.uniform(1.3, 2.0)
    hue = item.hue if item.hue is not None else rng.uniform(0.0, 0.25)
    sheets = _draw_cytoplasm(
        item, settings, sides, [], [], look, _cytoplasm_colour(settings, rng, hue, density)
    )
    mean = 0.5 * settings.nucleus_um * rng.uniform(0.95, 1.25)
    place = tuple(rng.normal(0, 1.0, 2))
    sheets.append(
        _nucleus(
            item,
            settings,
            rng,
            place,
            (mean * 1.08, mean / 1.08),
            rng.uniform(0.8, 1.3) * settings.nucleus_density,
            rng.uniform(0.12, 0.25),
            item.z_um + 0.6,
            slope,
        )
    )
    return sheets


def _glandular(
    item: Structure, settings: PhantomSettings, rng: np.random.Generator
) -> list[Sheet | None]:
    """A cell of a crowded group: little cytoplasm, a dark nucleus."""
    radius = rng.uniform(5.0, 7.0) * settings.nucleus_um / 8
    sides = _outline(rng, radius, 8, 0.12, 0.2 * rng.random())
    slope = _slope(item, settings, rng)
    look = np.array(
        [
            settings.granularity,
            0.35,
            0.1,
            0.1,
            item.z_um,
            *slope,
            0.3,
            *rng.uniform(0, 200, 2),
            0.0,
            0.0,
            0.8,
        ]
    )
    density = settings.cytoplasm_density * rng.uniform(0.7, 1.2)
    sheets = _draw_cytoplasm(
        item, settings, sides, [], [], look, _cytoplasm_colour(settings, rng, 0.3, density)
    )
    mean = 0.5 * settings.nucleus_um * rng.uniform(0.85, 1.1)
    long = rng.uniform(1.0, 1.25)
    place = tuple(rng.normal(0, 0.6, 2))
    sheets.append(
        _nucleus(
            item,
            settings,
            rng,
            place,
            (mean * long, mean / long),
            rng.uniform(1.0, 1.6) * settings.nucleus_density,
            rng.uniform(0.08, 0.2),
            item.z_um + 0.3,
            slope,
        )
    )
    return sheets


def _neutrophil(
    item: Structure, settings: PhantomSettings, rng: np.random.Generator
) -> list[Sheet | None]:
    """A pale granular cell with a nucleus of two to four lobes."""
    radius = rng.uniform(4.6, 6.2)
    sides = _outline(rng, radius, 8, 0.12, 0.15)
    slope = _slope(item, settings, rng)
    look = np.array(
        [
            2.2 * settings.granularity,
            0.5,
            0.15,
            0.0,
            item.z_um,
            *slope,
            0.2,
            *rng.uniform(0, 200, 2),
            0.0,
            0.0,
            0.6,
        ]
    )
    density = settings.cytoplasm_density * rng.uniform(0.4, 1.3)
    sheets = _draw_cytoplasm(
        item, settings, sides, [], [], look, _cytoplasm_colour(settings, rng, 0.35, density)
    )
    lobes = int(rng.integers(2, 5))
    turn, bow = rng.random() * 2 * math.pi, rng.uniform(0.8, 1.5)
    dark = rng.uniform(1.0, 1.6) * settings.nucleus_density
    for lobe in range(lobes):
        t = turn + bow * (lobe - (lobes - 1) / 2)
        place = (2.1 * math.sin(t), 2.1 * math.cos(t))
        axes = (rng.uniform(1.3, 2.0), rng.uniform(1.1, 1.6))
        sheets.append(
            _nucleus(
                item, settings, rng, place, axes, dark, 0.1, item.z_um + 0.2 * lobe, slope, 0.2
            )
        )
    return sheets


def _debris(
    item: Structure, settings: PhantomSettings, rng: np.random.Generator
) -> list[Sheet | None]:
    """A lump of dirt, dye or cell remains."""
    from slidefusion.phantom.painters import paint_blob

    canvas = _Canvas(item.y_um, item.x_um, item.reach_um, settings.mpp_um)
    size = item.reach_um / 2.2
    dark = rng.random() < 0.3
    look = np.array(
        [
            size,
            size * rng.uniform(0.4, 1.0),
            rng.random() * math.pi,
            rng.uniform(0.5, 1.1),
            rng.uniform(0.0, 0.8),
            *rng.uniform(0, 200, 2),
            item.z_um,
            *rng.normal(0, settings.tilt, 2),
        ]
    )
    paint_blob(
        canvas.amount, canvas.depth, canvas.top, canvas.left, settings.mpp_um, look, textures()
    )
    density = rng.uniform(0.4, 0.9) if dark else settings.cytoplasm_density * rng.uniform(0.5, 1.8)
    return [
        canvas.sheet(
            _colour(
                settings,
                density,
                (settings.hematoxylin, 0.4 + 0.5 * dark),
                (settings.orange, 0.3 * rng.random()),
                (settings.eosin, 0.4 * rng.random()),
            )
        )
    ]


def _mucus(
    item: Structure, settings: PhantomSettings, rng: np.random.Generator
) -> list[Sheet | None]:
    """A wisp of mucus."""
    from slidefusion.phantom.painters import paint_strand

    canvas = _Canvas(item.y_um, item.x_um, item.reach_um, settings.mpp_um)
    long = item.reach_um * 0.9
    bend = rng.uniform(-0.25, 0.25) / long
    look = np.array(
        [
            long,
            rng.uniform(3.0, 12.0),
            rng.random() * math.pi,
            bend,
            *rng.uniform(0, 200, 2),
            item.z_um,
            rng.normal(0, 0.04),
            rng.uniform(2.0, 6.0),
        ]
    )
    paint_strand(
        canvas.amount, canvas.depth, canvas.top, canvas.left, settings.mpp_um, look, textures()
    )
    density = rng.uniform(0.05, 0.16)
    return [
        canvas.sheet(
            _colour(
                settings,
                density,
                (settings.hematoxylin, 0.7),
                (settings.eosin, 0.4 * rng.random()),
                (settings.light_green, 0.5 * rng.random()),
            )
        )
    ]


def _bacteria(
    item: Structure, settings: PhantomSettings, rng: np.random.Generator
) -> list[Sheet | None]:
    """Bacteria lying on the glass."""
    count = 1 + int(rng.exponential(7))
    return [_rods(item, settings, rng, min(count, 80), item.reach_um - 3.0, item.z_um, (0.0, 0.0))]
