"""What an evaluation is asked to do: made plain, and refused before anything is fused."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from slidefusion.errors import OptionError, UnknownNameError, UsageError, near_match
from slidefusion.evaluation.scores import Planes
from slidefusion.evaluation.slides import Slide
from slidefusion.fuser import Fuser
from slidefusion.geometry import as_whole
from slidefusion.registry import fusers as installed_fusers

__all__ = [
    "check_numbers",
    "need_planes",
    "plane_sets",
    "reference_of",
    "refuse_twins",
    "several",
]


def plane_sets(planes: Sequence[Sequence[int]], step: int) -> list[Planes]:
    """Sets of focus offsets, ``step`` planes apart, each once."""
    if (as_whole(step) or 0) < 1:
        raise OptionError(f"step={step!r}: must be a whole number, 1 or more")
    found: list[Planes] = []
    for given in planes:
        whole = [as_whole(offset) for offset in given] if isinstance(given, Iterable) else [None]
        if None in whole:
            raise OptionError(
                f"planes={planes!r}: give sets of focus offsets, which are whole numbers, for "
                "example [(0,), (-1, 0, 1)]"
            )
        offsets = tuple(offset * int(step) for offset in whole if offset is not None)
        if not offsets or len(set(offsets)) != len(offsets):
            raise OptionError(
                f"planes={list(given)}: give focus offsets, none twice, for example (-1, 0, 1)"
            )
        if offsets not in found:
            found.append(offsets)
    if not found:
        raise OptionError("planes is empty: give at least one set, for example [(0,), (-1, 0, 1)]")
    return found


def check_numbers(
    stacks: Sequence[Any],
    phantoms: int,
    truths: Any | None,
    reference: Any | None,
    min_content: float,
    pictures: int,
    patch_px: int,
    first_seed: int,
) -> None:
    """Whether there is anything to measure, and with what numbers."""
    for name, value in (
        ("phantoms", phantoms),
        ("pictures", pictures),
        ("patch_px", patch_px),
        ("first_seed", first_seed),
    ):
        if as_whole(value) is None:
            raise OptionError(f"{name}={value!r}: give a whole number")
    if not isinstance(min_content, int | float | np.number):
        raise OptionError(f"min_content={min_content!r}: give a number from 0 to below 1")
    if not stacks and phantoms < 1:
        raise UsageError("nothing to measure on: give stacks, or a number of phantoms (--phantoms)")
    if truths is not None and reference is not None:
        raise OptionError("truths and reference were both given: results have one thing to be like")
    if phantoms and reference is not None:
        raise OptionError(
            "phantoms have a truth, so there is no need of a reference: measure real stacks in a "
            "call of their own"
        )
    if phantoms < 0 or pictures < 1 or not 0 <= min_content < 1:
        raise OptionError(
            f"phantoms={phantoms}, pictures={pictures}, min_content={min_content}: phantoms must "
            "be 0 or more, pictures 1 or more, min_content from 0 to below 1"
        )


def several(given: Any) -> list[Any]:
    """One or more, as a list."""
    several = given if isinstance(given, (list, tuple)) else [given]
    return [os.fspath(one) if isinstance(one, os.PathLike) else one for one in several]


def need_planes(slides: Sequence[Slide], sets: Sequence[Planes]) -> None:
    """Raise when a slide lacks one of the planes."""
    for slide in slides:
        for offset in (0, *(offset for planes in sets for offset in planes)):
            slide.index(offset)


def refuse_twins(slides: Sequence[Slide]) -> None:
    """One slide given twice would look like two that agree, and errors be too small."""
    stores = [slide.stack.store for slide in slides if slide.stack.store is not None]
    twice = next((store for k, store in enumerate(stores) if store in stores[:k]), None)
    if twice is not None:
        raise OptionError(f"{twice} was given twice (perhaps by phantoms= and keep=): give it once")


def reference_of(reference: Any | None) -> tuple[str | Fuser | None, list[Any] | None]:
    """The fuser that makes references, or the images given."""
    if reference is None:
        return None, None
    if isinstance(reference, (list, tuple)) and len(reference) == 1:
        reference = reference[0]
    if isinstance(reference, Fuser):
        return reference, None
    if isinstance(reference, str) and not Path(reference).exists() and "://" not in reference:
        installed = installed_fusers()
        known = {p.name for p in installed} | {p.qualified_name for p in installed}
        if reference in known:
            return reference, None
        if not {"/", "\\", "."} & set(reference):
            raise UnknownNameError(
                f"reference {reference!r}: there is no such image, and no such fuser"
                f"{near_match(reference, known)} (installed: {', '.join(sorted(known))})"
            )
    return None, several(reference)
