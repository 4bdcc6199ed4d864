"""The fusers that are compared: names, labels, and which of them can take how many planes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from slidefusion.errors import OptionError, OtherPlanesError
from slidefusion.fuser import Fuser
from slidefusion.registry import get_fuser
from slidefusion.value_range import value_range
from slidefusion.verbs.fuse import fuse

__all__ = [
    "DEFAULT_FUSERS",
    "MEAN",
    "PLANE_0",
    "Candidate",
    "candidates",
    "reason_to_skip",
    "sample",
]

PLANE_0, MEAN = "plane 0", "mean of planes"
"""Rows that are no fuser's."""
_COLUMN = re.compile(r"plane [+-]?\d+|truth|reference")
"""Pictures that lie beside those of the fusers, plane 0 among them."""


@dataclass(frozen=True)
class Candidate:
    """A fuser under the label that tables give it."""

    label: str
    fuser: Fuser

    @property
    def masked(self) -> bool | None:
        """Whether it uses the blur mask; None when the fuser knows no such option."""
        value = getattr(self.fuser, "blur_mask", None)
        return value if isinstance(value, bool) else None


DEFAULT_FUSERS: dict[str, tuple[str, dict[str, Any]]] = {
    "focusgan": ("focusgan", {}),
    "focusgan without mask": ("focusgan", {"blur_mask": False}),
    "fusiongan": ("fusiongan", {}),
    "pix2pix": ("pix2pix", {}),
    "srgan": ("srgan", {}),
    "cnn": ("cnn", {}),
    "wt": ("wt", {}),
    "lpp": ("lpp", {}),
    "dtcwt": ("dtcwt", {}),
}
"""Label: (name, options) of the methods that the paper compares."""


def candidates(fusers: Sequence[str | Fuser] | Mapping[str, str | Fuser] | None) -> list[Candidate]:
    """Make what :func:`slidefusion.evaluate` was given into candidates, in that order.

    Raises :class:`OptionError` when there is none, a label is used twice, or something is no
    fuser; and what :func:`slidefusion.get_fuser` raises.
    """
    if fusers is None:
        return [
            Candidate(label, get_fuser(name, **options))
            for label, (name, options) in DEFAULT_FUSERS.items()
        ]
    if isinstance(fusers, str):
        fusers = [fusers]
    if not fusers:
        raise OptionError("fusers is empty: give at least one, by name or as an object")
    pairs = (
        list(fusers.items())
        if isinstance(fusers, Mapping)
        else [(fuser if isinstance(fuser, str) else _name(fuser), fuser) for fuser in fusers]
    )
    found: list[Candidate] = []
    for label, fuser in pairs:
        if any(label == other.label for other in found):
            raise OptionError(
                f"two fusers are called {label!r}: tell them apart by labels, "
                "fusers={'label': fuser, …} (--fusers NAME:label=LABEL)"
            )
        if not isinstance(label, str) or not label.isprintable() or not label.strip():
            raise OptionError(f"a fuser cannot be called {label!r}: give a text of one line")
        if label == MEAN or _COLUMN.fullmatch(label):
            raise OptionError(
                f"a fuser cannot be called {label!r}, which is a row of its own, or a picture"
            )
        made = get_fuser(fuser) if isinstance(fuser, str) else fuser
        if not isinstance(made, Fuser):
            raise OptionError(f"fusers: {made!r} is neither a fuser's name nor a fuser")
        found.append(Candidate(label, made))
    return found


def reason_to_skip(
    candidate: Candidate, planes: int, channels: int, dtype: np.dtype[Any]
) -> str | None:
    """Why a candidate is left out for this number of planes, or None.

    Fuses a small sample, so a fuser whose weights are missing or do not fit raises here, before
    any work.
    """
    if planes not in candidate.fuser.planes:
        return f"takes {candidate.fuser.planes} planes"
    given = sample(planes, channels, dtype)
    try:
        fused = fuse(given, candidate.fuser, progress=False).values
    except OtherPlanesError:
        return "its weights are for another number of planes"
    has_weights = hasattr(candidate.fuser, "weights")  # which may have learnt nothing yet
    if planes == 1 and not has_weights and np.array_equal(fused, given[:, 0]):
        return "gives a single plane back as it is, which has a row of its own"
    return None


def sample(planes: int, channels: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """A stack (C, Z, 64, 64) of a bright ground with dark spots."""
    y, x = np.mgrid[:64, :64] / 64.0
    spots = np.stack([np.sin(9 * y + z) * np.sin(11 * x - z) for z in range(planes)])
    values = np.clip(0.8 - 0.5 * np.maximum(spots, 0), 0, 1)
    return np.repeat((values * value_range(dtype))[np.newaxis], channels, axis=0).astype(dtype)


def _name(fuser: Any) -> str:
    return str(getattr(fuser, "name", type(fuser).__name__))
