"""The ``Fuser`` protocol: what a plugin has to provide, and nothing else.

A fuser is a small immutable object that turns a focus stack (Z, C, Y, X) into one image
(C, Y, X). It inherits from nothing here. A frozen dataclass of its options is the easiest way to
write one::

    @dataclass(frozen=True)
    class Middle:
        "Takes the middle plane."
        name = "middle"
        planes = PlaneRange(1)
        footprint = Footprint()
        device = "cpu"

        def working_bytes(self, planes, channels, height, width):
            return 0

        def __call__(self, stack):
            return Fused(stack[len(stack) // 2])

The law that makes slides cuttable: *an output pixel depends only on the input within*
``footprint.halo`` *of it, on its position modulo* ``footprint.period``, *and on the fuser's own
fields.* ``slidefusion.testing.FuserContract`` proves it for any fuser.
"""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

from slidefusion.errors import OptionError
from slidefusion.geometry import Size, Window, as_whole

__all__ = [
    "CutPlanes",
    "Footprint",
    "Fused",
    "Fuser",
    "Overview",
    "PlaneByPlane",
    "PlaneRange",
    "Planes",
    "PreparingFuser",
    "as_cut",
    "option",
]


def _whole(owner: Any, name: str, least: int) -> bool:
    """Whether the field is a whole number from ``least`` on, NumPy's too, which becomes an int."""
    value = as_whole(getattr(owner, name))
    if value is None:
        return False
    object.__setattr__(owner, name, value)
    return value >= least


@dataclass(frozen=True)
class Footprint:
    """What a fuser declares so that a slide can be cut exactly.

    >>> Footprint(halo=160, period=32).aligned_halo
    160
    """

    halo: int = 0
    """Reach in pixels on each side: input further away does not influence an output pixel."""
    period: int = 1
    """Side in pixels of the decomposition grid. Windows start and end on multiples of it."""
    tolerance: float = 0.0
    """Largest difference between cut and whole as a fraction of the range of the dtype
    (of 1.0 for float); 0 means bit-exact."""

    def __post_init__(self) -> None:
        pixels = _whole(self, "halo", 0) and _whole(self, "period", 1)
        number = isinstance(self.tolerance, numbers.Real)
        if not pixels or not number or not 0 <= self.tolerance < 1:
            raise OptionError(
                f"footprint halo={self.halo!r}, period={self.period!r}, "
                f"tolerance={self.tolerance!r}: halo must be >= 0 and period >= 1, in whole "
                "pixels, and 0 <= tolerance < 1"
            )

    @property
    def aligned_halo(self) -> int:
        """The halo rounded up to the period, in pixels."""
        return -(-self.halo // self.period) * self.period


@dataclass(frozen=True)
class PlaneRange:
    """How many planes a fuser takes.

    >>> 1 in PlaneRange(2), 11 in PlaneRange(2), 4 in PlaneRange(1, 3)
    (False, True, False)
    """

    min: int = 1
    """Fewest planes."""
    max: int | None = None
    """Most planes, or None for no limit."""

    def __post_init__(self) -> None:
        most = self.max is None or _whole(self, "max", 1)
        if not _whole(self, "min", 1) or not most or (self.max or self.min) < self.min:
            raise OptionError(
                f"a fuser that takes {self.min!r} to {self.max!r} planes: give whole numbers from "
                "1 on, the smaller first, and None for no limit"
            )

    def __contains__(self, count: object) -> bool:
        return (
            isinstance(count, int) and self.min <= count and (self.max is None or count <= self.max)
        )

    def __str__(self) -> str:
        if self.max is None:
            return f"{self.min} or more"
        return str(self.min) if self.min == self.max else f"{self.min} to {self.max}"


class Planes(Protocol):
    """The stack as a fuser sees it: (Z, C, Y, X), read plane by plane.

    A NumPy array is one. The engine hands over an object that reads a plane from the store when it
    is indexed, so a fuser that takes the planes in turn needs memory for one plane only. A fuser
    that wants all of them at once calls ``np.asarray(stack)``. Planes must not be written to.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """(Z, C, Y, X)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8, uint16 or float32."""

    def __len__(self) -> int: ...

    def __getitem__(self, z: int, /) -> npt.NDArray[Any]:
        """Plane ``z`` as an array (C, Y, X)."""

    def __iter__(self) -> Iterator[npt.NDArray[Any]]: ...

    def __array__(self, dtype: Any = None, /, *, copy: bool | None = None) -> npt.NDArray[Any]:
        """All planes (Z, C, Y, X) in memory."""


class PlaneByPlane:
    """Makes :class:`Planes` of a class that has ``shape``, ``dtype`` and ``__getitem__``."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, z: int, /) -> npt.NDArray[Any]:
        raise NotImplementedError

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        return (self[z] for z in range(len(self)))

    def __array__(self, dtype: Any = None, /, *, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.stack(list(self)).astype(dtype or self.dtype, copy=False)


@runtime_checkable
class CutPlanes(Protocol):
    """What the engine's stack tells beyond :class:`Planes`, for fusers to which a pixel is dear.

    The engine keeps of a result only the region, and the halo around it may be the larger part of
    the window. A fuser may ask which part is kept, read and compute only what that part needs, and
    leave anything in the rest. ``as_cut(stack)`` gives this for every stack.
    """

    @property
    def core(self) -> Window:
        """The part of the window that is kept; elsewhere the result is not looked at."""

    @property
    def on_slide(self) -> Size:
        """Height and width of the part of the window, from its top left, that lies on the slide;
        below and right of it the slide's edge is repeated."""

    def crop(self, part: Window, /) -> Planes:
        """The same planes in a ``part`` of the window; only that is read."""


@dataclass(frozen=True, eq=False)
class _Whole:
    """An array, or whatever else is a stack, as ``CutPlanes``: all of it is kept."""

    stack: Planes

    @property
    def on_slide(self) -> Size:
        return Size(*self.stack.shape[2:])

    @property
    def core(self) -> Window:
        return Window(0, 0, *self.on_slide)

    def crop(self, part: Window, /) -> Planes:
        return _Cropped(self.stack, part)


class _Cropped(PlaneByPlane):
    """A part of a stack that is there anyway."""

    def __init__(self, stack: Planes, part: Window) -> None:
        self._stack, self._part = stack, part
        self.shape = (*stack.shape[:2], part.height, part.width)
        self.dtype = stack.dtype

    def __getitem__(self, z: int, /) -> npt.NDArray[Any]:
        plane: npt.NDArray[Any] = self._stack[z][(slice(None), *self._part.slices)]
        # A copy lets go of a plane that was read for this alone.
        return plane if isinstance(self._stack, np.ndarray) else plane.copy()


def as_cut(stack: Planes) -> CutPlanes:
    """What ``stack`` tells of the cutting; of an array everything is kept, and on the slide.

    >>> as_cut(np.zeros((2, 3, 8, 9), np.uint8)).core
    Window(y=0, x=0, height=8, width=9)
    """
    return stack if isinstance(stack, CutPlanes) else _Whole(stack)


@dataclass(frozen=True)
class Fused:
    """What a fuser returns."""

    image: npt.NDArray[Any]
    """(C, Y, X), the dtype of the input, untrimmed."""
    depth: npt.NDArray[np.integer[Any]] | None = None
    """(Y, X) index of the plane that each pixel was taken from (0-based, in the order of the
    planes given), or None when the fuser knows none."""
    confidence: npt.NDArray[np.uint8] | None = None
    """(Y, X) how sure the depth is, 0 to 255 (certain), or None when the fuser cannot say. For a
    weighted mean of planes: the share of the plane that ``depth`` names."""
    maps: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    """Further images to be written beside the slide, by name: (Y, X), or (Z, Y, X) with one for
    each plane given; uint8, uint16 or float32. Every call gives the same ones: a fuser that can do
    without them makes them an option. A name is a word of small letters, digits and ``_``."""


class Overview(Protocol):
    """What ``prepare`` may look at: the slide as a whole, whatever its size.

    It is made from the slide alone, never from the cutting, so what a fuser learns from it is the
    same for every chunking. Pixels are read when they are asked for.
    """

    @property
    def thumbnail(self) -> npt.NDArray[Any]:
        """(Z, C, h, w): the whole slide, subsampled to at most about 1024 px a side."""

    @property
    def patches(self) -> npt.NDArray[Any]:
        """(N, Z, C, p, p): patches at full resolution, on an even grid over the slide."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8, uint16 or float32; to be asked before anything is read."""

    @property
    def downsample(self) -> float:
        """Level-0 pixels a thumbnail pixel."""

    @property
    def pixel_size_um(self) -> tuple[float, float] | None:
        """(y, x) µm a level-0 pixel, or None when unknown."""

    @property
    def z_um(self) -> tuple[float, ...] | None:
        """Position of each plane in µm, or None when unknown."""


@runtime_checkable
class Fuser(Protocol):
    """Turns a focus stack (Z, C, Y, X) into one image (C, Y, X).

    Instances are immutable, small and picklable; weights and compiled kernels load lazily, once a
    process. A fuser that has to know something of the whole slide (a noise level, say) also has
    ``prepare(overview) -> Self``; see :class:`PreparingFuser`.
    """

    @property
    def name(self) -> str:
        """The name it is registered under."""

    @property
    def planes(self) -> PlaneRange:
        """How many planes it takes."""

    @property
    def footprint(self) -> Footprint:
        """Halo, period and tolerance."""

    @property
    def device(self) -> str:
        """``"cpu"``, ``"cuda"`` …: where it computes, and so which workers can run it."""

    def working_bytes(self, planes: int, channels: int, height: int, width: int) -> int:
        """Upper bound of the memory in bytes that one call allocates, the result included and
        the input excluded, for a window of ``planes`` x ``channels`` x ``height`` x ``width`` px
        of any supported dtype."""

    def __call__(self, stack: Planes, /) -> Fused:
        """Fuse ``stack`` (Z, C, Y, X) of uint8, uint16 or float32 values, finite and
        not beyond 1e15."""


@runtime_checkable
class PreparingFuser(Protocol):
    """A fuser that wants to see the whole slide once, before anything is cut."""

    def prepare(self, overview: Overview) -> Self:
        """Return a copy of this fuser with what it learned of the slide frozen in."""


def option(
    default: Any,
    help: str,
    *,
    choices: Sequence[Any] | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
) -> Any:
    """A dataclass field for a fuser's option: default, meaning and allowed values.

    ``slidefusion fusers NAME`` prints these, and :func:`slidefusion.get_fuser` checks given values
    against them before any work is done.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Example:
    ...     levels: int = option(5, "pyramid levels", minimum=1, maximum=10)
    >>> Example().levels
    5
    """
    metadata = {"help": help, "choices": choices, "minimum": minimum, "maximum": maximum}
    return dataclasses.field(default=default, metadata={"slidefusion": metadata})
