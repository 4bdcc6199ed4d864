"""Which plane to take at each sample, in torch: the twin of :mod:`slidefusion.fusers.selection`.

All maps are (Y, X) float32 for one plane at a time. Each function is a handful of elementwise
passes over maps, which are a small part of the traffic: the details have several times as many
samples (times channels and orientations).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import pad

from slidefusion.fusers import selection as compiled
from slidefusion.fusers.selection import confidence_of
from slidefusion.value_range import depth_dtype

__all__ = [
    "Choice",
    "Rule",
    "accumulate",
    "depth_of",
    "elect",
    "root",
    "rule_for",
    "smoothed",
    "weigh",
]


class Choice:
    """What is carried from plane to plane for one level: three maps (Y, X)."""

    def __init__(self, height: int, width: int, planes: int, device: torch.device) -> None:
        size = (height, width)
        self.best = torch.zeros(size, device=device)
        """Highest activity so far."""
        self.total = torch.zeros(size, device=device)
        """Sum of the weights."""
        kind = torch.uint8 if depth_dtype(planes) is np.uint8 else torch.int32
        self.plane = torch.zeros(size, dtype=kind, device=device)
        """The plane of the highest activity, the first of equals."""


class Rule(NamedTuple):
    """That of the compiled kernels in plain numbers, which graphs can be made with."""

    window: tuple[float, ...]
    floor: float
    doublings: int


def rule_for(selection: str, power: int, window: int, noise: float) -> Rule:
    """The rule that a fuser's options mean."""
    rule = compiled.rule_for(selection, power, window, noise)
    return Rule(tuple(rule.window.tolist()), float(rule.floor), rule.doublings)


def smoothed(activity: Tensor, rule: Rule) -> Tensor:
    """Average ``activity`` (Y, X) over the window, along y, then along x; the border repeats."""
    taps = rule.window
    radius = len(taps) // 2
    height, width = activity.shape
    rows = pad(activity[None], (0, 0, radius, radius), mode="replicate")[0]
    column = _in_turn([rows[k : k + height] for k in range(len(taps))], taps)
    columns = pad(column[None], (radius, radius, 0, 0), mode="replicate")[0]
    return _in_turn([columns[:, k : k + width] for k in range(len(taps))], taps)


def _in_turn(shifted: list[Tensor], taps: tuple[float, ...]) -> Tensor:
    total = shifted[0] * taps[0]
    for values, tap in zip(shifted[1:], taps[1:], strict=True):
        total.add_(values * tap)
    return total


def weigh(activity: Tensor, rule: Rule, z: Tensor, choice: Choice) -> tuple[Tensor, Tensor]:
    """Weigh plane ``z`` by its smoothed ``activity`` (Y, X) against the planes before it.

    ``z`` is a tensor () of the dtype of ``choice.plane``; ``choice`` is updated. Returns the
    factors ``keep`` of the sums so far and ``gain`` of the plane, both within [0, 1].
    """
    a = activity + rule.floor
    wins = a > choice.best
    highest = torch.maximum(a, choice.best)
    if rule.doublings < 0:
        gain = wins.to(torch.float32)
        keep = 1 - gain
    else:
        ratio = torch.minimum(a, choice.best).div_(highest)
        for _ in range(rule.doublings):
            ratio.mul_(ratio)
        keep = torch.where(wins, ratio, 1.0)
        gain = torch.where(wins, 1.0, ratio)
    choice.total.mul_(keep).add_(gain)
    choice.best.copy_(highest)
    choice.plane.copy_(torch.where(wins, z, choice.plane))
    return keep, gain


def elect(
    activity: Tensor, rule: Rule, vote: int, z: Tensor, choice: Choice
) -> tuple[Tensor, Tensor]:
    """Like :func:`weigh` with a hard rule, for a majority within ``vote`` samples around each.

    A plane takes a sample over when it is the most active so far at more than half of the
    (2 ``vote`` + 1) squared samples around it; activities below the floor are equal.
    """
    height, width = activity.shape
    a = activity.clamp(min=rule.floor)
    wins = (a > choice.best).to(torch.float32)
    choice.best.copy_(torch.maximum(a, choice.best))
    around = pad(wins[None], (vote, vote, vote, vote), mode="replicate")[0]
    ones = (1.0,) * (2 * vote + 1)  # sums of ones and zeros are exact in any order
    rows = _in_turn([around[k : k + height] for k in range(len(ones))], ones)
    votes = _in_turn([rows[:, k : k + width] for k in range(len(ones))], ones)
    taken = votes > (2 * vote + 1) ** 2 // 2
    choice.plane.copy_(torch.where(taken, z, choice.plane))
    gain = taken.to(torch.float32)
    return 1 - gain, gain


def root(squares: Tensor) -> Tensor:
    """The square root of ``squares``, rounded to nearest as IEEE 754 has it; they are used up.

    CUDA rounds so. The CPU build of torch may take it from a library that errs by one unit in the
    last place; from double precision it comes out right.
    """
    if squares.is_cuda:
        return squares.sqrt_()
    return squares.to(torch.float64).sqrt_().to(torch.float32)


def accumulate(sums: Tensor, keep: Tensor, gain: Tensor, values: Tensor) -> None:
    """``sums = sums * keep + gain * values``, in place; ``values`` are used up.

    Three passes. The maps ``keep`` and ``gain`` must broadcast to ``sums``.
    """
    sums.mul_(keep)
    sums.add_(values.mul_(gain))


def depth_of(choice: Choice, planes: int) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint8]]:
    """The plane taken at each sample and the confidence in it, 0 to 255, both (Y, X).

    The confidence is the share of the most active plane in the weights.
    """
    plane = choice.plane.cpu().numpy().astype(depth_dtype(planes))
    return plane, confidence_of(choice.total.cpu().numpy())
