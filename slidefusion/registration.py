"""By how much images of one place lie beside each other, as planes of a scan that drifts do."""

from __future__ import annotations

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


def displacement(image: Gray, other: Gray) -> tuple[float, float]:
    """By how many rows and columns ``image`` lies further down and right than ``other``.

    Up to a quarter of their sides, to about a tenth of a pixel: the peak of their correlation over
    structures of 10 to 100 px, found first on the whole and then on what both show.

    >>> spot = np.zeros((64, 64), np.float32)
    >>> spot[30:34, 30:34] = 1
    >>> [round(way, 3) for way in displacement(np.roll(spot, (5, -3), (0, 1)), spot)]
    [5.0, -3.0]
    """
    return _common_displacement([(image, other)])


def _common_displacement(pairs: Sequence[tuple[Gray, Gray]]) -> tuple[float, float]:
    """That of pairs (image, other) from several places, all of one size."""
    first = _peak(pairs)
    down, across = map(round, first)
    if down == across == 0:
        return first
    rest = _peak([overlap(image, other, down, across) for image, other in pairs])
    return down + rest[0], across + rest[1]


def _peak(pairs: Sequence[tuple[Gray, Gray]]) -> tuple[float, float]:
    """Where the mean of the pairs' correlations is largest.

    Structures that come into focus beside those that go out of it move the peak of a single place
    by up to a pixel; in the mean of several that evens out.
    """
    height, width = pairs[0][0].shape
    fade = np.outer(np.hanning(height), np.hanning(width))
    squared = np.add.outer(np.fft.fftfreq(height) ** 2, np.fft.rfftfreq(width) ** 2)
    band = np.sqrt(np.exp(-squared / _FINEST**2) * -np.expm1(-squared / _COARSEST**2))
    total = np.zeros(band.shape, np.complex128)
    for pair in pairs:
        first, second = (np.fft.rfft2((one - one.mean()) * fade) * band for one in pair)
        energy = float(np.linalg.norm(first) * np.linalg.norm(second))
        total += first * second.conj() / (energy or 1.0)
    likeness = np.fft.irfft2(total, (height, width))
    ways = [np.fft.fftfreq(side, 1 / side).astype(int) for side in (height, width)]
    near = np.logical_and.outer(
        *(np.abs(way) <= side // 4 for way, side in zip(ways, (height, width), strict=True))
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
    # At the rim of what is looked at the largest value is no maximum, whose vertex lies anywhere.
    return float(np.clip((before - after) / (2 * bend), -0.5, 0.5)) if bend < 0 else 0.0


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
    planes: Iterable[Sequence[Gray]], reference: int, empty: float
) -> tuple[npt.NDArray[np.float64], list[int]]:
    """How far (down, right) each plane lies from the plane ``reference``: (Z, 2) px.

    ``planes`` gives each plane's images of the same places, in turn. Each is compared with the last
    one before it that could be told, since neighbours are blurred alike, at all places where both
    vary by more than ``empty``. A plane of which nothing can be told, as it shows nothing or
    something else, lies where its neighbour does. The second result are the planes that no other
    one is like.
    """
    places: list[npt.NDArray[np.float64]] = []
    alone: list[int] = []
    seen: list[tuple[int, Sequence[Gray]]] = []  # the last plane that was told, and the last one
    for z, images in enumerate(planes):
        place, told = (places[-1] if places else np.zeros(2)), False
        for before, its in seen:
            way = _way(images, its, empty)
            if way is not None:
                place, told = places[before] + way, True
                alone = [one for one in alone if one != before]
                break
        if not told:
            alone.append(z)
        places.append(place)
        seen = [(z, images)] if told or not seen else [seen[0], (z, images)]
    return np.array(places) - places[reference], alone


def _way(
    images: Sequence[Gray], others: Sequence[Gray], empty: float
) -> npt.NDArray[np.float64] | None:
    """How far a plane lies from another one, seen at the same places; None if nothing tells."""
    pairs = [
        pair for pair in zip(images, others, strict=True) if min(one.std() for one in pair) > empty
    ]
    if not pairs:
        return None
    way = _common_displacement(pairs)
    moved = [overlap(*pair, round(way[0]), round(way[1])) for pair in pairs]
    alike = np.median([correlation(*pair) for pair in moved]) >= _ALIKE
    return np.array(way) if alike else None
