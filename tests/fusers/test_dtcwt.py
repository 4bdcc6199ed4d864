"""`dtcwt`: the fuser contract."""

from __future__ import annotations

from typing import ClassVar

from slidefusion.fusers.dtcwt import Dtcwt
from slidefusion.testing import FuserContract


class TestContract(FuserContract):
    fuser_class = Dtcwt
    examples = 6
    options: ClassVar = [
        {"levels": 2},
        {"filters": "legall", "levels": 3, "activity": "magnitude", "window": 2},
        {"filters": "near_sym_b", "qshift": "qshift_d", "levels": 2, "selection": "max"},
        {"qshift": "qshift_06", "levels": 2, "lowpass": "mean", "clamp": False},
    ]
