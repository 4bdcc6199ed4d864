"""From transmission to bytes: illumination, photon noise, sharpening, JPEG-like quantisation."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from slidefusion.phantom.settings import PhantomSettings

__all__ = ["CAMERA_MARGIN", "expose", "illumination"]

CAMERA_MARGIN = 8
"""Pixels around a block that sharpening and halving need, a multiple of 8."""

Floats = npt.NDArray[np.float32]


def illumination(settings: PhantomSettings, y: int, x: int, height: int, width: int) -> Floats:
    """(C, Y, X) gray value of clear glass: white, less the vignette of each camera field."""
    phase = 2 * math.pi / settings.field_px
    rows = 0.5 * (1 - np.cos(phase * (np.arange(y, y + height) + 0.5)))
    columns = 0.5 * (1 - np.cos(phase * (np.arange(x, x + width) + 0.5)))
    shade = 1 - settings.vignette * (1 - 0.5 * (rows[:, None] + columns[None, :]))
    white = np.array(settings.white)
    if settings.gray:
        white = white.mean(keepdims=True)
    result: Floats = (white[:, None, None] * shade).astype(np.float32)
    return result


def expose(
    transmission: Floats, light: Floats, settings: PhantomSettings, noise_key: int, y: int, x: int
) -> npt.NDArray[np.uint8]:
    """(C, Y, X) uint8 image of a transmission (C, Y + 16, X + 16) with its margin.

    ``light`` is :func:`illumination` of the block without margin, ``(y, x)`` the block's position
    and ``noise_key`` the word that seeds the noise; 0 takes the picture without noise.
    """
    from slidefusion.phantom.exposure import sensor

    well = settings.full_well if noise_key else 0.0
    sharpen = settings.sharpen if noise_key else 0.0
    image = sensor(
        transmission, light, np.float32(well), np.float32(sharpen), np.uint64(noise_key), y, x
    )
    if noise_key and settings.jpeg >= 1:
        image = _quantise(image, settings.jpeg)
    return image


_LUMA = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    dtype=np.float32,
)
"""ITU-T T.81 (JPEG), table K.1."""


def _quantise(image: npt.NDArray[np.uint8], quality: float) -> npt.NDArray[np.uint8]:
    """Round the 8 x 8 cosine transform of each channel, as JPEG does at ``quality``."""
    scale = 50 / quality if quality < 50 else 2 - quality / 50
    table = np.maximum(1.0, np.floor(_LUMA * np.float32(scale) + np.float32(0.5)))
    n = np.arange(8)
    basis = np.sqrt(2 / 8) * np.cos(np.pi * (2 * n[None, :] + 1) * n[:, None] / 16)
    basis[0] /= math.sqrt(2)
    basis = basis.astype(np.float32)
    channels, height, width = image.shape
    cells = image.reshape(channels, height // 8, 8, width // 8, 8).transpose(0, 1, 3, 2, 4)
    spectrum = basis @ (cells.astype(np.float32) - 128) @ basis.T
    spectrum = np.round(spectrum / table) * table
    cells = basis.T @ spectrum @ basis + 128
    cells = np.clip(np.round(cells), 0, 255).transpose(0, 1, 3, 2, 4)
    return np.asarray(cells.reshape(channels, height, width), np.uint8)
