"""Where things lie: the slide is a grid of sites, and each site's content follows from its hash.

A site is a square of :data:`SITE_UM` um. What grows from it may reach over its border, but never
further than :data:`REACH_UM`, so the structures of any window are found by asking the few sites
around it.
"""

from __future__ import annotations

import math

import numpy as np

from slidefusion.phantom.settings import PhantomSettings
from slidefusion.phantom.structures import Structure, random_source

__all__ = ["REACH_UM", "SITE_UM", "field", "reach_um", "site", "structures_near"]

SITE_UM = 64.0
"""Side of a site in um."""
REACH_UM = 260.0
"""Nothing reaches further than this from the middle of its site, in um."""


def _lattice(seed: int, salt: int, i: int, j: int) -> float:
    """A random number in [0, 1) at a lattice point."""
    word = (seed * 0x9E3779B97F4A7C15 + salt * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    for part in (i, j):
        word = (word ^ (part & 0xFFFFFFFF)) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
        word ^= word >> 29
        word = word * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
        word ^= word >> 32
    return word / 2**64


def field(seed: int, salt: int, y_um: float, x_um: float, scale_um: float) -> float:
    """A smooth random field in [0, 1] that changes over ``scale_um`` um."""
    y, x = y_um / scale_um, x_um / scale_um
    i, j = math.floor(y), math.floor(x)
    fy, fx = y - i, x - j
    wy, wx = fy * fy * (3 - 2 * fy), fx * fx * (3 - 2 * fx)
    a = _lattice(seed, salt, i, j) * (1 - wx) + _lattice(seed, salt, i, j + 1) * wx
    b = _lattice(seed, salt, i + 1, j) * (1 - wx) + _lattice(seed, salt, i + 1, j + 1) * wx
    return a * (1 - wy) + b * wy


def _crowding(seed: int, settings: PhantomSettings, y_um: float, x_um: float) -> float:
    """Local number of cells relative to the slide's mean; 0 over empty areas."""
    scale = settings.density_scale_um
    broad = field(seed, 1, y_um, x_um, scale)
    fine = field(seed, 2, y_um, x_um, 0.35 * scale)
    return settings.density * max(0.0, 2.9 * (0.65 * broad + 0.35 * fine) - 0.45)


def _surface(seed: int, settings: PhantomSettings, y_um: float, x_um: float) -> float:
    """Depth in um about which the cells near a point lie: the specimen is never quite flat."""
    share = field(seed, 3, y_um, x_um, 900.0) + field(seed, 4, y_um, x_um, 260.0) - 1.0
    return 0.55 * settings.depth_um * share


def reach_um(settings: PhantomSettings) -> float:
    """Largest distance in um from a squamous cell's centre to its outline."""
    return 0.95 * settings.cell_um


def site(seed: int, settings: PhantomSettings, i: int, j: int) -> list[Structure]:
    """Everything that grows from site (row ``i``, column ``j``)."""
    rng = random_source(seed, seed >> 32, i, j, 0x51E)
    y0, x0 = i * SITE_UM, j * SITE_UM
    crowd = _crowding(seed, settings, y0 + SITE_UM / 2, x0 + SITE_UM / 2)
    found: list[Structure] = []

    def place() -> tuple[float, float]:
        return y0 + rng.random() * SITE_UM, x0 + rng.random() * SITE_UM

    def depth(y: float, x: float, spread: float = 0.28) -> float:
        z = _surface(seed, settings, y, x) + spread * settings.depth_um * rng.standard_normal()
        return float(np.clip(z, -settings.depth_um, settings.depth_um))

    def add(kind: str, y: float, x: float, z: float, reach: float, **more: object) -> None:
        key = (seed, seed >> 32, i, j, len(found))
        z = float(np.clip(z, -settings.depth_um, settings.depth_um))
        found.append(Structure(kind, y, x, z, reach, key, **more))  # type: ignore[arg-type]

    cell = reach_um(settings)
    for _ in range(min(12, rng.poisson(0.36 * crowd))):
        y, x = place()
        add("squamous", y, x, depth(y, x), cell)
    if rng.random() < 0.045 * crowd * settings.clustering:
        _sheet(add, rng, settings, *place(), depth)
    if rng.random() < 0.10 * crowd * settings.clustering:
        _pile(add, rng, settings, *place(), depth)
    if rng.random() < 0.012 * crowd * settings.clustering:
        _group(add, rng, settings, *place(), depth)
    for _ in range(min(8, rng.poisson(0.05 * crowd))):
        y, x = place()
        add("parabasal", y, x, depth(y, x), 15.0 * settings.cell_um / 52)
    for _ in range(min(20, rng.poisson((0.10 + 0.28 * crowd) * settings.neutrophils))):
        y, x = place()
        for _ in range(1 + (rng.random() < 0.3) * int(rng.integers(1, 5))):
            dy, dx = rng.normal(0, 8.0, 2)
            add("neutrophil", y + dy, x + dx, depth(y, x, 0.2), 9.0)
    for _ in range(min(20, rng.poisson((0.12 + 0.08 * crowd) * settings.debris))):
        y, x = place()
        add(
            "debris",
            y,
            x,
            depth(y, x, 0.35),
            2.2 * min(12.0, 0.8 * math.exp(0.8 + 0.8 * rng.standard_normal())),
        )
    for _ in range(min(6, rng.poisson((0.012 + 0.02 * crowd) * settings.mucus))):
        y, x = place()
        add("mucus", y, x, depth(y, x, 0.3), rng.uniform(20.0, 70.0))
    for _ in range(min(8, rng.poisson((0.10 + 0.10 * crowd) * settings.bacteria))):
        y, x = place()
        add("bacteria", y, x, depth(y, x, 0.15), rng.uniform(6.0, 30.0))
    return found


def _sheet(add, rng, settings, y, x, depth):  # type: ignore[no-untyped-def]
    """Cells side by side, as they were in the epithelium: shared borders, one slope."""
    pitch = 0.80 * settings.cell_um
    count = int(rng.integers(4, 15))
    turn = rng.random() * math.pi
    spots: list[tuple[float, float]] = []
    for a in range(-3, 4):
        for b in range(-3, 4):
            v, u = pitch * 0.87 * a, pitch * (b + 0.5 * (a % 2))
            v, u = v + pitch * rng.normal(0, 0.11), u + pitch * rng.normal(0, 0.11)
            spots.append(
                (math.cos(turn) * v + math.sin(turn) * u, math.cos(turn) * u - math.sin(turn) * v)
            )
    focus = rng.normal(0, 0.6 * pitch, 2)
    spots.sort(key=lambda p: math.hypot(p[0] - focus[0], 0.7 * (p[1] - focus[1])))
    spots = [p for p in spots[:count] if math.hypot(*p) < 130.0]
    z0 = depth(y, x)
    slope = tuple(rng.normal(0, 0.6 * settings.tilt, 2))
    hue = float(rng.uniform(0.75, 1.0) if rng.random() < settings.pink else rng.uniform(0.0, 0.2))
    for n, (v, u) in enumerate(spots):
        sides = []
        corners = 9
        phase = rng.random()
        for k in range(corners):
            angle = 2 * math.pi * (k + phase) / corners
            sides.append(
                (math.sin(angle), math.cos(angle), 0.56 * settings.cell_um * rng.uniform(0.92, 1.2))
            )
        overlap = rng.uniform(0.5, 4.0)
        for m, (p, q) in enumerate(spots):
            gap = math.hypot(p - v, q - u)
            if m != n and 0 < gap < 1.9 * pitch:
                sides.append(((p - v) / gap, (q - u) / gap, 0.5 * gap + overlap))
        z = z0 + slope[0] * v + slope[1] * u + rng.normal(0, min(0.8, 0.1 * settings.depth_um))
        add(
            "squamous",
            y + v,
            x + u,
            z,
            reach_um(settings),
            slope=slope,
            sides=tuple(sides),
            hue=hue,
        )


def _pile(add, rng, settings, y, x, depth):  # type: ignore[no-untyped-def]
    """A few cells on top of each other."""
    z = depth(y, x)
    step = min(3.5, 0.3 * settings.depth_um)
    for n in range(int(rng.integers(2, 6))):
        dy, dx = rng.normal(0, 0.33 * settings.cell_um, 2)
        add("squamous", y + dy, x + dx, z + step * rng.uniform(0.4, 1.2) * n, reach_um(settings))


def _group(add, rng, settings, y, x, depth):  # type: ignore[no-untyped-def]
    """A crowded, three-dimensional group of small cells."""
    count = int(rng.integers(8, 45))
    spread = 2.6 * math.sqrt(count) * settings.nucleus_um / 8
    stretch = rng.uniform(1.0, 1.8)
    z = depth(y, x)
    thick = min(4.0, 0.4 * settings.depth_um)
    kind = "glandular" if rng.random() < 0.6 else "parabasal"
    wide = 1.0 if kind == "glandular" else 1.7
    for _ in range(count):
        dy, dx = rng.normal(0, 1, 2) * spread * wide
        dy, dx = float(np.clip(dy * stretch, -90, 90)), float(np.clip(dx / stretch, -90, 90))
        reach = (
            11.0 * settings.nucleus_um / 8 if kind == "glandular" else 15.0 * settings.cell_um / 52
        )
        add(kind, y + dy, x + dx, z + thick * rng.standard_normal(), reach)


def structures_near(
    seed: int, settings: PhantomSettings, y0: float, x0: float, y1: float, x1: float
) -> list[Structure]:
    """Every structure that may touch the rectangle (um), in a fixed order."""
    found = []
    for i in range(math.floor((y0 - REACH_UM) / SITE_UM), math.ceil((y1 + REACH_UM) / SITE_UM) + 1):
        for j in range(
            math.floor((x0 - REACH_UM) / SITE_UM), math.ceil((x1 + REACH_UM) / SITE_UM) + 1
        ):
            for item in site(seed, settings, i, j):
                r = item.reach_um
                if (
                    item.y_um + r > y0
                    and item.y_um - r < y1
                    and item.x_um + r > x0
                    and item.x_um - r < x1
                ):
                    found.append(item)
    return found
