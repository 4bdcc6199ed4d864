"""What the wavelet fusers share: planes in one at a time, sums of a level, the result out.

At each coefficient of each level the planes are weighed by their *activity*: the energy (or the
magnitude) of all detail coefficients there, summed over the orientations and the channels and
averaged over a window. One decision for all of them keeps colours together and orientations
consistent. The low pass is weighed like the coarsest level, or averaged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from slidefusion.fuser import Planes
from slidefusion.fusers.transform_fuser import Limits
from slidefusion.tiling import round_up
from slidefusion.transforms.laplacian import pad_to_period
from slidefusion.value_range import value_range

if TYPE_CHECKING:
    from slidefusion.fusers.subband_kernels import LevelSums

__all__ = [
    "ACTIVITIES",
    "activity_scale",
    "empty_sums",
    "halo_px",
    "sum_planes",
]

FloatArray = npt.NDArray[np.float32]

ACTIVITIES = ("energy", "magnitude")


def halo_px(
    levels: int,
    radius: int,
    analysis: Callable[[int], tuple[int, int]],
    synthesis: Callable[[int], tuple[int, int]],
) -> int:
    """How far in pixels the input around an output pixel influences it.

    A pixel is rebuilt from the coefficients of level j within ``synthesis(j)`` of it, which are
    weighed by those within ``radius`` coefficients of 2**j px, which read the pixels within
    ``analysis(j)``; each (before, after) in px.
    """
    reach = 0
    for j in range(1, levels + 1):
        for one, other in zip(analysis(j), synthesis(j), strict=True):
            reach = max(reach, one + other + radius * 2**j)
    return reach


def empty_sums(
    shapes: list[tuple[int, int]], channels: int, bands: int, low_planes: int, lowpass: str
) -> list[LevelSums]:
    """Zeros for the levels of ``shapes`` (y, x), each of ``bands`` detail planes a channel.

    The low pass has ``low_planes`` planes a channel; it is summed with the coarsest level unless
    ``lowpass`` is ``"mean"``.
    """
    from slidefusion.fusers.subband_kernels import LevelSums

    sums = []
    for j, (y, x) in enumerate(shapes):
        with_low = j == len(shapes) - 1 and lowpass == "activity"
        low = (y, x) if with_low else (0, 0)
        sums.append(
            LevelSums(
                details=np.zeros((channels, bands, y, x), np.float32),
                low=np.zeros((channels, low_planes, *low), np.float32),
                best=np.zeros((y, x), np.float32),
                total=np.zeros((y, x), np.float32),
                plane=np.zeros((y, x), np.uint16),
            )
        )
    return sums


def sum_planes(
    stack: Planes,
    period: int,
    levels: list[LevelSums],
    load: Callable[[npt.NDArray[Any], FloatArray], None],
    add: Callable[[FloatArray, FloatArray, int, int, bool, LevelSums], None],
    clamp: bool,
    parts: int = 1,
) -> tuple[FloatArray, Limits | None]:
    """Add every plane of ``stack`` (Z, C, Y, X) to the sums, two at a time.

    ``load(plane, source)`` writes a padded plane (C, Y, X) to ``source`` (C, parts, Y, X / parts).
    ``add(source, low, level, z, last, sums)`` transforms ``source`` (P, C, parts or Q, y, x), the P
    planes from ``z`` on, into the low pass ``low`` (P, C, Q, y, x) and the details of ``level`` (1
    is the finest), and adds those; after the ``last`` planes the sums are means.
    """
    from slidefusion.fusers.subband_kernels import PAIR

    count, channels, height, width = stack.shape
    padded = channels, parts, round_up(height, period), round_up(width, period) // parts
    together = min(PAIR, count)
    sources = np.empty((together, *padded), np.float32)
    quads = levels[0].low.shape[1]
    lows = [np.empty((together, channels, quads, *sums.best.shape), np.float32) for sums in levels]
    mean = np.zeros_like(lows[-1][0]) if levels[-1].low.size == 0 else None
    limits: Limits | None = None
    for first in range(0, count, together):
        planes = min(together, count - first)
        for p in range(planes):
            plane = pad_to_period(stack[first + p], period)
            if clamp and limits is None:
                limits = plane.copy(), plane.copy()
            elif limits is not None:
                np.minimum(limits[0], plane, out=limits[0])
                np.maximum(limits[1], plane, out=limits[1])
            load(plane, sources[p])
        finer = sources[:planes]
        for j, (low, sums) in enumerate(zip(lows, levels, strict=True)):
            add(finer, low[:planes], j + 1, first, first + planes == count, sums)
            finer = low[:planes]
        if mean is not None:
            for low_of_plane in finer:
                mean += low_of_plane
    if mean is not None:
        mean *= np.float32(1 / count)
    return levels[-1].low if mean is None else mean, limits


def activity_scale(energy: bool, coefficients: int, dtype: np.dtype[Any]) -> np.float32:
    """Factor that makes activity of ``coefficients`` a fraction of the range of ``dtype``.

    The root of the mean square, or the mean magnitude.
    """
    return np.float32(1 / (coefficients**0.5 if energy else coefficients) / value_range(dtype))
