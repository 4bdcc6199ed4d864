"""What lies on the slide: a structure's description, and the sheets that it is drawn as."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from slidefusion.phantom.settings import PhantomSettings

__all__ = ["Sheet", "Structure", "deepest_um", "random_source"]


class Sheet(NamedTuple):
    """A thin, semi-transparent, possibly tilted layer somewhere on the slide."""

    y: int
    """Row of its first pixel on the slide."""
    x: int
    """Column of its first pixel on the slide."""
    amount: npt.NDArray[np.float32]
    """(Y, X) amount of stain; 0 outside."""
    depth: npt.NDArray[np.float32]
    """(Y, X) depth in um."""
    colour: npt.NDArray[np.float32]
    """(C,) decadic optical density of a unit amount."""
    bottom_um: float
    """Least depth where there is stain."""
    top_um: float
    """Greatest depth where there is stain."""


@dataclass(frozen=True, eq=False)
class Structure:
    """Where a structure lies and what it is; its shape follows from ``key``."""

    kind: str
    """``squamous``, ``parabasal``, ``glandular``, ``neutrophil``, ``debris``, ``mucus`` or
    ``bacteria``."""
    y_um: float
    """Position of the centre on the slide in um."""
    x_um: float
    """Position of the centre on the slide in um."""
    z_um: float
    """Depth of the centre in um."""
    reach_um: float
    """No part is further from the centre than this, in um."""
    key: tuple[int, ...]
    """Words that seed its random numbers."""
    slope: tuple[float, float] = (0.0, 0.0)
    """Slope in y and x, um a um, to which its own variation is added."""
    sides: tuple[tuple[float, float, float], ...] = ()
    """Outline given by its neighbours: outward normal y, x and distance in um of each side."""
    hue: float | None = None
    """Stain shared with its neighbours (0 cyan to 1 pink), or None."""


def deepest_um(settings: PhantomSettings) -> float:
    """Nothing lies further than this from the reference plane, in um: tilted cells are flattened
    there, so that the reach of the blur is known."""
    return settings.depth_um + 5.0


def random_source(*words: int) -> np.random.Generator:
    """A random generator that depends on ``words`` (any integers) alone."""
    seeds = [word % 2**32 for word in words]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seeds)))
