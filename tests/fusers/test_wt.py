"""`wt`: the fuser contract, and the method written with PyWavelets."""

from __future__ import annotations

from typing import ClassVar

from slidefusion.fusers.wt import Wt
from slidefusion.testing import FuserContract


class TestContract(FuserContract):
    fuser_class = Wt
    examples = 6
    options: ClassVar = [
        {"levels": 2},
        {"wavelet": "bior2.2", "levels": 3, "activity": "magnitude", "window": 2},
        {"wavelet": "haar", "levels": 2, "selection": "max", "consistency": 2},
        {"wavelet": "db3", "levels": 2, "lowpass": "mean", "selection": "max", "clamp": False},
    ]
