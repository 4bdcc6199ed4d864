"""Periodic noise images that the painters sample: made once a process, the same everywhere.

One texel is :data:`TEXEL_UM` um on the slide, whatever the pixel size.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

__all__ = ["SIDE", "TEXEL_UM", "textures"]

SIDE = 1024
"""Side of every texture in texels; they repeat after that."""
TEXEL_UM = 0.25
"""Size of a texel in um."""


def _filtered(
    rng: np.random.Generator, power: float, low_um: float, high_um: float
) -> npt.NDArray[np.float64]:
    """Gaussian noise with amplitude ~ f**-power between two wavelengths, unit variance."""
    f1 = np.fft.fftfreq(SIDE, d=TEXEL_UM)
    f = np.hypot(f1[:, None], np.fft.rfftfreq(SIDE, d=TEXEL_UM)[None, :])
    f[0, 0] = 1.0
    gain = f**-power * np.exp(-((f * low_um / 2) ** 2)) * (1 - np.exp(-((f * high_um) ** 2)))
    gain[0, 0] = 0.0
    image = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((SIDE, SIDE))) * gain, s=(SIDE, SIDE))
    image -= image.mean()
    image /= image.std()
    return np.asarray(image, np.float64)


@lru_cache(maxsize=1)
def textures() -> npt.NDArray[np.float32]:
    """(5, Y, X): cytoplasm, broad waves, chromatin, fibres, fine grain; zero mean, unit variance.

    *cytoplasm* is a power law down to 0.5 um; *broad waves* bend outlines and depths (10 to 60 um);
    *chromatin* has clumps of 0.5 to 1.5 um; *fibres* are thin crests (mucus, wrinkles); *fine
    grain* roughens edges (0.4 to 3 um).
    """
    rng = np.random.default_rng(0x51DEF05)
    cytoplasm = _filtered(rng, 1.25, 0.4, 14.0)
    waves = _filtered(rng, 2.0, 10.0, 60.0)
    clumps = _filtered(rng, 0.6, 0.6, 2.2)
    chromatin = np.tanh(1.2 * clumps + 0.2) + 0.35 * _filtered(rng, 0.5, 0.4, 1.2)
    crests = -np.abs(_filtered(rng, 1.8, 0.8, 16.0)) * 2.2
    fibres = np.exp(crests * 2.0) + 0.5 * np.exp(-6 * np.abs(_filtered(rng, 1.5, 0.6, 7.0)))
    grain = _filtered(rng, 0.9, 0.5, 4.0)
    result = np.stack([cytoplasm, waves, chromatin, fibres, grain])
    result -= result.mean(axis=(1, 2), keepdims=True)
    result /= result.std(axis=(1, 2), keepdims=True)
    final = result.astype(np.float32)
    final.setflags(write=False)
    return final
