"""`srgan`: an image by the generator of another paper, for comparison.

Ledig et al. 2017: residual blocks at full resolution; the upsampling is left out. A baseline.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from slidefusion.fusers.generative import GenerativeFuser

__all__ = ["Srgan"]


@dataclass(frozen=True)
class Srgan(GenerativeFuser):
    """SRGAN (Ledig et al. 2017) kept at the input's size, with the same data as `focusgan`."""

    name: ClassVar[str] = "srgan"
