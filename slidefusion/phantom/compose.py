"""Numba kernels that compose sheets into layers, blur layers and multiply transmissions.

A *layer* is the absorption (1 - transmission) of everything near one depth, (C, Y, X) float32. It
is zero where nothing lies, so blurring skips empty tiles of :data:`TILE` px. No fast-math, one
thread, fixed blocks: the same bytes however the slide is cut.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from slidefusion.jit import kernel

__all__ = [
    "TILE",
    "active_tiles",
    "add_sheet",
    "add_total",
    "blur_multiply",
    "enlarge_multiply",
    "halve",
    "to_absorption",
]

Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]

TILE = 32
"""Side in px of the tiles that are skipped when empty."""


@kernel
def add_sheet(
    layer: Floats,
    dirty: Flags,
    sheet_y: int,
    sheet_x: int,
    amount: Floats,
    depth: Floats,
    colour: Floats,
    level: np.float32,
    per_um: np.float32,
) -> None:
    """Add to ``layer`` (C, Y, X) the optical density of a sheet's part near depth ``level``.

    Depths between two layers are shared linearly. ``level`` counts layers, ``per_um`` layers a um;
    ``dirty`` (tiles Y, X) is marked where something was added.
    """
    channels, height, width = layer.shape
    rows, columns = amount.shape
    y0, y1 = max(0, -sheet_y), min(rows, height - sheet_y)
    x0, x1 = max(0, -sheet_x), min(columns, width - sheet_x)
    for iy in range(y0, y1):
        y = iy + sheet_y
        for ix in range(x0, x1):
            a = amount[iy, ix]
            if a <= 0.0:
                continue
            share = np.float32(1.0) - abs(depth[iy, ix] * per_um - level)
            if share <= 0.0:
                continue
            x = ix + sheet_x
            a *= share
            dirty[y // TILE, x // TILE] = True
            for c in range(channels):
                layer[c, y, x] += a * colour[c]


@kernel
def add_total(
    total: Floats,
    salience: Floats,
    depth_um: Floats,
    sheet_y: int,
    sheet_x: int,
    amount: Floats,
    depth: Floats,
    colour: Floats,
) -> None:
    """Add a sheet's optical density to ``total`` (C, Y, X); keep the depth of the densest sheet."""
    channels, height, width = total.shape
    rows, columns = amount.shape
    y0, y1 = max(0, -sheet_y), min(rows, height - sheet_y)
    x0, x1 = max(0, -sheet_x), min(columns, width - sheet_x)
    mean = np.float32(0.0)
    for c in range(channels):
        mean += colour[c] / np.float32(channels)
    for iy in range(y0, y1):
        y = iy + sheet_y
        for ix in range(x0, x1):
            a = amount[iy, ix]
            if a <= 0.0:
                continue
            x = ix + sheet_x
            for c in range(channels):
                total[c, y, x] += a * colour[c]
            if a * mean > salience[y, x]:
                salience[y, x] = a * mean
                depth_um[y, x] = depth[iy, ix]


@kernel
def to_absorption(layer: Floats, dirty: Flags) -> None:
    """Turn decadic optical density into absorption ``1 - 10**-od`` in place, on dirty tiles."""
    channels, height, width = layer.shape
    scale = np.float32(-2.302585093)
    for ty in range(dirty.shape[0]):
        for tx in range(dirty.shape[1]):
            if not dirty[ty, tx]:
                continue
            y1, x1 = min(height, (ty + 1) * TILE), min(width, (tx + 1) * TILE)
            for c in range(channels):
                for y in range(ty * TILE, y1):
                    for x in range(tx * TILE, x1):
                        od = layer[c, y, x]
                        if od != 0.0:
                            layer[c, y, x] = np.float32(1.0) - np.exp(scale * od)


@kernel
def halve(source: Floats, target: Floats) -> None:
    """Reduce (C, Y, X) to half, with weights 1 3 3 1; outside is 0."""
    channels, height, width = source.shape
    for c in range(channels):
        row = np.zeros(width + 2, np.float32)
        for y in range(height // 2):
            a, b = source[c, 2 * y], source[c, 2 * y + 1]
            up = source[c, max(2 * y - 1, 0)]
            down = source[c, min(2 * y + 2, height - 1)]
            for x in range(width):
                row[x + 1] = np.float32(0.015625) * (
                    up[x] + down[x] + np.float32(3.0) * (a[x] + b[x])
                )
            for x in range(width // 2):
                target[c, y, x] = (
                    row[2 * x]
                    + row[2 * x + 3]
                    + np.float32(3.0) * (row[2 * x + 1] + row[2 * x + 2])
                )


@kernel
def active_tiles(dirty: Flags, level: int, reach: int, tiles_y: int, tiles_x: int) -> Flags:
    """Which tiles (of TILE px at reduced ``level``) a PSF of ``reach`` px there can touch."""
    result = np.zeros((tiles_y, tiles_x), np.bool_)
    for ty in range(dirty.shape[0]):
        for tx in range(dirty.shape[1]):
            if dirty[ty, tx]:
                # One more pixel for what halving smears over the border.
                y0 = ((ty * TILE) >> level) - reach - 2
                y1 = ((ty * TILE + TILE - 1) >> level) + reach + 2
                x0 = ((tx * TILE) >> level) - reach - 2
                x1 = ((tx * TILE + TILE - 1) >> level) + reach + 2
                for y in range(max(0, y0 // TILE), min(tiles_y - 1, y1 // TILE) + 1):
                    for x in range(max(0, x0 // TILE), min(tiles_x - 1, x1 // TILE) + 1):
                        result[y, x] = True
    return result


@kernel
def blur_multiply(
    layer: Floats,
    active: Flags,
    quadrant: Floats,
    origin: int,
    planes: Floats,
    chosen: npt.NDArray[np.int64],
) -> None:
    """Multiply ``planes[p]`` for every p in ``chosen`` by the blurred transmission of ``layer``.

    ``layer`` (C, Y, X) absorption and ``planes`` (P, C, h, w) transmission are at one resolution;
    pixel (0, 0) of the planes is pixel (origin, origin) of the layer. ``quadrant`` is the PSF's.
    """
    channels, height, width = layer.shape
    out_h, out_w = planes.shape[2], planes.shape[3]
    reach = quadrant.shape[0] - 1
    pairs = np.zeros((reach + 1, width + 2 * reach), np.float32)
    sums = np.zeros(width, np.float32)
    for ty in range(active.shape[0]):
        tx = 0
        while tx < active.shape[1]:
            if not active[ty, tx]:
                tx += 1
                continue
            start = tx
            while tx < active.shape[1] and active[ty, tx]:
                tx += 1
            x0, x1 = max(start * TILE, origin), min(tx * TILE, origin + out_w)
            y0, y1 = max(ty * TILE, origin), min((ty + 1) * TILE, origin + out_h)
            if x1 <= x0:
                continue
            count = x1 - x0
            left, right = max(0, x0 - reach), min(width, x1 + reach)
            shift = left - (x0 - reach)
            for c in range(channels):
                for y in range(y0, y1):
                    for d in range(reach + 1):
                        row = pairs[d]
                        for x in range(count + 2 * reach):
                            row[x] = 0.0
                        inside = row[shift : shift + right - left]
                        if y - d >= 0:
                            above = layer[c, y - d, left:right]
                            for x in range(right - left):
                                inside[x] += above[x]
                        if d > 0 and y + d < height:
                            below = layer[c, y + d, left:right]
                            for x in range(right - left):
                                inside[x] += below[x]
                    acc = sums[:count]
                    for x in range(count):
                        acc[x] = 0.0
                    for d in range(reach + 1):
                        middle = pairs[d]
                        weight = quadrant[d, 0]
                        if weight > 0.0:
                            here = middle[reach : reach + count]
                            for x in range(count):
                                acc[x] += weight * here[x]
                        for e in range(1, reach + 1):
                            weight = quadrant[d, e]
                            if weight > 0.0:
                                west = middle[reach - e : reach - e + count]
                                east = middle[reach + e : reach + e + count]
                                for x in range(count):
                                    acc[x] += weight * (west[x] + east[x])
                    for p in chosen:
                        target = planes[p, c, y - origin, x0 - origin : x1 - origin]
                        for x in range(count):
                            target[x] *= np.float32(1.0) - acc[x]


@kernel
def enlarge_multiply(coarse: Floats, fine: Floats, margin: int) -> None:
    """Multiply ``fine`` (C, Y, X) by ``coarse`` enlarged twice, linearly.

    Pixel (margin, margin) of ``coarse`` covers pixels 0 and 1 of ``fine``; ``margin`` >= 1.
    """
    channels, height, width = fine.shape
    row = np.empty(coarse.shape[2], np.float32)
    for c in range(channels):
        for y in range(height):
            near = coarse[c, margin + y // 2]
            far = coarse[c, margin + y // 2 + (1 if y % 2 else -1)]
            for x in range(coarse.shape[2]):
                row[x] = np.float32(0.1875) * near[x] + np.float32(0.0625) * far[x]
            line = fine[c, y]
            for x in range(width // 2):
                k = margin + x
                line[2 * x] *= np.float32(3.0) * row[k] + row[k - 1]
                line[2 * x + 1] *= np.float32(3.0) * row[k] + row[k + 1]
