"""Where things lie: the slide is a grid of sites, and each site's content follows from its hash.

A site is a square of :data:`SITE_UM` um. What grows from it may reach over its border, but never
further than :data:`REACH_UM`, so the structures of any window are found by asking the few sites
around it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from slidefusion.phantom.settings import PhantomSettings
from slidefusion.phantom.structures import Structure, random_source

__all__ = ["REACH_UM", "SITE_UM", "field", "site", "structures_near"]

SITE_UM = 64.0
"""Side of a site in um."""
REACH_UM = 280.0
"""Nothing reaches further than this beyond the square of its site, in um."""

_WORD = 2**64 - 1


def _lattice(seed: int, salt: int, i: int, j: int) -> float:
    """A random number in [0, 1) at a lattice point: rounds of splitmix64's finaliser."""
    word = (seed * 0x9E3779B97F4A7C15 + salt * 0xBF58476D1CE4E5B9) & _WORD
    for part in (i, j):
        word = (word ^ (part & 0xFFFFFFFF)) * 0x94D049BB133111EB & _WORD
        word ^= word >> 29
        word = word * 0xBF58476D1CE4E5B9 & _WORD
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
    """Local number of cells relative to the usual; 0 over empty areas."""
    scale = settings.density_scale_um
    broad = field(seed, 1, y_um, x_um, scale)
    fine = field(seed, 2, y_um, x_um, 0.35 * scale)
    return settings.density * max(0.0, 2.9 * (0.65 * broad + 0.35 * fine) - 0.45)


class _Site:
    """One site while it is being filled."""

    def __init__(self, seed: int, settings: PhantomSettings, i: int, j: int) -> None:
        self.seed, self.settings, self.i, self.j = seed, settings, i, j
        self.rng = random_source(seed, seed >> 32, i, j, 0x51E)
        self.found: list[Structure] = []
        self.cell_reach_um = 1.1 * settings.cell_um

    def count(self, mean: float, most: int) -> int:
        """A Poisson number, at most ``most``."""
        return min(most, int(self.rng.poisson(mean)))

    def place(self) -> tuple[float, float]:
        """A point (y, x) in the site, um."""
        y, x = self.rng.random(2)
        return (self.i + float(y)) * SITE_UM, (self.j + float(x)) * SITE_UM

    def scatter(self, spread_um: float, limit_um: float) -> tuple[float, float]:
        """A normal offset (y, x) in um."""
        y, x = np.clip(spread_um * self.rng.standard_normal(2), -limit_um, limit_um)
        return float(y), float(x)

    def depth(self, y_um: float, x_um: float, spread: float) -> float:
        """A depth near the specimen's surface, which is never quite flat, um."""
        share = field(self.seed, 3, y_um, x_um, 900.0) + field(self.seed, 4, y_um, x_um, 260.0) - 1
        deviate = float(self.rng.standard_normal())
        return self.settings.depth_um * (0.55 * share + spread * deviate)

    def add(self, kind: str, y: float, x: float, z: float, reach: float, **more: Any) -> None:
        """Put a structure at (y, x, z) um."""
        key = (self.seed, self.seed >> 32, self.i, self.j, len(self.found))
        limit = self.settings.depth_um
        z = min(limit, max(-limit, z))
        self.found.append(Structure(kind, y, x, z, reach, key, **more))

    def singles(self, mean: float) -> None:
        """Cells on their own. They settle beside rather than on each other."""
        taken: list[tuple[float, float]] = []
        for _ in range(self.count(mean, 12)):
            y, x = max(
                [self.place() for _ in range(3)],
                key=lambda p: min((math.dist(p, q) for q in taken), default=0.0),
            )
            taken.append((y, x))
            self.add("squamous", y, x, self.depth(y, x, 0.28), self.cell_reach_um)

    def sheet(self) -> None:
        """Cells side by side, as they were in the epithelium: shared borders, one slope."""
        settings, rng = self.settings, self.rng
        y, x = self.place()
        pitch = 0.80 * settings.cell_um
        count = int(rng.integers(4, 15))
        turn = rng.random() * math.pi
        spots: list[tuple[float, float]] = []
        for a in range(-3, 4):
            for b in range(-3, 4):
                dy, dx = self.scatter(0.11 * pitch, 0.3 * pitch)
                v, u = pitch * 0.87 * a + dy, pitch * (b + 0.5 * (a % 2)) + dx
                c, s = math.cos(turn), math.sin(turn)
                spots.append((c * v + s * u, c * u - s * v))
        focus = self.scatter(0.6 * pitch, pitch)
        spots.sort(key=lambda p: math.hypot(p[0] - focus[0], 0.7 * (p[1] - focus[1])))
        spots = [p for p in spots[:count] if math.hypot(*p) < 150.0]
        z = self.depth(y, x, 0.28)
        slope = self.scatter(0.6 * settings.tilt, 0.2)
        hue = rng.uniform(0.75, 1.0) if rng.random() < settings.pink else rng.uniform(0.0, 0.2)
        for n, spot in enumerate(spots):
            others = spots[:n] + spots[n + 1 :]
            rise = slope[0] * spot[0] + slope[1] * spot[1]
            self.add(
                "squamous",
                y + spot[0],
                x + spot[1],
                z + rise + self.scatter(min(0.8, 0.1 * settings.depth_um), 2.0)[0],
                self.cell_reach_um,
                slope=slope,
                sides=self._sides(spot, others, pitch),
                hue=float(hue),
            )

    def _sides(
        self, spot: tuple[float, float], others: list[tuple[float, float]], pitch: float
    ) -> tuple[tuple[float, float, float], ...]:
        """Outline of a cell in a sheet: half-way to its neighbours, a little overlapping."""
        phase, overlap = self.rng.random(), self.rng.uniform(0.5, 4.0)
        sides = []
        for k in range(9):
            angle = 2 * math.pi * (k + phase) / 9
            far = 0.56 * self.settings.cell_um * self.rng.uniform(0.92, 1.2)
            sides.append((math.sin(angle), math.cos(angle), float(far)))
        for other in others:
            gap = math.dist(spot, other)
            if 0 < gap < 1.9 * pitch:
                v, u = (other[0] - spot[0]) / gap, (other[1] - spot[1]) / gap
                sides.append((v, u, float(0.5 * gap + overlap)))
        return tuple(sides)

    def pile(self) -> None:
        """A few cells on top of each other."""
        y, x = self.place()
        z = self.depth(y, x, 0.28)
        step = min(3.5, 0.3 * self.settings.depth_um)
        for n in range(int(self.rng.integers(2, 5))):
            dy, dx = self.scatter(0.42 * self.settings.cell_um, 50.0)
            rise = step * self.rng.uniform(0.4, 1.2) * n
            self.add("squamous", y + dy, x + dx, z + rise, self.cell_reach_um)

    def group(self) -> None:
        """A crowded, three-dimensional group of small cells."""
        settings = self.settings
        small = settings.nucleus_um / 8
        count = int(self.rng.integers(8, 40))
        glandular = self.rng.random() < 0.6
        count = count if glandular else count // 2
        kind = "glandular" if glandular else "parabasal"
        reach = 13.0 * small if glandular else 18.0 * settings.cell_um / 52
        spread = 2.8 * math.sqrt(count) * small * (1.1 if glandular else 2.6)
        stretch = self.rng.uniform(1.0, 1.8)
        hue = float(self.rng.uniform(0.0, 0.35))
        y, x = self.place()
        z = self.depth(y, x, 0.28)
        for _ in range(count):
            dy, dx = self.scatter(spread, 100.0)
            rise = self.scatter(min(4.0, 0.4 * settings.depth_um), 9.0)[0]
            self.add(kind, y + dy * stretch, x + dx / stretch, z + rise, reach, hue=hue)

    def neutrophils(self, mean: float) -> None:
        """Neutrophils, often a few together."""
        for _ in range(self.count(mean, 20)):
            y, x = self.place()
            z = self.depth(y, x, 0.25)
            together = int(self.rng.integers(2, 6)) if self.rng.random() < 0.3 else 1
            for _ in range(together):
                dy, dx = self.scatter(8.0, 30.0)
                self.add("neutrophil", y + dy, x + dx, z + self.scatter(0.8, 2.0)[0], 11.0)

    def matter(self, kind: str, mean: float, spread: float, sizes: tuple[float, float]) -> None:
        """Debris, mucus or bacteria with a reach between ``sizes`` um, small ones more often."""
        low, high = sizes
        for _ in range(self.count(mean, 20)):
            y, x = self.place()
            reach = low * (high / low) ** float(self.rng.random() ** 1.5)
            self.add(kind, y, x, self.depth(y, x, spread), reach)


def site(seed: int, settings: PhantomSettings, i: int, j: int) -> list[Structure]:
    """Everything that grows from site (row ``i``, column ``j``)."""
    here = _Site(seed, settings, i, j)
    crowd = _crowding(seed, settings, (i + 0.5) * SITE_UM, (j + 0.5) * SITE_UM)
    grouped = crowd * settings.clustering
    here.singles(0.42 * crowd)
    if here.rng.random() < 0.045 * grouped:
        here.sheet()
    if here.rng.random() < 0.04 * grouped:
        here.pile()
    if here.rng.random() < 0.012 * grouped:
        here.group()
    for _ in range(here.count(0.05 * crowd, 8)):
        y, x = here.place()
        here.add("parabasal", y, x, here.depth(y, x, 0.28), 18.0 * settings.cell_um / 52)
    here.neutrophils((0.08 + 0.15 * crowd) * settings.neutrophils)
    here.matter("debris", (0.12 + 0.08 * crowd) * settings.debris, 0.35, (1.3, 24.0))
    here.matter("mucus", (0.012 + 0.02 * crowd) * settings.mucus, 0.3, (20.0, 70.0))
    here.matter("bacteria", (0.10 + 0.10 * crowd) * settings.bacteria, 0.15, (6.0, 30.0))
    return here.found


def structures_near(
    seed: int, settings: PhantomSettings, y0: float, x0: float, y1: float, x1: float
) -> list[Structure]:
    """Every structure that may touch the rectangle (um), in a fixed order."""
    rows = range(math.floor((y0 - REACH_UM) / SITE_UM), math.ceil((y1 + REACH_UM) / SITE_UM))
    columns = range(math.floor((x0 - REACH_UM) / SITE_UM), math.ceil((x1 + REACH_UM) / SITE_UM))
    return [
        item
        for i in rows
        for j in columns
        for item in site(seed, settings, i, j)
        if y0 - item.reach_um < item.y_um < y1 + item.reach_um
        and x0 - item.reach_um < item.x_um < x1 + item.reach_um
    ]
