"""Render one block of the slide: structures -> layers -> blurred planes -> bytes.

Blocks lie on one fixed grid, so a pixel never depends on the window it was asked through.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from slidefusion.phantom.camera import CAMERA_MARGIN, expose, illumination
from slidefusion.phantom.psf import Kernel, kernel
from slidefusion.phantom.scene import structures_near
from slidefusion.phantom.settings import PhantomSettings
from slidefusion.phantom.structures import Sheet, Structure

__all__ = ["BLOCK", "Layers", "PhantomRegion", "margin_px", "plan_layers", "render_block"]

BLOCK = 512
"""Side of a block in px: a multiple of 8 (JPEG cells) and of twice the coarsest reduction."""
_MATERIAL_OD = 0.015
"""Optical density above which a pixel counts as material."""
_COARSEST = 3
_PAD = 2  # px kept around a reduced plane so that enlarging it needs nothing from outside

Floats = npt.NDArray[np.float32]


class PhantomRegion(NamedTuple):
    """What a phantom knows about a window."""

    stack: npt.NDArray[np.uint8]
    """(Z, C, Y, X) the planes, with noise."""
    truth: npt.NDArray[np.uint8]
    """(C, Y, X) everything in focus, same light, no noise."""
    depth_um: Floats
    """(Y, X) depth of the densest structure in um, NaN where there is none."""
    cell_mask: npt.NDArray[np.bool_]
    """(Y, X) whether there is any material."""


class Layers(NamedTuple):
    """The grid of depths that structures are sorted into."""

    per_um: float
    """Layers a um."""
    per_step: int
    """Layers a z step, so that each plane lies on one."""


def plan_layers(settings: PhantomSettings) -> Layers:
    """Layers at most 1.4 um, or 1.2 times the depth of field, apart; planes lie on layers."""
    depth_of_field = settings.wavelength_um * settings.refractive_index / settings.na**2
    wanted = max(1.4, 1.2 * depth_of_field)
    per_step = max(1, math.ceil(settings.z_step_um / wanted))
    return Layers(per_step / settings.z_step_um, per_step)


def _level_of(settings: PhantomSettings, layers: Layers, difference: int) -> Kernel:
    return kernel(settings, round(difference / layers.per_um, 9))


def margin_px(settings: PhantomSettings, planes: Sequence[float], deepest_um: float) -> int:
    """How far in px around a block structures matter, a multiple of 32."""
    far = deepest_um + max(abs(z) for z in planes) + 1.0 / plan_layers(settings).per_um
    widest = kernel(settings, round(far, 9))
    scale = 2**widest.level
    reach = (widest.reach + _PAD + 4) * scale + CAMERA_MARGIN + 2**_COARSEST
    return -(-reach // 32) * 32


def render_block(
    settings: PhantomSettings,
    seed: int,
    planes: int,
    row: int,
    column: int,
    sheets_of: Callable[[Structure], list[Sheet]],
) -> PhantomRegion:
    """Render the block in ``row``, ``column`` of the grid of :data:`BLOCK` px."""
    from slidefusion.phantom import compose

    layers = plan_layers(settings)
    reference = planes // 2
    offsets = [(z - reference) * settings.z_step_um for z in range(planes)]
    margin = margin_px(settings, offsets, settings.depth_um + 6.0)
    y0, x0 = row * BLOCK, column * BLOCK
    side = BLOCK + 2 * margin
    mpp = settings.mpp_um
    around = [
        (y0 - margin) * mpp,
        (x0 - margin) * mpp,
        (y0 + BLOCK + margin) * mpp,
        (x0 + BLOCK + margin) * mpp,
    ]
    sheets: list[Sheet] = []
    for item in structures_near(seed, settings, *around):
        for sheet in sheets_of(item):
            top, left = sheet.y - (y0 - margin), sheet.x - (x0 - margin)
            rows, columns = sheet.amount.shape
            if top < side and left < side and top + rows > 0 and left + columns > 0:
                sheets.append(sheet._replace(y=top, x=left))

    channels = 1 if settings.gray else 3
    view = BLOCK + 2 * CAMERA_MARGIN
    # Plane accumulators: full resolution, and each reduction with a border for enlarging.
    shapes = [view] + [view // 2**n + 2 * _PAD for n in range(1, _COARSEST + 1)]
    stacks = [np.ones((planes, channels, s, s), np.float32) for s in shapes]
    origins = [margin - CAMERA_MARGIN] + [
        (margin - CAMERA_MARGIN) // 2**n - _PAD for n in range(1, _COARSEST + 1)
    ]
    reduced = [np.zeros((channels, side >> n, side >> n), np.float32) for n in range(_COARSEST + 1)]
    tiles = [-(-(side >> n) // compose.TILE) for n in range(_COARSEST + 1)]
    for level, members in _by_layer(sheets, layers):
        reduced[0][:] = 0
        dirty = np.zeros((tiles[0], tiles[0]), np.bool_)
        for s in members:
            compose.add_sheet(
                reduced[0],
                dirty,
                s.y,
                s.x,
                s.amount,
                s.depth,
                s.colour,
                np.float32(level),
                np.float32(layers.per_um),
            )
        if not dirty.any():
            continue
        compose.to_absorption(reduced[0], dirty)
        for n in range(_COARSEST):
            compose.halve(reduced[n], reduced[n + 1])
        distances: dict[int, list[int]] = {}
        for z in range(planes):
            distances.setdefault(abs(level - (z - reference) * layers.per_step), []).append(z)
        for difference, chosen in sorted(distances.items()):
            psf = _level_of(settings, layers, difference)
            n = psf.level
            active = compose.active_tiles(dirty, n, psf.reach, tiles[n], tiles[n])
            compose.blur_multiply(
                reduced[n], active, psf.quadrant, origins[n], stacks[n], np.array(chosen)
            )

    light = illumination(settings, y0, x0, BLOCK, BLOCK)
    stack = np.empty((planes, channels, BLOCK, BLOCK), np.uint8)
    for z in range(planes):
        for n in range(_COARSEST, 1, -1):
            # A reduced plane keeps a border of _PAD px; the next finer one is 2 * _PAD px wider.
            finer = stacks[n - 1][z]
            compose.enlarge_multiply(stacks[n][z], finer, _PAD // 2)
        compose.enlarge_multiply(stacks[1][z], stacks[0][z], _PAD)
        key = (seed * 1000003 + z * 7919 + 1) % 2**63 + 1
        stack[z] = expose(stacks[0][z], light, settings, key, y0, x0)

    truth, depth_um, mask = _truth(settings, sheets, layers, margin, side, light, channels)
    return PhantomRegion(stack, truth, depth_um, mask)


def _by_layer(sheets: list[Sheet], layers: Layers) -> list[tuple[int, list[Sheet]]]:
    """Layers that hold something, with their sheets."""
    found: dict[int, list[Sheet]] = {}
    for sheet in sheets:
        low = math.floor(sheet.bottom_um * layers.per_um)
        high = math.ceil(sheet.top_um * layers.per_um)
        for level in range(low, high + 1):
            found.setdefault(level, []).append(sheet)
    return sorted(found.items())


def _truth(settings, sheets, layers, margin, side, light, channels):  # type: ignore[no-untyped-def]
    """Everything in focus: optical densities of all sheets added, then the in-focus PSF."""
    from slidefusion.phantom import compose

    border = CAMERA_MARGIN + 8
    view = BLOCK + 2 * border
    total = np.zeros((channels, view, view), np.float32)
    salience = np.full((view, view), 0.005, np.float32)
    depth = np.full((view, view), np.nan, np.float32)
    for s in sheets:
        y, x = s.y - margin + border, s.x - margin + border
        compose.add_total(total, salience, depth, y, x, s.amount, s.depth, s.colour)
    inner = slice(border, border + BLOCK)
    mask = total[:, inner, inner].max(axis=0) > _MATERIAL_OD
    tiles = -(-view // compose.TILE)
    everywhere = np.ones((tiles, tiles), np.bool_)
    compose.to_absorption(total, everywhere)
    sharp = np.ones((1, channels, BLOCK + 2 * CAMERA_MARGIN, BLOCK + 2 * CAMERA_MARGIN), np.float32)
    psf = kernel(settings, 0.0)
    compose.blur_multiply(total, everywhere, psf.quadrant, 8, sharp, np.array([0]))
    truth = expose(sharp[0], light, settings, 0, 0, 0)
    return truth, depth[inner, inner].copy(), mask
