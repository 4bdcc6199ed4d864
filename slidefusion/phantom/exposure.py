"""Numba kernel of the camera: light, photon noise and 8 bits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from slidefusion.jit import kernel
from slidefusion.phantom.camera import CAMERA_MARGIN as _MARGIN

__all__ = ["sensor"]


@kernel
def _mixed(word: np.uint64) -> np.uint64:
    """A well-mixed 64-bit word (the finaliser of splitmix64)."""
    word ^= word >> np.uint64(30)
    word *= np.uint64(0xBF58476D1CE4E5B9)
    word ^= word >> np.uint64(27)
    word *= np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


@kernel
def sensor(
    transmission: npt.NDArray[np.float32],
    light: npt.NDArray[np.float32],
    well: np.float32,
    sharpen: np.float32,
    key: np.uint64,
    y0: int,
    x0: int,
) -> npt.NDArray[np.uint8]:
    """Expose (C, Y + 16, X + 16) transmission to (C, Y, X) uint8.

    Noise is Gaussian of the Poisson variance: with ``well`` electrons at gray value 255, a value
    ``v`` has the standard deviation ``sqrt(255 v / well)``, at least the 0.29 of rounding. The
    deviate is the sum of four uniform 16-bit words hashed from key, channel and position.
    """
    channels, height, width = light.shape
    result = np.empty((channels, height, width), np.uint8)
    per_electron = np.float32(0.0)
    if well > 0:
        per_electron = np.float32(255.0) / well
    # Four uniform words: mean 4 * 32767.5, variance 4 * 65536^2 / 12.
    unit = np.float32(1.0 / 37837.0)
    low = np.uint64(0xFFFF)
    line = np.empty(width, np.float32)
    for c in range(channels):
        for y in range(height):
            source = transmission[c, y + _MARGIN, _MARGIN : _MARGIN + width]
            shade = light[c, y]
            for x in range(width):
                line[x] = source[x]
            if sharpen > 0:
                for x in range(width):
                    around = np.float32(0.0)
                    for j in range(-1, 2):
                        for i in range(-1, 2):
                            weight = np.float32((2 - abs(i)) * (2 - abs(j)))
                            around += weight * transmission[c, y + _MARGIN + j, x + _MARGIN + i]
                    line[x] += sharpen * (line[x] - around * np.float32(0.0625))
            row = result[c, y]
            base = _mixed(
                key
                + np.uint64(c) * np.uint64(0x632BE59BD9B4E019)
                + np.uint64(y + y0) * np.uint64(0x9E3779B97F4A7C15)
            )
            for x in range(width):
                value = max(np.float32(0.0), line[x]) * shade[x]
                if per_electron > 0:
                    word = _mixed(base + np.uint64(x + x0) * np.uint64(0xD1342543DE82EF95))
                    total = (
                        (word & low)
                        + ((word >> np.uint64(16)) & low)
                        + ((word >> np.uint64(32)) & low)
                        + (word >> np.uint64(48))
                    )
                    deviate = (np.float32(np.int64(total)) - np.float32(131070.0)) * unit
                    value += deviate * np.sqrt(value * per_electron)
                row[x] = np.uint8(
                    min(np.float32(255.0), max(np.float32(0.0), value + np.float32(0.5)))
                )
    return result
