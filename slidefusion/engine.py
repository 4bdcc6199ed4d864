"""One task a region: read its window, fuse, trim; none depends on another.

The engine is handed a fuser object and a source of planes; it knows neither the registry nor any
fuser. The same function serves the lazy array, the written slide, threads and clusters, so the
answer cannot depend on which of them ran it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from slidefusion.errors import PluginError, ProcessingError, SlidefusionError, StackError
from slidefusion.fuser import Fused, Fuser, PlaneByPlane
from slidefusion.geometry import Size, Window
from slidefusion.tiling import Tiling
from slidefusion.value_range import STACK_DTYPES, is_stack_dtype

__all__ = [
    "MOST",
    "ArraySource",
    "PlaneSource",
    "WindowPlanes",
    "fuse_array",
    "fuse_region",
    "read_plane",
]


MOST = 1e15
"""Largest float value of a stack: fusers sum squares of values that they have amplified."""


class PlaneSource(Protocol):
    """Where planes come from: a store, a file reader, a phantom or an array."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(C, Z, Y, X)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8, uint16 or float32."""

    def read(self, z: int, window: Window, /) -> npt.NDArray[Any]:
        """Plane ``z`` inside ``window``: (C, h, w)."""


@dataclass(frozen=True, eq=False)
class ArraySource:
    """A NumPy array (C, Z, Y, X) as a source of planes.

    >>> ArraySource(np.zeros((3, 2, 8, 9), np.uint8)).read(1, Window(0, 0, 4, 5)).shape
    (3, 4, 5)
    """

    array: npt.NDArray[Any]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(C, Z, Y, X)."""
        c, z, y, x = self.array.shape
        return c, z, y, x

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the array."""
        return self.array.dtype

    def read(self, z: int, window: Window, /) -> npt.NDArray[Any]:
        """Plane ``z`` inside ``window``: (C, h, w)."""
        return self.array[(slice(None), z, *window.slices)]


class WindowPlanes(PlaneByPlane):
    """The planes of one window as a fuser sees them, (Z, C, h, w), each read when it is asked for.

    Beyond the slide's bottom and right the edge is repeated (the padding to the period). Arrays
    are read-only and contiguous. ``core`` is the part that is kept of the result (all if None), in
    the window's coordinates; see :class:`slidefusion.fuser.CutPlanes`.

    Raises
    ------
    StackError
        From indexing, when a float plane holds NaN, infinity or values beyond ``MOST``.
    """

    def __init__(
        self,
        source: PlaneSource,
        planes: Sequence[int],
        window: Window,
        core: Window | None = None,
    ) -> None:
        channels, _, height, width = source.shape
        self._source = source
        self._planes = tuple(planes)
        self._window = window
        self.shape = (len(self._planes), channels, window.height, window.width)
        self.dtype = source.dtype
        self.on_slide = Size(
            min(window.height, height - window.y), min(window.width, width - window.x)
        )
        self.core = Window(0, 0, *window.size) if core is None else core

    def crop(self, part: Window, /) -> WindowPlanes:
        """The same planes in a ``part`` of the window that begins on the slide."""
        window = self._window
        moved = Window(window.y + part.y, window.x + part.x, part.height, part.width)
        return WindowPlanes(self._source, self._planes, moved)

    def __getitem__(self, z: int, /) -> npt.NDArray[Any]:
        window = self._window
        inside = Window(window.y, window.x, *self.on_slide)
        plane = read_plane(self._source, self._planes[z], inside)
        if plane.dtype.kind == "f":
            _check_values(plane, f"the plane at index {self._planes[z]} of the stack", inside)
        below, right = window.height - inside.height, window.width - inside.width
        if below or right:
            plane = np.pad(plane, ((0, 0), (0, below), (0, right)), mode="edge")
        plane = np.ascontiguousarray(plane).view()
        plane.flags.writeable = False
        return plane


def read_plane(source: PlaneSource, z: int, window: Window) -> npt.NDArray[Any]:
    """``source.read(z, window)``, whose failure is that of the input and not of who asked for it.

    Raises
    ------
    ProcessingError
        Naming the plane and the window, for whatever is not said more clearly by the source itself.
    """
    try:
        return source.read(z, window)
    except (SlidefusionError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        raise ProcessingError(
            f"cannot read plane {z}, y {window.y}-{window.bottom}, x {window.x}-{window.right} of "
            f"the stack: {type(error).__name__}: {error}"
        ) from error


def _check_values(plane: npt.NDArray[Any], what: str, inside: Window) -> None:
    # Not isfinite, which would make an array; and NaN is not less than anything.
    if plane.min() >= -MOST and plane.max() <= MOST:
        return
    where = f"in the window y={inside.y}, x={inside.x}, {inside.height} x {inside.width} px"
    bad = int(plane.size - np.isfinite(plane).sum())
    if bad:
        raise StackError(
            f"{what} (from 0) holds {bad} values that are NaN or infinite {where}; fusing needs "
            "finite values: replace them first (numpy.nan_to_num, or a fill value)"
        )
    raise StackError(
        f"{what} (from 0) holds values from {plane.min():g} to {plane.max():g} {where}; at most "
        f"{MOST:g} is allowed, since sums of their squares would overflow: scale them down first"
    )


def fuse_region(
    fuser: Fuser, source: PlaneSource, planes: Sequence[int], tiling: Tiling, region: Window
) -> Fused:
    """Fuse one region: the image (C, h, w) and, if the fuser gives them, its maps (…, h, w).

    Raises
    ------
    PluginError
        When the fuser returns another shape or dtype than the protocol says.
    StackError
        When the window holds NaN, infinite or absurdly large values.
    ProcessingError
        When the fuser makes such values, or fails.
    """
    window = tiling.window(region)
    stack = WindowPlanes(source, planes, window, region.relative_to(window))
    try:
        fused = fuser(stack)
    except (SlidefusionError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        # Not as it is: an AttributeError, say, means something else to whoever asked for a value.
        raise ProcessingError(
            f"fuser {fuser.name!r} failed in y {region.y}-{region.bottom}, "
            f"x {region.x}-{region.right}: {type(error).__name__}: {error}"
        ) from error
    _check_result(fuser, fused, stack)
    trim = region.relative_to(window).slices
    image = np.ascontiguousarray(fused.image[(slice(None), *trim)])
    _check_finite(fuser, image, region)
    maps = (fused.depth, fused.confidence)
    depth, confidence = (None if m is None else np.ascontiguousarray(m[trim]) for m in maps)
    further = {name: np.ascontiguousarray(m[(..., *trim)]) for name, m in fused.maps.items()}
    return Fused(image, depth, confidence, further)


def _check_result(fuser: Fuser, fused: Fused, stack: WindowPlanes) -> None:
    if not isinstance(fused, Fused):
        raise PluginError(
            f"fuser {fuser.name!r} returned a {type(fused).__name__}: a fuser returns "
            "slidefusion.fuser.Fused(image), with depth, confidence and maps if it has them"
        )
    optional = {"depth": fused.depth, "confidence": fused.confidence}
    given = {name: found for name, found in optional.items() if found is not None}
    for name, found in (("image", fused.image), *given.items(), *fused.maps.items()):
        if not isinstance(found, np.ndarray):
            raise PluginError(
                f"fuser {fuser.name!r} returned a {type(found).__name__} as its {name}: it must be "
                "a NumPy array"
            )
    expected = stack.shape[1:]
    if fused.image.shape != expected or fused.image.dtype != stack.dtype:
        raise PluginError(
            f"fuser {fuser.name!r} returned an image {fused.image.shape} of {fused.image.dtype} "
            f"for a window {expected} of {stack.dtype}: a fuser must keep shape and dtype"
        )
    if fused.depth is not None:
        most = stack.shape[0] - 1
        _check_labels(fuser, "depth", fused.depth, stack, "integers", most)
    if fused.confidence is not None:
        _check_labels(fuser, "confidence", fused.confidence, stack, "uint8", 255)
    for name, found in fused.maps.items():
        _check_map(fuser, name, found, stack)


def _check_finite(fuser: Fuser, image: npt.NDArray[Any], region: Window) -> None:
    if image.dtype.kind != "f":
        return
    bad = image.size - int(np.isfinite(image).sum())
    if bad:
        raise ProcessingError(
            f"fuser {fuser.name!r} made {bad} values that are NaN or infinite out of finite ones, "
            f"in y {region.y}-{region.bottom}, x {region.x}-{region.right}: it divides by zero "
            "there, say; repair the fuser, or take another"
        )


def _check_labels(
    fuser: Fuser, name: str, found: npt.NDArray[Any], stack: WindowPlanes, kind: str, most: int
) -> None:
    size = stack.shape[2:]
    if found.shape != size:
        raise PluginError(
            f"fuser {fuser.name!r} returned a {name} map {found.shape} for a window of "
            f"{size} px: it must have the window's height and width"
        )
    fits = found.dtype.kind in "iu" if kind == "integers" else found.dtype == kind
    if not fits or found.min() < 0 or found.max() > most:
        raise PluginError(
            f"fuser {fuser.name!r} returned a {name} map of {found.dtype} with values from "
            f"{found.min()} to {found.max()}: it must hold {kind} from 0 to {most}"
        )


_MAP_NAME = re.compile("[a-z][a-z0-9_]*")
_TAKEN = ("labels", "depth", "confidence")


def _check_map(fuser: Fuser, name: str, found: npt.NDArray[Any], stack: WindowPlanes) -> None:
    planes, _, *size = stack.shape
    if not _MAP_NAME.fullmatch(name) or name in _TAKEN:
        raise PluginError(
            f"fuser {fuser.name!r} returned a map named {name!r}: a name is small letters, digits "
            f"and _, and none of {', '.join(_TAKEN)}"
        )
    if not is_stack_dtype(found.dtype) or found.shape not in (tuple(size), (planes, *size)):
        raise PluginError(
            f"fuser {fuser.name!r} returned a map {name!r} {found.shape} of {found.dtype} for "
            f"{planes} planes of {tuple(size)} px: it must be one image of that size or one a "
            f"plane, of {', '.join(STACK_DTYPES)}"
        )


def fuse_array(fuser: Fuser, array: npt.NDArray[Any], region_px: int | None = None) -> Fused:
    """Fuse a NumPy array (C, Z, Y, X) region by region in this thread, as a cluster would.

    ``region_px=None`` fuses it in one piece. It is the reference that every other way of running
    must equal, and what ``FuserContract`` compares with.

    >>> from slidefusion.fusers.lpp import Lpp
    >>> fuse_array(Lpp(), np.zeros((3, 2, 40, 50), np.uint8), region_px=16).image.shape
    (3, 40, 50)
    """
    channels, count, height, width = array.shape
    source = ArraySource(array)
    tiling = Tiling(Size(height, width), region_px or max(height, width), fuser.footprint)
    image = np.empty((channels, height, width), array.dtype)
    maps: dict[str, npt.NDArray[Any]] = {}
    further: dict[str, npt.NDArray[Any]] = {}
    for row, column in tiling.regions():
        region = tiling.region(row, column)
        part = fuse_region(fuser, source, range(count), tiling, region)
        image[(slice(None), *region.slices)] = part.image
        for name in ("depth", "confidence"):
            found = getattr(part, name)
            if found is not None:
                whole = maps.setdefault(name, np.empty((height, width), found.dtype))
                whole[region.slices] = found
        for name, found in part.maps.items():
            shape = (*found.shape[:-2], height, width)
            whole = further.setdefault(name, np.empty(shape, found.dtype))
            whole[(..., *region.slices)] = found
    return Fused(image, **maps, maps=further)
