"""What the blur model learns from: planes with a mask of what is blurred in them.

Real masks come from a plane and its truth. Artificial ones are the paper's degradation model: a
sharp image is blurred with a Gaussian in random places, and the places are the mask
(section 3.3).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

__all__ = ["blurred_places", "degrade"]

Bytes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

_WINDOW_PX = 13
_CONTENT = 4.0
"""Standard deviation, in 8-bit steps, under which a place has nothing that could be blurred."""
_LOST = 0.35
"""Share of the truth's local contrast that differs from the plane, from which on it is blurred."""


def blurred_places(plane: Bytes, truth: Bytes) -> Mask:
    """Where ``plane`` (3, h, w) is blurred, known from ``truth`` (3, h, w): bool (h, w).

    A place is blurred when the difference between the two, less its fine noise, exceeds 35 % of the
    truth's local contrast. Glass is not blurred: there is nothing to see.

    >>> sharp = np.random.default_rng(0).integers(0, 255, (3, 32, 32)).astype(np.uint8)
    >>> bool(blurred_places(sharp, sharp).any())
    False
    """
    # float32 luminance is enough: a mask, not an image
    gray = truth.mean(axis=0, dtype=np.float32)
    difference = ndimage.gaussian_filter(plane.mean(axis=0, dtype=np.float32) - gray, 1.0)

    power = ndimage.uniform_filter(difference * difference, _WINDOW_PX)
    lost = np.sqrt(np.maximum(power, 0.0))  # a running sum can dip below 0
    contrast = _contrast(gray)
    return np.asarray((lost > _LOST * contrast) & (contrast > _CONTENT))


def degrade(truth: Bytes, rng: np.random.Generator) -> tuple[Bytes, Mask]:
    """Blur a sharp image (3, h, w) in random places; returns it and the mask (h, w).

    Places are where smooth noise exceeds a random level; the blur's sigma is 1.5 to 6 px. Places
    without content are left out of the mask: blurring glass changes nothing.
    """
    height, width = truth.shape[1:]
    noise = ndimage.gaussian_filter(
        rng.standard_normal((height, width)).astype(np.float32), rng.uniform(8, 24), mode="wrap"
    )
    places = noise > np.quantile(noise, rng.uniform(0.2, 0.9))
    sigma = float(rng.uniform(1.5, 6.0))
    soft = ndimage.gaussian_filter(truth.astype(np.float32), (0, sigma, sigma), mode="nearest")
    # a blurred edge between the places and the rest, so that the seam is not what is learnt
    blend = ndimage.gaussian_filter(places.astype(np.float32), 2.0)
    mixed = truth + blend * (soft - truth)
    mixed += rng.normal(0.0, rng.uniform(0.0, 2.0), mixed.shape).astype(np.float32)
    image = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
    contrast = _contrast(truth.mean(axis=0, dtype=np.float32))
    return image, np.asarray(places & (contrast > _CONTENT))


def _contrast(gray: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Standard deviation around each pixel (h, w), in 8-bit steps."""
    mean = ndimage.uniform_filter(gray, _WINDOW_PX)
    variance = ndimage.uniform_filter(gray * gray, _WINDOW_PX) - mean**2
    deviation: npt.NDArray[np.float32] = np.sqrt(np.maximum(variance, 0.0))
    return deviation
