"""What the wavelet fusers share in torch: planes in one at a time, sums of a level, the result out.

The twin of :mod:`slidefusion.fusers.subbands` and its kernels: the same numbers in the same order.
The passes over memory for each plane and level, in reads and writes of the level's coefficients:
the transform (about two a tap and sum, see :mod:`torch_filters`), the activity (a square or a
magnitude, and a sum, which stays in the GPU's cache), the weighted sum (five). With ``compiled``
each level is one graph for ``torch.compile``, which joins most of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from slidefusion.fuser import Planes
from slidefusion.fusers.subbands import activity_scale
from slidefusion.fusers.torch_device import Range, uploaded
from slidefusion.fusers.torch_selection import (
    Choice,
    Rule,
    accumulate,
    elect,
    root,
    rule_for,
    smoothed,
    weigh,
)

if TYPE_CHECKING:
    from slidefusion.fusers.dtcwt import Dtcwt
    from slidefusion.fusers.wt import Wt

__all__ = ["Level", "Transform", "sum_planes"]


class Transform(Protocol):
    """One level of a wavelet transform."""

    def __call__(self, source: Tensor, low: Tensor, details: Tensor) -> None:
        """Split ``source``, the image (C, Y, X) or the ``low`` of the level before, into ``low``
        and ``details`` (C, B, y, x)."""


@dataclass
class Level:
    """One level of (y, x) coefficients: what is carried from plane to plane, and scratch."""

    transform: Transform
    """Leads to this level."""
    low: Tensor
    """Low pass of the plane at hand: (C, y, x), or (C, 2y, 2x) stored halved (see `halves`)."""
    details: Tensor
    """(C, B, y, x) details of the plane at hand."""
    sums: Tensor
    """(C, B, y, x) weighted sum of the details."""
    choice: Choice
    """(y, x)."""


def sum_planes(
    stack: Planes,
    options: Wt | Dtcwt,
    levels: list[Level],
    modulus: Callable[[Tensor], Tensor],
    bands: int,
    device: torch.device,
    compiled: bool,
) -> tuple[Tensor, Range]:
    """Add every plane of ``stack`` (Z, C, Y, X) to the sums of ``levels``, which become means.

    ``modulus`` makes of details (C, B, y, x) the magnitudes (C, M, y, x) that are summed when the
    activity is not the energy. The activity is a mean over ``bands`` coefficients.
    """
    rule = rule_for(options.selection, options.power, options.window, options.noise_in(stack.dtype))
    energy = options.activity == "energy"
    scale = float(activity_scale(energy, bands, stack.dtype))
    measure = _Activity(scale, None if energy else modulus)
    add = torch.compile(_add) if compiled else _add
    coarsest = levels[-1]
    low = torch.zeros_like(coarsest.low)
    weighed = low if options.lowpass == "activity" else None
    limits = Range()
    for z, plane in enumerate(uploaded(stack, 2**options.levels, device)):
        if options.clamp:
            limits.widen(plane)
        source = plane.to(torch.float32)
        index = torch.full((), z, dtype=coarsest.choice.plane.dtype, device=device)
        last = z == len(stack) - 1
        for level in levels:
            sums = weighed if level is coarsest else None
            add(level, source, sums, index, last, measure, rule, options.vote)
            source = level.low
        if weighed is None:
            low.add_(coarsest.low)
    if weighed is None:
        low.mul_(float(np.float32(1 / len(stack))))
    return low, limits


def _add(
    level: Level,
    source: Tensor,
    low: Tensor | None,
    z: Tensor,
    last: bool,
    measure: _Activity,
    rule: Rule,
    vote: int,
) -> None:
    """Add plane ``z`` to the sums of ``level``; with the ``last`` plane they become means."""
    level.transform(source, level.low, level.details)
    activity = smoothed(measure(level.details), rule)
    if rule.doublings < 0:
        keep, gain = elect(activity, rule, vote, z, level.choice)
    else:
        keep, gain = weigh(activity, rule, z, level.choice)
        if last:
            share = level.choice.total.reciprocal()
            keep.mul_(share)
            gain.mul_(share)
    accumulate(level.sums, keep, gain, level.details)
    if low is not None:
        quads = halves(low, keep.shape[0], keep.shape[1])
        # As an axis between the halves of y and those of x, where the low pass is stored halved.
        accumulate(quads, keep[:, None], gain[:, None], halves(level.low, *keep.shape))


def halves(low: Tensor, height: int, width: int) -> Tensor:
    """A view (C, Y / height, height, X / width, width) of ``low`` (C, Y, X)."""
    channels, rows, columns = low.shape
    return low.view(channels, rows // height, height, columns // width, width)


@dataclass(frozen=True)
class _Activity:
    """The activity (y, x) of details (C, B, y, x)."""

    scale: float
    modulus: Callable[[Tensor], Tensor] | None
    """None for the energy."""

    def __call__(self, details: Tensor) -> Tensor:
        # Summed one by one: the order of a reduction's own sum depends on the shape.
        values = details * details if self.modulus is None else self.modulus(details)
        first, *others = (band for channel in values for band in channel)
        total = first.clone()
        for band in others:
            total.add_(band)
        return (root(total) if self.modulus is None else total).mul_(self.scale)
