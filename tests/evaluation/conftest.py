"""Two small stacks with their truths, and fusers that are quick and predictable."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import slidefusion as sf
from slidefusion import metrics
from slidefusion.evaluation import Evaluation
from slidefusion.fuser import Footprint, Fused, PlaneRange

THREE = (-1, 0, 1)
WINDOWS = {"stack 1": [(0, 0), (0, 64)], "stack 2": [(0, 0)]}  # the other one is glass


@dataclass(frozen=True)
class Lighter:
    """The middle plane, ``by`` gray values lighter, and twice that without its blur mask."""

    name: ClassVar[str] = "lighter"
    planes: ClassVar[PlaneRange] = PlaneRange(1, 3)
    footprint: ClassVar[Footprint] = Footprint()
    device: ClassVar[str] = "cpu"
    by: int = 3
    blur_mask: bool = True

    def working_bytes(self, planes: int, channels: int, height: int, width: int) -> int:
        return 8 * channels * height * width

    def __call__(self, stack: Any) -> Fused:
        middle = stack[len(stack) // 2].astype(np.int64) + self.by * (1 if self.blur_mask else 2)
        top = np.iinfo(stack.dtype).max
        return Fused(np.clip(middle, 0, top).astype(stack.dtype))


@dataclass(frozen=True)
class Largest:
    """The largest value of at least two planes."""

    name: ClassVar[str] = "largest"
    planes: ClassVar[PlaneRange] = PlaneRange(2)
    footprint: ClassVar[Footprint] = Footprint()
    device: ClassVar[str] = "cpu"

    def working_bytes(self, planes: int, channels: int, height: int, width: int) -> int:
        return 4 * planes * channels * height * width

    def __call__(self, stack: Any) -> Fused:
        return Fused(np.asarray(stack).max(axis=0))


@dataclass(frozen=True)
class Weightless:
    """A fuser whose weights are missing."""

    name: ClassVar[str] = "weightless"
    planes: ClassVar[PlaneRange] = PlaneRange(1, 3)
    footprint: ClassVar[Footprint] = Footprint()
    device: ClassVar[str] = "cpu"

    def working_bytes(self, planes: int, channels: int, height: int, width: int) -> int:
        return 0

    def __call__(self, stack: Any) -> Fused:
        raise FileNotFoundError("weights are missing")


@dataclass(frozen=True)
class SlowAtFirst(Lighter):
    """Takes a second the first time that it runs in a process with more than a sample's pixels or
    not, as compiling does."""

    name: ClassVar[str] = "slow"
    seconds: ClassVar[float] = 1.0
    ran: ClassVar[int] = 0

    def __call__(self, stack: Any) -> Fused:
        type(self).ran += 1
        if self.ran == 2:  # the first is the sample that says whether it can be used at all
            time.sleep(self.seconds)
        return super().__call__(stack)


@dataclass(frozen=True)
class Case:
    """A stack (C, Z, Y, X) and its truth (C, Y, X)."""

    stack: np.ndarray
    truth: np.ndarray


def make_case(seed: int, *, glass: bool = False) -> Case:
    """3 channels, 5 planes, 70 x 140 px: two patches of 64 px, the right one glass if asked."""
    rng = np.random.default_rng(seed)
    spots = gaussian_filter(rng.normal(0, 1, (3, 70, 140)), (0, 2, 2))
    truth = np.clip(200 - 300 * np.maximum(spots, 0), 0, 255)
    if glass:
        truth[:, :, 60:] = 240
    planes = [gaussian_filter(truth, (0, s, s)) for s in (3.0, 2.0, 1.0, 1.5, 2.5)]
    stack = np.stack(planes, axis=1) + rng.normal(0, 1, (3, 5, 70, 140))
    return Case(np.clip(stack, 0, 255).round().astype(np.uint8), truth.round().astype(np.uint8))


@pytest.fixture(scope="session")
def cases() -> list[Case]:
    return [make_case(1), make_case(2, glass=True)]


def run(cases: list[Case], out: Path, **given: Any) -> Evaluation:
    options: dict[str, Any] = {
        "fusers": {
            "lighter": Lighter(),
            "unmasked": Lighter(blur_mask=False),
            "largest": Largest(),
        },
        "truths": [case.truth for case in cases],
        "patch_px": 64,
        "pictures": 1,
    }
    stacks = [case.stack for case in cases]
    return sf.evaluate(stacks, out=out, **{**options, **given})


def expected(cases: list[Case], method: str, planes: tuple[int, ...]) -> list[dict[str, float]]:
    """Scores of every patch with content, straight from the definitions."""
    scores = []
    for case, corners in zip(cases, WINDOWS.values(), strict=True):
        stack = case.stack[:, [2 + offset for offset in planes]].astype(np.int64)
        middle = case.stack[:, 2].astype(np.int64)
        image = {
            "plane 0": middle,
            "mean of planes": np.rint(stack.mean(axis=1)),
            "lighter": np.minimum(middle + 3, 255),
            "unmasked": np.minimum(middle + 6, 255),
            "largest": stack.max(axis=1),
        }[method].astype(np.uint8)
        for y, x in corners:
            part = np.s_[:, y : y + 64, x : x + 64]
            scores.append(metrics.compare(image[part], case.truth[part]))
    return scores
