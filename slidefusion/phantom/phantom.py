"""The phantom slide: a focus stack of any size with exact truth, rendered where it is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from slidefusion.errors import OptionError
from slidefusion.geometry import Size, Window
from slidefusion.phantom.cache import Cache
from slidefusion.phantom.render import BLOCK, PhantomRegion, render_block
from slidefusion.phantom.settings import PhantomSettings
from slidefusion.phantom.structures import Sheet, Structure
from slidefusion.stack_shape import MAX_SIDE_PX

__all__ = ["PHANTOM_VERSION", "Phantom"]

PHANTOM_VERSION = 1
"""Raised whenever the same seed and settings give other pixels."""

_Slices = tuple[slice, slice]

# Blocks and sheets are shared by all phantoms of a process; the keys name settings and seed.
_SHEETS = Cache(128 * 2**20)
_BLOCKS = Cache(192 * 2**20)


class Phantom:
    """A synthetic cervical smear (Pap) as a focus stack, with its all-in-focus truth and depth.

    A pixel depends only on settings, seed and position: any window can be rendered alone, in any
    order and in parallel, with identical bytes.

    Parameters: ``height`` and ``width`` in px; ``planes``, of which the middle one is the
    reference; ``z_step_um`` between them (None: that of ``settings``); ``seed`` of the specimen;
    ``settings``. Raises :class:`OptionError` for values out of range.

    >>> phantom = Phantom(2000, 3000, planes=5, seed=7)
    >>> phantom.shape, phantom.z_um
    ((3, 5, 2000, 3000), (-5.4, -2.7, 0.0, 2.7, 5.4))
    """

    name = "phantom"
    dtype = np.dtype(np.uint8)
    tile = Size(BLOCK, BLOCK)

    def __init__(
        self,
        height: int,
        width: int,
        *,
        planes: int = 11,
        z_step_um: float | None = None,
        seed: int = 0,
        settings: PhantomSettings | None = None,
    ) -> None:
        for label, value, low, high in (
            ("height", height, 1, MAX_SIDE_PX),
            ("width", width, 1, MAX_SIDE_PX),
            ("planes", planes, 1, 101),
            ("seed", seed, 0, 2**63 - 1),
        ):
            whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
            if not whole or not low <= value <= high:
                raise OptionError(f"{label}={value!r}: must be a whole number from {low} to {high}")
        settings = settings if settings is not None else PhantomSettings()
        if not isinstance(settings, PhantomSettings):
            raise OptionError(f"settings={settings!r}: must be a PhantomSettings")
        if z_step_um is not None:
            settings = PhantomSettings.from_dict({**settings.to_dict(), "z_step_um": z_step_um})
        self.height, self.width, self.planes = int(height), int(width), int(planes)
        self.seed, self.settings = int(seed), settings

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(C, Z, Y, X)."""
        return (len(self.channel_names), self.planes, self.height, self.width)

    @property
    def pixel_size_um(self) -> tuple[float, float]:
        """(y, x) um a pixel."""
        return (self.settings.mpp_um, self.settings.mpp_um)

    @property
    def reference(self) -> int:
        """Index of the plane with offset 0: the middle one."""
        return self.planes // 2

    @property
    def z_um(self) -> tuple[float, ...]:
        """Offset of each plane from the reference plane in um."""
        step = self.settings.z_step_um
        return tuple(round((z - self.reference) * step, 9) for z in range(self.planes))

    @property
    def channel_names(self) -> tuple[str, ...]:
        """``("red", "green", "blue")`` or ``("gray",)``."""
        return ("gray",) if self.settings.gray else ("red", "green", "blue")

    @property
    def is_rgb(self) -> bool:
        """Whether the channels are red, green and blue."""
        return not self.settings.gray

    @property
    def provenance(self) -> dict[str, Any]:
        """What makes this phantom again, JSON-able."""
        return {
            "phantom_version": PHANTOM_VERSION,
            "height": self.height,
            "width": self.width,
            "planes": self.planes,
            "seed": self.seed,
            "settings": self.settings.to_dict(),
        }

    def __repr__(self) -> str:
        return f"Phantom({self.height}, {self.width}, planes={self.planes}, seed={self.seed})"

    def render(self, window: Window) -> PhantomRegion:
        """Everything about ``window``: stack, truth, depth and mask, from one rendering.

        Raises :class:`OptionError` when the window is empty or leaves the slide.
        """
        window = self._checked(window)
        channels, planes = self.shape[:2]
        size = (window.height, window.width)
        region = PhantomRegion(
            np.empty((planes, channels, *size), np.uint8),
            np.empty((channels, *size), np.uint8),
            np.empty(size, np.float32),
            np.empty(size, np.bool_),
        )
        for block, inside, outside in self._blocks(window):
            arrays: Iterator[tuple[Any, Any]] = zip(block, region, strict=True)
            for source, target in arrays:
                target[..., *outside] = source[..., *inside]
        return region

    def read(self, z: int, window: Window) -> npt.NDArray[np.uint8]:
        """Plane ``z`` of ``window``, (C, h, w)."""
        if not -self.planes <= z < self.planes:
            raise OptionError(f"plane {z}: must be from 0 to {self.planes - 1}")
        window = self._checked(window)
        result = np.empty((self.shape[0], window.height, window.width), np.uint8)
        for block, inside, outside in self._blocks(window):
            result[:, *outside] = block.stack[z][:, *inside]
        return result

    def close(self) -> None:
        """Nothing to close: a phantom holds no file."""

    def stack(self, window: Window) -> npt.NDArray[np.uint8]:
        """All planes of ``window``, (Z, C, h, w)."""
        return self.render(window).stack

    def truth(self, window: Window) -> npt.NDArray[np.uint8]:
        """``window`` with everything in focus, without noise, (C, h, w)."""
        return self.render(window).truth

    def depth(self, window: Window) -> npt.NDArray[np.float32]:
        """Depth in um of the densest structure at each pixel, NaN on clear glass, (h, w)."""
        return self.render(window).depth_um

    def cell_mask(self, window: Window) -> npt.NDArray[np.bool_]:
        """Whether there is any material at each pixel, (h, w)."""
        return self.render(window).cell_mask

    def _checked(self, window: Window) -> Window:
        whole = Window(0, 0, self.height, self.width)
        window = Window(*window)
        if window.height < 1 or window.width < 1 or not whole.contains(window):
            raise OptionError(f"{window}: must be at least 1 px and inside {whole}")
        return window

    def _blocks(self, window: Window) -> Iterator[tuple[PhantomRegion, _Slices, _Slices]]:
        """Blocks under ``window``, each with the common part in the block and in the window."""
        for row in range(window.y // BLOCK, -(-window.bottom // BLOCK)):
            for column in range(window.x // BLOCK, -(-window.right // BLOCK)):
                block = Window(row * BLOCK, column * BLOCK, BLOCK, BLOCK)
                y, x = max(window.y, block.y), max(window.x, block.x)
                height = min(window.bottom, block.bottom) - y
                width = min(window.right, block.right) - x
                common = Window(y, x, height, width)
                inside, outside = common.relative_to(block), common.relative_to(window)
                yield self._block(row, column), inside.slices, outside.slices

    def _block(self, row: int, column: int) -> PhantomRegion:
        key = (self.settings, self.seed, self.planes, row, column)

        def make() -> tuple[PhantomRegion, int]:
            region = render_block(self.settings, self.seed, self.planes, row, column, self._sheets)
            for array in region:
                array.setflags(write=False)
            return region, sum(array.nbytes for array in region)

        return _BLOCKS.get(key, make)

    def _sheets(self, item: Structure) -> list[Sheet]:
        from slidefusion.phantom.drawing import draw

        def make() -> tuple[list[Sheet], int]:
            sheets = draw(item, self.settings)
            return sheets, 400 + sum(s.amount.nbytes + s.depth.nbytes for s in sheets)

        return _SHEETS.get((self.settings, item.key), make)
