"""Numba kernels that draw one structure each: amount of stain and depth, pixel by pixel.

All coordinates are um relative to the structure's own centre; ``step`` is the pixel size in um and
``(top, left)`` the um position of the image's first pixel centre. Images are (Y, X) float32. No
fast-math: the same structure gives the same bytes wherever it is drawn.
"""

from __future__ import annotations

import math

from numba import njit

__all__ = ["paint_blob", "paint_cytoplasm", "paint_nucleus", "paint_rods", "paint_strand"]

_MASK = 1023
_PER_UM = 4.0


@njit(nogil=True, cache=True, inline="always")
def _sample(texture, y, x):
    """Texture (Y, X) at (y, x) um, linear and periodic."""
    ty = y * _PER_UM
    tx = x * _PER_UM
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
    return above * (1.0 - wy) + below * wy


@njit(nogil=True, cache=True, inline="always")
def _edge(distance, width):
    """0 outside, 1 inside, smooth over ``width`` um around distance 0 (positive inside)."""
    t = distance / width + 0.5
    if t <= 0.0:
        return 0.0
    if t >= 1.0:
        return 1.0
    return t * t * (3.0 - 2.0 * t)


@njit(nogil=True, cache=True)
def _inside(v, u, sides, grain, roughness, offset):
    """Distance in um to the outline, about, positive inside: a rounded polygon, frayed.

    ``sides`` (N, 3) holds the outward normal (y, x) of each side and its distance from the centre.
    """
    total = 1e-12
    reach = 0.0
    for i in range(sides.shape[0]):
        q = (sides[i, 0] * v + sides[i, 1] * u) / sides[i, 2]
        reach += sides[i, 2]
        if q > 0.0:
            q2 = q * q
            q4 = q2 * q2
            q8 = q4 * q4
            total += q8 * q4
    reach /= sides.shape[0]
    distance = (1.0 - total ** (1.0 / 12.0)) * reach
    if distance < 6.0 and distance > -6.0:
        fray = _sample(grain, v + offset, u - offset)
        tear = _sample(grain, v * 0.23 - offset, u * 0.23 + offset)
        distance += roughness * (0.35 * fray + 0.9 * tear)
    return distance


@njit(nogil=True, cache=True)
def paint_cytoplasm(
    amount, depth, flap, flap_depth, top, left, step, sides, folds, wrinkles, look, tex
):
    """Draw a thin, folded sheet of cytoplasm with unit mean amount.

    ``folds`` (F, 4): normal (y, x), distance from the centre, bend in 1/um; what lies beyond a fold
    is turned over onto the cell and drawn into ``flap``. ``wrinkles`` (W, 8): normal (y, x),
    distance, bend, start and half length along it, width in um, contrast. ``look`` holds, in
    order: texture contrast, roughness of the edge in um, rim contrast, thickening at the centre,
    depth, slope y and x, bend of the sheet in um, texture offsets y and x, perinuclear halo radius
    and contrast, waviness of the outline in um.
    """
    height, width = amount.shape
    contrast, rough, rim, bulge = look[0], look[1], look[2], look[3]
    z0, slope_y, slope_x, bend = look[4], look[5], look[6], look[7]
    oy, ox, halo, halo_contrast, wavy = look[8], look[9], look[10], look[11], look[12]
    cytoplasm, waves, fibres, grain = tex[0], tex[1], tex[3], tex[4]
    soft = max(step, 0.3)
    for iy in range(height):
        v0 = top + iy * step
        for ix in range(width):
            u0 = left + ix * step
            wave = _sample(waves, v0 + oy, u0 + ox)
            wave2 = _sample(waves, v0 - ox, u0 + oy)
            v = v0 + wavy * wave
            u = u0 + wavy * wave2
            kept = 1.0
            over = 0.0
            crease = 0.0
            lift = 0.0
            for f in range(folds.shape[0]):
                ny, nx = folds[f, 0], folds[f, 1]
                along = nx * v - ny * u
                s = ny * v + nx * u - folds[f, 2] + folds[f, 3] * along * along
                s += 0.5 * _sample(grain, along * 0.2 + 31.0 * f + oy, ox)
                kept *= _edge(-s, soft)
                if s < 1.0:
                    turned = _inside(v - 2.0 * s * ny, u - 2.0 * s * nx, sides, grain, rough, oy)
                    if turned > -1.0:
                        part = _edge(turned, soft) * _edge(-s, soft)
                        over += part * (1.0 + 0.25 * contrast * _sample(cytoplasm, v - oy, u - ox))
                        crease += part * 0.8 * math.exp(s * 1.6)
                        lift = max(lift, part * min(2.0, -s * 0.5))
            distance = _inside(v, u, sides, grain, rough, ox)
            sheet = _edge(distance, soft) * kept
            amount[iy, ix] = 0.0
            flap[iy, ix] = 0.0
            z = z0 + slope_y * v0 + slope_x * u0 + bend * wave
            depth[iy, ix] = z
            flap_depth[iy, ix] = z + 0.4 + lift
            if sheet <= 0.0 and over <= 0.0:
                continue
            texture = _sample(cytoplasm, v0 + oy, u0 + ox)
            fine = _sample(grain, v0 * 1.7 + ox, u0 * 1.7 + oy)
            t = 1.0 + contrast * (0.13 * texture + 0.05 * fine + 0.10 * wave2)
            r2 = v0 * v0 + u0 * u0
            t += bulge * math.exp(-r2 / 260.0)
            if halo > 0.0:
                r = math.sqrt(r2) - halo * (1.0 + 0.15 * wave)
                t *= 1.0 - halo_contrast * _edge(-r, 1.5)
                t += 1.2 * halo_contrast * math.exp(-(r - 1.0) * (r - 1.0) / 5.0)
            if distance < 8.0:
                near = max(distance, 0.0)
                margin = 0.5 + 0.5 * _sample(waves, v0 * 2.0 - oy, u0 * 2.0 + ox)
                t -= 0.22 * math.exp(-near / 2.5)
                t += rim * max(0.0, margin) * math.exp(-(near - 0.5) * (near - 0.5) / 0.5)
            for w in range(wrinkles.shape[0]):
                ny, nx = wrinkles[w, 0], wrinkles[w, 1]
                along = nx * v0 - ny * u0 - wrinkles[w, 4]
                if along > wrinkles[w, 5] or along < -wrinkles[w, 5]:
                    continue
                s = ny * v0 + nx * u0 - wrinkles[w, 2] + wrinkles[w, 3] * along * along + 1.6 * wave
                s += 0.6 * _sample(cytoplasm, along + 17.0 * w, oy)
                if s > 9.0 or s < -4.0:
                    continue
                ends = 1.0 - (along / wrinkles[w, 5]) ** 2
                q = s / wrinkles[w, 6]
                line = math.exp(-q * q)
                if s > 0.0:
                    line += 0.35 * math.exp(-s / 2.5)
                t += wrinkles[w, 7] * ends * line
            web = _sample(fibres, v0 * 0.5 + ox, u0 * 0.5 + oy)
            if web > 0.6:
                t += 0.06 * contrast * (web - 0.6)
            if t < 0.15:
                t = 0.15
            amount[iy, ix] = sheet * (t + crease)
            flap[iy, ix] = over


@njit(nogil=True, cache=True)
def paint_nucleus(amount, depth, top, left, step, shape, look, tex):
    """Draw a nucleus with unit mean amount: membrane, chromatin, now and then nucleoli.

    ``shape``: half axes in um, angle, irregularity, offsets y and x of the texture. ``look``:
    chromatin contrast, membrane contrast, coarseness, depth, slope y and x, nucleolus contrast,
    nucleolus y and x in um, its radius, dome (how much thicker the middle is), edge width in um.
    """
    height, width = amount.shape
    a, b, angle, irregular, oy, ox = shape[0], shape[1], shape[2], shape[3], shape[4], shape[5]
    ca, sa = math.cos(angle), math.sin(angle)
    chromatin, waves, grain = tex[2], tex[1], tex[4]
    mean = math.sqrt(a * b)
    for iy in range(height):
        v = top + iy * step
        for ix in range(width):
            u = left + ix * step
            p = (ca * u + sa * v) / a
            q = (ca * v - sa * u) / b
            r = math.sqrt(p * p + q * q)
            distance = (1.0 - r) * mean
            distance += irregular * (
                0.7 * _sample(waves, v * 3.0 + oy, u * 3.0 + ox)
                + 0.3 * _sample(grain, v * 0.6 + oy, u * 0.6 + ox)
            )
            cover = _edge(distance, look[11])
            depth[iy, ix] = look[3] + look[4] * v + look[5] * u
            if cover <= 0.0:
                amount[iy, ix] = 0.0
                continue
            scale = 1.0 / look[2]
            t = 1.0 + look[0] * _sample(chromatin, v * scale + oy, u * scale + ox)
            t += 0.4 * look[0] * _sample(waves, v * 5.0 + ox, u * 5.0 + oy)
            t += look[10] * (1.0 - r * r)
            t += look[1] * math.exp(-(distance - 0.35) * (distance - 0.35) / 0.12)
            if look[6] > 0.0:
                dy, dx = v - look[7], u - look[8]
                t += look[6] * _edge(look[9] - math.sqrt(dy * dy + dx * dx), 0.5)
            amount[iy, ix] = cover * max(t, 0.2)


@njit(nogil=True, cache=True)
def paint_rods(amount, top, left, step, rods):
    """Draw bacteria and granules.

    ``rods`` (N, 7): y, x, angle, length, width (all um), amount, bend in 1/um.
    """
    height, width = amount.shape
    for i in range(rods.shape[0]):
        y, x, angle, length, thick = rods[i, 0], rods[i, 1], rods[i, 2], rods[i, 3], rods[i, 4]
        reach = 0.5 * length + thick + step
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


@njit(nogil=True, cache=True)
def paint_blob(amount, depth, top, left, step, look, tex):
    """Draw a lump of debris: frayed, with holes. ``look``: half axes, angle, fraying, hole
    threshold, texture offsets y and x, depth, slope y and x."""
    height, width = amount.shape
    ca, sa = math.cos(look[2]), math.sin(look[2])
    cytoplasm, waves, chromatin, grain = tex[0], tex[1], tex[2], tex[4]
    oy, ox = look[5], look[6]
    mean = math.sqrt(look[0] * look[1])
    for iy in range(height):
        v = top + iy * step
        for ix in range(width):
            u = left + ix * step
            p = (ca * u + sa * v) / look[0]
            q = (ca * v - sa * u) / look[1]
            distance = (1.0 - math.sqrt(p * p + q * q)) * mean
            distance += (
                look[3]
                * mean
                * (
                    0.25 * _sample(cytoplasm, v + oy, u + ox)
                    + 0.15 * _sample(waves, v * 4.0 + oy, u * 4.0 + ox)
                )
            )
            cover = _edge(distance, 0.6)
            depth[iy, ix] = look[7] + look[8] * v + look[9] * u
            value = 0.0
            if cover > 0.0:
                grit = _sample(chromatin, v + ox, u + oy) + 0.5 * _sample(grain, v - oy, u - ox)
                value = cover * max(0.0, 1.0 + 0.5 * grit - look[4])
            amount[iy, ix] = value


@njit(nogil=True, cache=True)
def paint_strand(amount, depth, top, left, step, look, tex):
    """Draw a wisp of mucus: fibres along an axis. ``look``: half length, half width, angle, bend,
    texture offsets y and x, depth, slope along, waviness in um."""
    height, width = amount.shape
    ca, sa = math.cos(look[2]), math.sin(look[2])
    waves, fibres, cytoplasm = tex[1], tex[3], tex[0]
    oy, ox = look[4], look[5]
    for iy in range(height):
        v = top + iy * step
        for ix in range(width):
            u = left + ix * step
            along = ca * u + sa * v
            across = ca * v - sa * u + look[3] * along * along
            across += look[8] * _sample(waves, v * 0.7 + oy, u * 0.7 + ox)
            depth[iy, ix] = look[6] + look[7] * along
            p, q = along / look[0], across / look[1]
            r2 = p * p + q * q
            if r2 >= 1.0:
                amount[iy, ix] = 0.0
                continue
            fibre = _sample(fibres, across * 0.9 + oy, along * 0.22 + ox)
            cloud = _sample(cytoplasm, v * 0.6 + oy, u * 0.6 + ox)
            value = (1.0 - r2) * (0.35 + 0.4 * max(0.0, fibre) + 0.15 * cloud)
            amount[iy, ix] = max(0.0, value)
