"""Point spread functions: what a thin layer looks like from ``dz`` um away.

The transfer function is the product of the diffraction-limited one of a circular aperture
(Goodman, Introduction to Fourier Optics, section 6.3) and that of geometrical defocus, a disc
(Stokseth, J. Opt. Soc. Am. 59, 1314, 1969, compares it with the exact one), softened::

    H(v; dz) = 2/pi (acos s - s sqrt(1 - s^2)) * 2 J1(x) / x * exp(-2 pi^2 sigma^2 v^2)
    s = v lambda / (2 NA),  x = 2 pi r v,  r = |dz| tan(asin(condenser NA / n)),
    sigma = softness r

``v`` is the spatial frequency in cycles a um. In focus it is the Airy pattern's; far from focus it
is the disc of the illuminating cone, softened, as a partly filled and aberrated pupil leaves it.
A pixel's own aperture (a unit square) is included.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from slidefusion.phantom.settings import PhantomSettings

__all__ = ["Kernel", "blur_radius_px", "kernel"]

_GRID = 128
# A layer that is blurred by a disc of at least this radius loses nothing at the reduced resolution.
_LEVEL_RADIUS_PX = (5.0, 10.0, 22.0)
# Variance in px^2 that reducing (1 3 3 1) and enlarging (linear) add at each level.
_RESAMPLING_VARIANCE = (0.0, 1.42, 6.4, 26.4)


@dataclass(frozen=True)
class Kernel:
    """One PSF, sampled at a power-of-two reduced resolution."""

    level: int
    """It applies to images reduced ``2**level`` times."""
    quadrant: npt.NDArray[np.float32]
    """(Y, X) weights at offsets 0, 1, 2 … px of that level; the rest follows by symmetry."""

    @property
    def reach(self) -> int:
        """Largest offset with a weight, in px of its level."""
        return int(self.quadrant.shape[0]) - 1


def blur_radius_px(settings: PhantomSettings, dz_um: float) -> float:
    """Radius in px of the geometrical blur disc at a distance of ``dz_um`` from focus.

    >>> round(blur_radius_px(PhantomSettings(), 2.7), 2)
    5.65
    """
    angle = math.asin(settings.condenser * settings.na / settings.refractive_index)
    return abs(dz_um) * math.tan(angle) / settings.mpp_um


def _disc_transfer(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """``2 J1(x) / x`` by Gauss-Chebyshev quadrature of the second kind."""
    nodes = 96
    angle = np.arange(1, nodes + 1) * math.pi / (nodes + 1)
    weights = 2.0 / (nodes + 1) * np.sin(angle) ** 2
    result = np.zeros_like(x)
    for weight, node in zip(weights, np.cos(angle), strict=True):
        result += weight * np.cos(x * node)
    return result


@lru_cache(maxsize=512)
def kernel(settings: PhantomSettings, dz_um: float) -> Kernel:
    """The PSF of a layer ``dz_um`` from focus, at the resolution that suits its width.

    The weights are not negative and sum to 1 over the whole plane.
    """
    radius = blur_radius_px(settings, dz_um)
    level = sum(radius >= limit for limit in _LEVEL_RADIUS_PX)
    scale = 2**level
    sigma2 = (settings.softness * radius) ** 2
    remaining = max(0.0, sigma2 - _RESAMPLING_VARIANCE[level])
    v1 = np.fft.fftfreq(_GRID, d=scale)  # cycles a full-resolution px
    v = np.hypot(v1[:, None], v1[None, :])
    s = np.minimum(v / settings.mpp_um * settings.wavelength_um / (2 * settings.na), 1.0)
    transfer = 2 / math.pi * (np.arccos(s) - s * np.sqrt(1 - s * s))
    transfer *= _disc_transfer(2 * math.pi * radius * v)
    transfer *= np.exp(-2 * math.pi**2 * remaining * v * v)
    if level == 0:
        transfer *= np.sinc(v1)[:, None] * np.sinc(v1)[None, :]
    spread = np.fft.ifft2(transfer).real
    width = math.sqrt(
        remaining + (0.25 * settings.wavelength_um / settings.na / settings.mpp_um) ** 2
    )
    reach = min(_GRID // 2 - 1, math.ceil((radius + 2.5 * width) / scale + 1.0))
    quadrant = np.maximum(spread[: reach + 1, : reach + 1], 0.0)
    quadrant[quadrant < 1e-5 * quadrant.max()] = 0.0
    share = np.full((reach + 1, reach + 1), 4.0)
    share[0, :] = share[:, 0] = 2.0
    share[0, 0] = 1.0
    quadrant /= (quadrant * share).sum()
    result = quadrant.astype(np.float32)
    result.setflags(write=False)
    return Kernel(level, result)
