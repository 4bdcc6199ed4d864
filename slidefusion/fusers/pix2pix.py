"""`pix2pix`: an image by the generator of another paper, for comparison.

Isola et al. 2017: a U-Net of strided convolutions, trained against a 70 x 70 PatchGAN. A baseline.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from slidefusion.fusers.generative import GenerativeFuser

__all__ = ["Pix2Pix"]


@dataclass(frozen=True)
class Pix2Pix(GenerativeFuser):
    """Pixel2Pixel (Isola et al. 2017) with the same planes, tiles and data as `focusgan`."""

    name: ClassVar[str] = "pix2pix"
