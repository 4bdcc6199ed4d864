"""What a fuser's ``prepare`` gets to see of the whole slide, independent of how it is cut."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, product
from typing import Any

import numpy as np
import numpy.typing as npt

from slidefusion.engine import PlaneSource, read_plane
from slidefusion.geometry import Window
from slidefusion.stack import FocusStack
from slidefusion.tasks.outcomes import Outcome
from slidefusion.tasks.pools import Key
from slidefusion.tasks.scheduling import run_tasks

__all__ = ["MemoryOverview", "SlideOverview", "read_parts"]

_THUMBNAIL_PX = 1024
_PATCH_PX = 128
_PATCH_GRID = 5
_READERS = 8
_QUICK_S = 1e-3
"""In which a patch of one plane is read from a store that is not waited for."""


@dataclass(frozen=True)
class MemoryOverview:
    """An :class:`~slidefusion.fuser.Overview` of arrays that are there already."""

    thumbnail: npt.NDArray[Any]
    patches: npt.NDArray[Any]
    downsample: float = 1.0
    pixel_size_um: tuple[float, float] | None = None
    z_um: tuple[float, ...] | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the patches."""
        return self.patches.dtype


class SlideOverview:
    """An :class:`~slidefusion.fuser.Overview` of some planes of a stack, read when asked for.

    The thumbnail comes from the coarsest pyramid level that is large enough, or is subsampled from
    level 0, strip by strip, when there is no pyramid. What fails for a reason that may pass is read
    again as regions are, ``retries`` times each. Reading raises ``ProcessingError`` when the store
    cannot be read.
    """

    def __init__(self, stack: FocusStack, planes: Sequence[int], retries: int = 3) -> None:
        assert stack.source is not None, "a Dask array is wrapped as a source before"
        self._source, self._planes, self._retries = stack.source, tuple(planes), retries
        self._levels = stack.levels or (stack.source,)
        self.pixel_size_um = stack.pixel_size_um
        self.z_um = None if stack.z_um is None else tuple(stack.z_um[z] for z in planes)

    @functools.cached_property
    def thumbnail(self) -> npt.NDArray[Any]:
        """(Z, C, h, w)."""
        return _subsample(_thumbnail_level(self._levels), self._planes, self._retries)

    @functools.cached_property
    def patches(self) -> npt.NDArray[Any]:
        """(N, Z, C, p, p)."""
        return _patches(self._source, self._planes, self._retries)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the stack."""
        return self._source.dtype

    @property
    def downsample(self) -> float:
        """Level-0 pixels a thumbnail pixel."""
        height, width = self._source.shape[2:]
        rows, columns = self.thumbnail.shape[2:]
        return float(max(height / rows, width / columns))


def _thumbnail_level(levels: Sequence[PlaneSource]) -> PlaneSource:
    """The coarsest level that is larger than half a thumbnail; level 0 if none is."""
    large = [level for level in levels if max(level.shape[2:]) > _THUMBNAIL_PX // 2]
    return large[-1] if large else levels[0]


def _subsample(source: PlaneSource, planes: Sequence[int], retries: int) -> npt.NDArray[Any]:
    _, _, height, width = source.shape
    step = max(1, -(-max(height, width) // _THUMBNAIL_PX))
    strip = max(1, 256 // step) * step
    windows = [Window(y, 0, min(strip, height - y), width) for y in range(0, height, strip)]
    found, _ = read_parts(
        source, [(z, *window) for z in planes for window in windows], retries, step
    )
    return np.stack(
        [np.concatenate([found[(z, *window)] for window in windows], axis=1) for z in planes]
    )


def _patches(source: PlaneSource, planes: Sequence[int], retries: int) -> npt.NDArray[Any]:
    _, _, height, width = source.shape
    side_y, side_x = min(_PATCH_PX, height), min(_PATCH_PX, width)

    def window(row: int, column: int) -> Window:
        y, x = (
            (length - side) * (2 * step + 1) // (2 * _PATCH_GRID)
            for length, side, step in ((height, side_y, row), (width, side_x, column))
        )
        # On multiples of the side a patch lies in one chunk, and decodes no others.
        return Window(y - y % side_y, x - x % side_x, side_y, side_x)

    windows = [window(row, column) for row, column in product(range(_PATCH_GRID), repeat=2)]
    first, *rest = ([(z, *at) for z in planes] for at in dict.fromkeys(windows))
    found, seconds = read_parts(source, first, retries)
    # More threads than processors where a store is waited for; where it is not, they only compete.
    readers = _READERS if seconds > _QUICK_S * len(planes) else 1
    found |= read_parts(source, list(chain(*rest)), retries, threads=readers)[0]
    return np.stack([np.stack([found[(z, *at)] for z in planes]) for at in windows])


def read_parts(
    source: PlaneSource, parts: Sequence[Key], retries: int, step: int = 1, threads: int = 1
) -> tuple[dict[Key, npt.NDArray[Any]], float]:
    """Every ``step``-th pixel (C, h, w) of these parts, and the seconds that reading took.

    A part is a plane and the four numbers of a window. Each is a task, since a store that fails now
    and then would never give all of them in one go; the first that fails for good ends the rest.
    """
    found: dict[Key, npt.NDArray[Any]] = {}
    seconds = 0.0

    def note(part: Key, outcome: Outcome) -> None:
        nonlocal seconds
        if outcome.verdict == "done":
            found[part] = outcome.value
            seconds += outcome.seconds

    run_tasks(
        _read_part,
        (source, step),
        parts,
        client=None,
        name="overview",
        retries=retries,
        threads=threads,
        give_up_after=1,
        describe=_described,
        on_outcome=note,
    )
    return found, seconds


def _read_part(
    job: tuple[PlaneSource, int], z: int, y: int, x: int, height: int, width: int
) -> npt.NDArray[Any]:
    source, step = job
    pixels = read_plane(source, z, Window(y, x, height, width))
    # A copy, since a view would keep all of the strip until the last one is there.
    return np.ascontiguousarray(pixels[:, ::step, ::step])


def _described(part: Key) -> str:
    z, *numbers = part
    at = Window(*numbers)
    return f"looking at the slide, plane {z}, y {at.y}-{at.bottom}, x {at.x}-{at.right}"
