"""By how much images of one place lie beside each other, as planes of a scan that drifts do."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["correlation", "displacement", "overlap", "plane_shifts"]

Gray = npt.NDArray[np.float32]
"""(Y, X)."""

_FINEST = 0.1
"""Cycles a pixel beyond which there is more noise than structure, above all out of focus."""
_COARSEST = 0.01
"""Cycles a pixel below which there is uneven light, which stays where the camera is."""
_ALIKE = 0.5
"""Correlation that two planes have at least where they show the same."""
_EMPTY = 3 / 255
"""Of white: a place that varies by less shows nothing that could be compared."""


def displacement(image: Gray, other: Gray) -> tuple[float, float]:
    """By how many rows and columns ``image`` lies further down and right than ``other``.

    Up to a quarter of their sides, to about a tenth of a pixel: the peak of their correlation over
    structures of 10 to 100 px, found first on the whole and then on what both show.

    >>> spot = np.zeros((64, 64), np.float32)
    >>> spot[30:34, 30:34] = 1
    >>> [round(way, 3) for way in displacement(np.roll(spot, (5, -3), (0, 1)), spot)]
    [5.0, -3.0]
    """
    down, across = (round(way) for way in _peak(image, other))
    rest = _peak(*overlap(image, other, down, across))
    return down + rest[0], across + rest[1]


def _peak(image: Gray, other: Gray) -> tuple[float, float]:
    fade = np.outer(*(np.hanning(side) for side in image.shape))
    first, second = (np.fft.rfft2((one - one.mean()) * fade) for one in (image, other))
    height, width = image.shape
    squared = np.add.outer(np.fft.fftfreq(height) ** 2, np.fft.rfftfreq(width) ** 2)
    band = np.exp(-squared / _FINEST**2) * -np.expm1(-squared / _COARSEST**2)
    likeness = np.fft.irfft2(first * second.conj() * band, image.shape)
    ways = [np.fft.fftfreq(side, 1 / side).astype(int) for side in image.shape]
    near = np.logical_and.outer(
        *(np.abs(way) <= side // 4 for way, side in zip(ways, image.shape, strict=True))
    )
    y, x = np.unravel_index(int(np.argmax(np.where(near, likeness, -np.inf))), likeness.shape)
    return (
        float(ways[0][y] + _vertex(likeness[[y - 1, y, (y + 1) % height], x])),
        float(ways[1][x] + _vertex(likeness[y, [x - 1, x, (x + 1) % width]])),
    )


def _vertex(values: npt.NDArray[np.float64]) -> float:
    """Where the parabola through values at -1, 0 and 1 is highest."""
    before, here, after = values
    bend = before - 2 * here + after
    return float((before - after) / (2 * bend)) if bend < 0 else 0.0


def overlap(image: Gray, other: Gray, down: int, across: int) -> tuple[Gray, Gray]:
    """What both show when ``image`` is moved back by so many rows and columns."""
    height, width = image.shape
    ours = np.s_[max(down, 0) : height + min(down, 0), max(across, 0) : width + min(across, 0)]
    theirs = np.s_[max(-down, 0) : height - max(down, 0), max(-across, 0) : width - max(across, 0)]
    return image[ours], other[theirs]


def correlation(image: Gray, other: Gray) -> float:
    """Of the values of two images; 0 where one has only one value."""
    if not image.std() or not other.std():
        return 0.0
    return float(np.corrcoef(image.ravel(), other.ravel())[0, 1])


def plane_shifts(
    planes: Iterable[Sequence[Gray]], reference: int, white: float
) -> npt.NDArray[np.float64]:
    """How far (down, right) each plane lies from the plane ``reference``: (Z, 2) px.

    ``planes`` gives each plane's images of the same places, in turn. Neighbours are compared, since
    they are blurred alike, and the median of the places counts. A plane of which nothing can be
    told, as it shows nothing or something else, lies where its neighbour does.
    """
    steps = [np.zeros(2)]
    for before, after in itertools.pairwise(planes):
        found = [
            way
            for one, other in zip(after, before, strict=True)
            if (way := _step(one, other, _EMPTY * white)) is not None
        ]
        steps.append(np.median(found, axis=0) if found else np.zeros(2))
    places = np.cumsum(steps, axis=0)
    return np.asarray(places - places[reference])


def _step(image: Gray, other: Gray, empty: float) -> tuple[float, float] | None:
    """The displacement, if both show something, and the same."""
    if min(image.std(), other.std()) < empty:
        return None
    way = displacement(image, other)
    there = overlap(image, other, round(way[0]), round(way[1]))
    return way if correlation(*there) >= _ALIKE else None
