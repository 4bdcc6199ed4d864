"""Render one block of the slide: structures -> layers -> blurred planes -> bytes.

Blocks lie on one fixed grid, so a pixel never depends on the window it was asked through.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from slidefusion.phantom.camera import CAMERA_MARGIN, expose, illumination
from slidefusion.phantom.psf import kernel
from slidefusion.phantom.scene import structures_near
from slidefusion.phantom.settings import PhantomSettings
from slidefusion.phantom.structures import Sheet, Structure, deepest_um

__all__ = [
    "BLOCK",
    "Layers",
    "PhantomRegion",
    "compose_block",
    "margin_px",
    "plan_layers",
    "render_block",
]

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


def margin_px(settings: PhantomSettings, planes: int) -> int:
    """How far in px around a block structures matter, a multiple of 32."""
    farthest = (planes // 2) * settings.z_step_um
    far = deepest_um(settings) + farthest + 1.0 / plan_layers(settings).per_um
    widest = kernel(settings, round(far, 9))
    scale = 2**widest.level
    reach: int = (widest.reach + _PAD + 4) * scale + CAMERA_MARGIN + 2**_COARSEST
    return -(-reach // 32) * 32


def render_block(
    settings: PhantomSettings,
    seed: int,
    planes: int,
    row: int,
    column: int,
    sheets_of: Callable[[Structure], list[Sheet]],
) -> PhantomRegion:
    """Render the block in ``row``, ``column`` of the grid of :data:`BLOCK` px.

    ``sheets_of`` gives the sheets of a structure, drawn now or before.
    """
    y, x = row * BLOCK, column * BLOCK
    margin, mpp = margin_px(settings, planes), settings.mpp_um
    near = structures_near(
        seed,
        settings,
        (y - margin) * mpp,
        (x - margin) * mpp,
        (y + BLOCK + margin) * mpp,
        (x + BLOCK + margin) * mpp,
    )
    sheets = [sheet for item in near for sheet in sheets_of(item)]
    return compose_block(sheets, settings, planes, y, x, seed)


def compose_block(
    sheets: Sequence[Sheet], settings: PhantomSettings, planes: int, y: int, x: int, seed: int
) -> PhantomRegion:
    """The block of :data:`BLOCK` px at (y, x), multiples of 8, of a slide with these ``sheets``.

    ``seed`` is that of the photon noise.
    """
    margin = margin_px(settings, planes)
    side = BLOCK + 2 * margin
    placed = [sheet._replace(y=sheet.y - y + margin, x=sheet.x - x + margin) for sheet in sheets]
    placed = [s for s in placed if _touches(s, side)]
    light = illumination(settings, y, x, BLOCK, BLOCK)
    stack = np.empty((planes, len(light), BLOCK, BLOCK), np.uint8)
    for z, transmission in enumerate(_planes(placed, settings, planes, margin)):
        key = (seed * 1000003 + z * 7919 + 1) % 2**63 + 1
        stack[z] = expose(transmission, light, settings, key, y, x)
    return PhantomRegion(stack, *_truth(placed, settings, margin, light))


def _touches(sheet: Sheet, side: int) -> bool:
    rows, columns = sheet.amount.shape
    return bool(-rows < sheet.y < side and -columns < sheet.x < side)


def _planes(
    sheets: list[Sheet], settings: PhantomSettings, planes: int, margin: int
) -> Iterator[Floats]:
    """Transmission (C, Y, X) of each plane, with a border of CAMERA_MARGIN px."""
    from slidefusion.phantom import compose

    layers = plan_layers(settings)
    channels = 1 if settings.gray else 3
    side, view = BLOCK + 2 * margin, BLOCK + 2 * CAMERA_MARGIN
    resolutions = range(_COARSEST + 1)
    # A plane is the product of four images: full resolution, and each reduction with a border.
    borders = [0] + [_PAD] * _COARSEST
    sizes = [(view >> n) + 2 * borders[n] for n in resolutions]
    images = [np.ones((planes, channels, size, size), np.float32) for size in sizes]
    origins = [((margin - CAMERA_MARGIN) >> n) - borders[n] for n in resolutions]
    reduced = [np.zeros((channels, side >> n, side >> n), np.float32) for n in resolutions]
    tiles = [-(-(side >> n) // compose.TILE) for n in resolutions]
    for level, members in _by_layer(sheets, layers):
        reduced[0][:] = 0
        dirty = np.zeros((tiles[0], tiles[0]), np.bool_)
        at = (np.float32(level), np.float32(layers.per_um))
        for s in members:
            compose.add_sheet(reduced[0], dirty, s.y, s.x, s.amount, s.depth, s.colour, *at)
        if not dirty.any():
            continue
        compose.to_absorption(reduced[0], dirty)
        for n in range(_COARSEST):
            compose.halve(reduced[n], reduced[n + 1])
        # Planes equally far above and below share one blurred image.
        distances: dict[int, list[int]] = {}
        for z in range(planes):
            steps = level - (z - planes // 2) * layers.per_step
            distances.setdefault(abs(steps), []).append(z)
        for steps, chosen in distances.items():
            psf = kernel(settings, round(steps / layers.per_um, 9))
            n = psf.level
            active = compose.active_tiles(dirty, n, psf.reach, tiles[n], tiles[n])
            compose.blur_multiply(
                reduced[n], active, psf.quadrant, origins[n], images[n], np.array(chosen)
            )
    for z in range(planes):
        for n in range(_COARSEST, 0, -1):
            # The finer image of a reduction starts _PAD of its own px before the camera's view.
            compose.enlarge_multiply(images[n][z], images[n - 1][z], _PAD - borders[n - 1] // 2)
        yield images[0][z]


def _by_layer(sheets: list[Sheet], layers: Layers) -> list[tuple[int, list[Sheet]]]:
    """Layers that hold something, with their sheets."""
    found: dict[int, list[Sheet]] = {}
    for sheet in sheets:
        low = math.floor(sheet.bottom_um * layers.per_um)
        high = math.ceil(sheet.top_um * layers.per_um)
        for level in range(low, high + 1):
            found.setdefault(level, []).append(sheet)
    return sorted(found.items())


def _truth(
    sheets: list[Sheet], settings: PhantomSettings, margin: int, light: Floats
) -> tuple[npt.NDArray[np.uint8], Floats, npt.NDArray[np.bool_]]:
    """Truth, depth and mask: optical densities of all sheets added, then the in-focus PSF."""
    from slidefusion.phantom import compose

    border, channels = 2 * CAMERA_MARGIN, light.shape[0]
    view = BLOCK + 2 * border
    total = np.zeros((channels, view, view), np.float32)
    salience = np.full((view, view), _MATERIAL_OD / 3, np.float32)
    depth = np.full((view, view), np.nan, np.float32)
    for s in sheets:
        y, x = s.y - margin + border, s.x - margin + border
        compose.add_total(total, salience, depth, y, x, s.amount, s.depth, s.colour)
    inner = slice(border, border + BLOCK)
    mask = total[:, inner, inner].max(axis=0) > _MATERIAL_OD
    tiles = -(-view // compose.TILE)
    everywhere = np.ones((tiles, tiles), np.bool_)
    compose.to_absorption(total, everywhere)
    sharp = np.ones((1, *total.shape[:1], view - border, view - border), np.float32)
    psf = kernel(settings, 0.0)
    compose.blur_multiply(total, everywhere, psf.quadrant, CAMERA_MARGIN, sharp, np.array([0]))
    truth = expose(sharp[0], light, settings, 0, 0, 0)
    return truth, depth[inner, inner].copy(), mask
