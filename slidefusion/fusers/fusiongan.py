"""`fusiongan`: an image by the generator of another paper, for comparison.

Ma et al. 2019: five convolutions, trained against a discriminator of whole images. A baseline.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from slidefusion.fusers.generative import GenerativeFuser

__all__ = ["FusionGan"]


@dataclass(frozen=True)
class FusionGan(GenerativeFuser):
    """FusionGAN (Ma et al. 2019) with the same planes, tiles and data as `focusgan`."""

    name: ClassVar[str] = "fusiongan"
