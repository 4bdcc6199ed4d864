"""Compiled painters of cytoplasm and nuclei: amount of stain and depth, pixel by pixel.

All coordinates are um relative to the structure's own centre; ``step`` is the pixel size in um and
``(top, left)`` the position in um of the image's first pixel centre. Images are (Y, X) float32.
``tex`` is :func:`slidefusion.phantom.textures.textures`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from slidefusion.jit import kernel
from slidefusion.phantom.sampling import edge, sample

__all__ = ["OUTLINE_UM", "CytoplasmLook", "NucleusLook", "paint_cytoplasm", "paint_nucleus"]

OUTLINE_UM = 4.0
"""How far in um waves and fraying may carry an outline beyond its polygon."""

Floats = npt.NDArray[np.float32]
Table = npt.NDArray[np.float64]


class CytoplasmLook(NamedTuple):
    """How a sheet of cytoplasm looks and lies."""

    depth: float
    """Depth of its centre in um."""
    slope_y: float
    """Change of depth along y, um a um."""
    slope_x: float
    """Change of depth along x, um a um."""
    bend: float
    """How far in um it undulates."""
    texture_y: float
    """Where in the textures it is cut from, um."""
    texture_x: float
    """Where in the textures it is cut from, um."""
    contrast: float = 1.0
    """Contrast of its fine texture."""
    roughness: float = 0.3
    """How far in um its outline is frayed."""
    crumple: float = 1.0
    """Contrast of its creases."""
    rim: float = 0.2
    """Contrast of the thickened margin."""
    rolled: float = 0.0
    """Contrast of the rolled-up parts of the margin."""
    bulge: float = 0.1
    """Relative thickening around the nucleus."""
    waviness: float = 0.8
    """How far in um its outline wanders from the polygon."""
    thinning: float = 0.25
    """Relative loss of stain towards the outline."""
    soft: float = 0.3
    """Width of the outline in um."""
    gradient_y: float = 0.0
    """Relative change of thickness along y, a um."""
    gradient_x: float = 0.0
    """Relative change of thickness along x, a um."""
    halo: float = 0.0
    """Radius in um of a clearing around the nucleus (0 for none)."""
    halo_contrast: float = 0.0
    """Relative loss of stain in that clearing."""


class NucleusLook(NamedTuple):
    """How a nucleus looks and lies."""

    long: float
    """Longer half axis in um."""
    short: float
    """Shorter half axis in um."""
    angle: float
    """Direction of the longer axis in radians."""
    irregular: float
    """How far in um the outline wanders from the ellipse."""
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
    chromatin: float
    """Contrast of the chromatin."""
    coarseness: float
    """Size of the chromatin's grains relative to 1 um."""
    membrane: float
    """Contrast of the membrane."""
    dome: float
    """How much thicker the middle is than the edge, relative."""
    edge: float
    """Width of the edge in um."""
    nucleolus: float
    """Contrast of the nucleolus (0 for none)."""
    nucleolus_y: float
    """Position of the nucleolus in um."""
    nucleolus_x: float
    """Position of the nucleolus in um."""
    nucleolus_radius: float
    """Radius of the nucleolus in um."""


@kernel
def _inside(
    v: float, u: float, sides: Table, reach: float, grain: Floats, roughness: float, at: float
) -> float:
    """Distance in um to the outline, about, positive inside: a rounded polygon, frayed.

    ``sides`` (N, 3) holds the outward normal (y, x) of each side divided by its distance from the
    centre, and that distance. A power mean rounds the corners a little.
    """
    total = 1e-12
    for i in range(sides.shape[0]):
        q = sides[i, 0] * v + sides[i, 1] * u
        if q > 1.4:  # far outside, whatever the other sides say
            return -10.0
        if q > 0.0:
            q2 = q * q
            q4 = q2 * q2
            q8 = q4 * q4
            total += q8 * q8
    root = math.sqrt(math.sqrt(math.sqrt(math.sqrt(total))))  # the 16th
    distance = (1.0 - root) * reach
    if distance < 6.0 and distance > -6.0:
        fray = sample(grain, v + at, u - at)
        tear = sample(grain, v * 0.3 - at, u * 0.3 + at)
        # Torn in some places, smooth in others.
        where = sample(grain, v * 0.05 + at, u * 0.05 + at)
        torn = 0.25 + 0.75 * max(0.0, where)
        distance += roughness * torn * (0.14 * fray + 0.9 * tear)
    return float(distance)


@kernel
def _creases(v: float, u: float, wave: float, wrinkles: Table, tex: Floats, at: float) -> float:
    """Extra thickness along the wrinkles: a thin line, sharper on one side, fading at its ends."""
    extra = 0.0
    for w in range(wrinkles.shape[0]):
        ny, nx = wrinkles[w, 0], wrinkles[w, 1]
        along = nx * v - ny * u - wrinkles[w, 4]
        if along > wrinkles[w, 5] or along < -wrinkles[w, 5]:
            continue
        s = ny * v + nx * u - wrinkles[w, 2] + wrinkles[w, 3] * along * along + 1.6 * wave
        if s > 20.0 or s < -4.0:
            continue
        # Textures are sampled along their rows, which stay in the cache.
        s += 0.45 * sample(tex[0], at + 17.0 * w, along * 0.35)
        q = s / wrinkles[w, 6]
        line = math.exp(-q * q) if q * q < 20.0 else 0.0
        if s > 0.0:
            line += 0.4 * math.exp(-s / wrinkles[w, 8])
        extra += wrinkles[w, 7] * (1.0 - (along / wrinkles[w, 5]) ** 2) * line
    return extra


@kernel
def _thickness(
    v: float, u: float, near: float, wave: float, look: CytoplasmLook, tex: Floats
) -> float:
    """Relative thickness at (v, u), ``near`` um from the outline."""
    oy, ox = look.texture_y, look.texture_x
    texture = sample(tex[0], v + oy, u + ox)
    broad = sample(tex[1], v - ox, u + oy)
    fine = sample(tex[4], v * 1.7 + ox, u * 1.7 + oy)
    t = 1.0 + look.contrast * (0.07 * texture + 0.13 * fine) + 0.13 * broad
    t *= min(1.8, max(0.5, 1.0 + look.gradient_y * v + look.gradient_x * u))
    dots = sample(tex[2], v * 0.8 + ox, u * 0.8 - oy)
    if dots > 0.9:
        t += 0.9 * look.contrast * (dots - 0.9)
    # The crumpled membrane: fine creases of two sizes, and some that follow the outline.
    t += 0.065 * look.crumple * sample(tex[3], v * 0.45 + ox, u * 0.45 + oy)
    t += 0.055 * look.crumple * sample(tex[3], 60.0 - v * 1.1 - oy, u * 1.1 + ox)
    if near < 20.0:
        follow = sample(tex[3], near * 0.6 + ox, (u - v) * 0.12 + oy)
        t += 0.14 * look.crumple * follow * math.exp(-near / 7.0)
    r2 = v * v + u * u
    t += look.bulge * math.exp(-r2 / 260.0)
    if look.halo > 0.0:
        r = math.sqrt(r2) - look.halo * (1.0 + 0.15 * wave)
        t *= 1.0 - look.halo_contrast * edge(-r, 1.5)
        t += 1.2 * look.halo_contrast * math.exp(-(r - 1.0) * (r - 1.0) / 5.0)
    if near < 8.0:
        margin = 0.5 + 0.5 * sample(tex[1], v * 2.0 - oy, u * 2.0 + ox)
        t *= 1.0 - look.thinning * math.exp(-near / 2.0)
        t += look.rim * max(0.0, margin) * math.exp(-(near - 0.5) * (near - 0.5) / 0.5)
        # Where the margin is rolled up, a dark band.
        where = min(1.0, max(0.0, 2.5 * (margin - 0.5)))
        t += look.rolled * where * edge(1.4 + 1.2 * where - near, 0.9)
    return t


@kernel
def paint_cytoplasm(
    amount: Floats,
    depth: Floats,
    flap: Floats,
    flap_depth: Floats,
    top: float,
    left: float,
    step: float,
    sides: Table,
    folds: Table,
    wrinkles: Table,
    look: CytoplasmLook,
    tex: Floats,
) -> None:
    """Draw a thin, folded sheet of cytoplasm of about unit mean amount.

    ``sides`` (N, 3): outward normal (y, x) of each side divided by its distance from the centre,
    and that distance in um.
    ``folds`` (F, 4): normal (y, x), distance from the centre, bend in 1/um; what lies beyond a fold
    is turned over onto the cell and drawn into ``flap``. ``wrinkles`` (W, 9): normal (y, x),
    distance, bend in 1/um, middle and half length along it, width, all um, contrast, and how far
    in um it fades to one side.
    """
    height, width = amount.shape
    oy, ox = look.texture_y, look.texture_x
    soft = max(step, look.soft)
    reach = 0.0
    for i in range(sides.shape[0]):
        reach += sides[i, 2] / sides.shape[0]
    for iy in range(height):
        v0 = top + iy * step
        for ix in range(width):
            u0 = left + ix * step
            amount[iy, ix] = 0.0
            flap[iy, ix] = 0.0
            beyond = 0.0
            for i in range(sides.shape[0]):
                q = sides[i, 0] * v0 + sides[i, 1] * u0
                beyond = max(beyond, (q - 1.0) * sides[i, 2])
            if beyond > OUTLINE_UM:
                continue
            wave = sample(tex[1], v0 + oy, u0 + ox)
            v = v0 + look.waviness * wave
            u = u0 + look.waviness * sample(tex[1], v0 - ox, u0 + oy)
            v += 0.3 * look.waviness * sample(tex[1], 90.0 - 2.6 * v0 + ox, 2.6 * u0 + oy)
            kept = 1.0
            over = 0.0
            crease = 0.0
            lift = 0.0
            for f in range(folds.shape[0]):
                ny, nx = folds[f, 0], folds[f, 1]
                along = nx * v - ny * u
                s = ny * v + nx * u - folds[f, 2] + folds[f, 3] * along * along
                s += 0.8 * sample(tex[1], 31.0 * f + oy, along * 0.9 + ox)
                kept *= edge(-s, soft)
                if s < 1.0:
                    turned = _inside(
                        v - 2.0 * s * ny,
                        u - 2.0 * s * nx,
                        sides,
                        reach,
                        tex[4],
                        look.roughness,
                        oy,
                    )
                    if turned > -1.0:
                        part = edge(turned, soft) * edge(-s, soft)
                        over += part * (1.0 + 0.1 * look.contrast * sample(tex[4], v - oy, u - ox))
                        crease += part * 0.8 * math.exp(s * 1.6)
                        lift = max(lift, part * min(2.0, -s * 0.5))
            distance = _inside(v, u, sides, reach, tex[4], look.roughness, ox)
            sheet = edge(distance, soft) * kept
            flap[iy, ix] = over
            z = look.depth + look.slope_y * v0 + look.slope_x * u0 + look.bend * wave
            depth[iy, ix] = z
            flap_depth[iy, ix] = z + 0.4 + lift
            if sheet > 0.0:
                t = _thickness(v0, u0, max(distance, 0.0), wave, look, tex)
                t += _creases(v0, u0, wave, wrinkles, tex, oy)
                amount[iy, ix] = sheet * (max(t, 0.15) + crease)


@kernel
def paint_nucleus(
    amount: Floats,
    depth: Floats,
    top: float,
    left: float,
    step: float,
    look: NucleusLook,
    tex: Floats,
) -> None:
    """Draw a nucleus of about unit mean amount: membrane, chromatin, now and then a nucleolus."""
    height, width = amount.shape
    oy, ox = look.texture_y, look.texture_x
    ca, sa = math.cos(look.angle), math.sin(look.angle)
    mean = math.sqrt(look.long * look.short)
    scale = 1.0 / look.coarseness
    for iy in range(height):
        v = top + iy * step
        for ix in range(width):
            u = left + ix * step
            p = (ca * u + sa * v) / look.long
            q = (ca * v - sa * u) / look.short
            r2 = p * p + q * q
            wander = 0.7 * sample(tex[1], v * 3.0 + oy, u * 3.0 + ox)
            wander += 0.3 * sample(tex[4], v * 0.6 + oy, u * 0.6 + ox)
            distance = (1.0 - math.sqrt(r2)) * mean + look.irregular * wander
            cover = edge(distance, look.edge)
            depth[iy, ix] = look.depth + look.slope_y * v + look.slope_x * u
            amount[iy, ix] = 0.0
            if cover <= 0.0:
                continue
            t = 1.0 + look.chromatin * sample(tex[2], v * scale + oy, u * scale + ox)
            t += 0.7 * look.chromatin * sample(tex[1], v * 6.0 + ox, u * 6.0 + oy)
            t += look.dome * (1.0 - r2)
            t += look.membrane * math.exp(-(distance - 0.35) * (distance - 0.35) / 0.12)
            if look.nucleolus > 0.0:
                dy, dx = v - look.nucleolus_y, u - look.nucleolus_x
                t += look.nucleolus * edge(
                    look.nucleolus_radius - math.sqrt(dy * dy + dx * dx), 0.5
                )
            amount[iy, ix] = cover * max(t, 0.2)
