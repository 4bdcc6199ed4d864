"""What a stack that is converted is in the world: said by its source, or by options that win."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from slidefusion.errors import OptionError, ReaderError, StackError
from slidefusion.geometry import as_whole
from slidefusion.readers.base import Reader

__all__ = ["StackFacts", "name_of"]


@dataclass(frozen=True)
class StackFacts:
    """The stack in the world, with the options taken into account."""

    pixel_size_um: tuple[float, float]
    z_um: tuple[float, ...] | None
    """None only for a single plane without a position."""
    reference: int
    origin_um: tuple[float, float]
    """(y, x) place of the first pixel."""

    @classmethod
    def of(
        cls,
        reader: Reader,
        pixel_size_um: float | tuple[float, float] | None,
        z_step_um: float | None,
        z_um: Sequence[float] | None,
        reference: int | None,
    ) -> StackFacts:
        planes = reader.shape[1]
        number = planes // 2 if reference is None else as_whole(reference)
        if number is None or not 0 <= number < planes:
            raise OptionError(
                f"reference={reference!r}: the stack has planes 0 to {planes - 1}; give the index "
                "of the one that focus offsets count from"
            )
        size = _pixel_size(pixel_size_um) or _pixel_size(reader.pixel_size_um)
        if size is None:
            unplaced = planes > 1 and reader.z_um is None and z_step_um is None and z_um is None
            raise StackError(
                f"{name_of(reader)} does not state its pixel size"
                + (" nor the distance of its planes" if unplaced else "")
                + ": pass pixel_size_um= (--pixel-size-um), in µm, such as 0.25"
                + (", and z_step_um= (--z-step-um)" if unplaced else "")
            )
        return cls(size, _positions(reader, planes, z_step_um, z_um), number, _origin(reader, size))

    @property
    def z_step_um(self) -> float | None:
        """The mean distance of neighbouring planes."""
        if self.z_um is None or len(self.z_um) < 2:
            return None
        return (self.z_um[-1] - self.z_um[0]) / (len(self.z_um) - 1)


def _origin(reader: Reader, size: tuple[float, float]) -> tuple[float, float]:
    """Where the first pixel lies in µm, if the source says so."""
    try:
        y, x = map(float, getattr(reader, "origin", (0.0, 0.0)))
        if not (math.isfinite(y) and math.isfinite(x)):
            raise ValueError("not finite")
    except (TypeError, ValueError) as error:
        raise ReaderError(
            f"the reader of {name_of(reader)} gives an origin that is not (y, x) of "
            "the first pixel in µm, or in pixels where their size is not known"
        ) from error
    return (y, x) if reader.pixel_size_um else (y * size[0], x * size[1])


def _pixel_size(given: float | tuple[float, float] | None) -> tuple[float, float] | None:
    if given is None:
        return None
    try:
        size = (given, given) if isinstance(given, int | float | numbers.Real) else tuple(given)
        y, x = map(_number, size)
    except (TypeError, ValueError):
        y = x = math.nan
    if not (0 < y < math.inf and 0 < x < math.inf):
        raise OptionError(
            f"pixel_size_um={given!r}: give µm a pixel, one positive number or (y, x)"
        )
    return y, x


def _number(value: float) -> float:
    """``value`` as a float; a yes or no is none, and would be taken for 1 µm or 0."""
    if type(value).__name__ in ("bool", "bool_"):  # NumPy's, too
        raise TypeError("a yes or no is no number of µm")
    return float(value)


def _positions(
    reader: Reader, planes: int, z_step_um: float | None, z_um: Sequence[float] | None
) -> tuple[float, ...] | None:
    if z_step_um is not None and z_um is not None:
        raise OptionError("z_step_um and z_um both say where the planes are: give one of them")
    if z_step_um is not None:
        step_is_number = isinstance(z_step_um, numbers.Real) and not isinstance(z_step_um, bool)
        if not step_is_number or not 0 < z_step_um < math.inf:
            raise OptionError(f"z_step_um={z_step_um!r}: give a positive distance in µm")
        gap = getattr(reader, "gap", None)
        if gap is not None:
            raise StackError(
                f"the planes of {name_of(reader)} are numbered in unequal steps: {gap}. Restore "
                "what is missing, or pass z_um= (--z-um) with the position of each plane instead "
                "of one distance for all"
            )
        start = reader.z_um[0] if reader.z_um else 0.0
        return tuple(start + k * float(z_step_um) for k in range(planes))
    option = z_um is not None
    try:
        found = reader.z_um if z_um is None else tuple(map(_number, z_um))
    except (TypeError, ValueError):
        raise OptionError(
            f"z_um={z_um!r}: give {planes} positions in µm, one for each plane"
        ) from None
    if found is None:
        if planes == 1:
            return None
        raise StackError(
            f"{name_of(reader)} does not state the distance of its {planes} planes: pass "
            "z_step_um= (--z-step-um), in µm, or z_um= with the position of each plane"
        )
    ascending = all(a < b for a, b in pairwise(found)) and all(map(math.isfinite, found))
    if len(found) != planes or not ascending:
        error = OptionError if option else StackError
        raise error(
            f"z_um={list(found)}: there are {planes} planes; give {planes} positions in µm, each "
            "larger than the one before"
        )
    return found


def name_of(reader: Reader) -> str:
    """Its first file, for messages."""
    files = reader.provenance.get("files") or [{"path": f"the source ({type(reader).__name__})"}]
    return str(files[0]["path"]) + (" (and the other planes)" if len(files) > 1 else "")
