"""The selection of the wavelet fusers, written with whole arrays in double precision."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.ndimage import convolve1d, uniform_filter

from slidefusion.fusers.selection import binomial_window

Array = np.ndarray[Any, Any]


def smoothed(activity: Array, radius: int) -> Array:
    taps = binomial_window(radius).astype(np.float64)
    return convolve1d(convolve1d(activity, taps, 0, mode="nearest"), taps, 1, mode="nearest")


def soft_shares(activities: list[Array], radius: int, power: int, noise: float) -> list[Array]:
    """For each plane the share (y, x) of its coefficients."""
    weights = [(smoothed(a, radius) + noise) ** power for a in activities]
    total = np.sum(weights, 0)
    return [weight / total for weight in weights]


def voted_shares(activities: list[Array], radius: int, vote: int, noise: float) -> list[Array]:
    """1 for the plane that each coefficient is taken from, else 0."""
    best = np.zeros_like(activities[0])
    taken = np.zeros(best.shape, int)
    for z, activity in enumerate(activities):
        level = np.maximum(smoothed(activity, radius), noise)
        wins = (level > best).astype(float)
        taken[uniform_filter(wins, 2 * vote + 1, mode="nearest") > 0.5] = z
        best = np.maximum(best, level)
    return [(taken == z).astype(float) for z in range(len(activities))]
