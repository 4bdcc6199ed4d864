"""`lpp` in torch: the same sums as the compiled kernels, in the same order, for the GPU.

A level of even size (Y, X) is seen as blocks of 2 x 2 samples, four *phases* (Y/2, X/2) that lie
apart. The passes over memory for each plane and each level, counted in reads and writes of the
level's samples: smoothing along y (7) and along x (3.5) to the coarser level, its expansion along y
(3) and along x and the detail (6), the activity (3), the weighted sum (5); with the maps of blocks
and the coarser levels (a third more) about 40, or 160 bytes for each pixel and channel. No level is
padded or interleaved as a pass of its own: each lies in a buffer with room for its border. With
``compiled`` each level is one graph for ``torch.compile``, which joins most of these passes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from slidefusion.fuser import Fused, Planes
from slidefusion.fusers.selection import repeated
from slidefusion.fusers.torch_device import Range, image_of, torch_device, uploaded
from slidefusion.fusers.torch_selection import (
    Choice,
    Rule,
    accumulate,
    depth_of,
    rule_for,
    smoothed,
    weigh,
)
from slidefusion.tiling import round_up
from slidefusion.value_range import value_range

if TYPE_CHECKING:
    from slidefusion.fusers.lpp import Lpp

__all__ = ["fuse", "working_bytes"]

BEFORE, AFTER = 2, 1
"""Samples of border that a level's buffer has room for, on the left and top, right and bottom."""
INSIDE = slice(BEFORE, -AFTER)


@dataclass
class Level:
    """One level of (Y, X) samples of the planes, and what is carried from plane to plane."""

    fine: Tensor
    """(C, Y + 3, X + 3) the level of the plane at hand, border included."""
    detail: Tensor
    """(4, C, Y/2, X/2) weighted sum of the detail, by phase."""
    choice: Choice
    """Of the blocks (Y/2, X/2)."""


def fuse(stack: Planes, fuser: Lpp, *, compiled: bool = False) -> Fused:
    """Fuse ``stack`` (Z, C, Y, X) with the options and on the device of ``fuser``.

    ``compiled`` uses ``torch.compile``: faster on a GPU, after a minute of compiling for each
    shape, and rounding differently in the last bit.

    Raises:
        OptionError: the device cannot be used here.
    """
    device = torch_device(fuser.device)
    with torch.inference_mode():
        return _fuse(stack, fuser, device, torch.compile(_add) if compiled else _add)


def working_bytes(fuser: Lpp, channels: int, rows: int, columns: int) -> int:
    """Upper bound of the bytes of one call for a padded window, on host and device together.

    Counted in images of float32: planes on their way (2 pinned and 2 on the device, widened 1),
    the levels (4/3) and their sums (4/3), what smoothing and the detail need at the finest level
    (3), the range of the planes (2) and the result on both sides (3); then the maps of blocks.
    """
    rows, columns = rows + BEFORE + AFTER, columns + BEFORE + AFTER
    return channels * rows * columns * 4 * 15 + rows * columns * 4 * 6 + 2**20


def _fuse(stack: Planes, fuser: Lpp, device: torch.device, add: Callable[..., None]) -> Fused:
    from slidefusion.fusers.lpp import DEPTH_LEVEL

    count, channels, height, width = stack.shape
    period: int = 2**fuser.levels
    rows, columns = round_up(height, period), round_up(width, period)
    rule = rule_for(fuser.selection, fuser.power, fuser.window, fuser.noise_in(stack.dtype))
    scale = float(np.float32(1 / (4 * channels * value_range(stack.dtype))))
    levels = [_level(channels, rows >> j, columns >> j, count, device) for j in range(fuser.levels)]
    coarsest = _bordered(channels, rows // period, columns // period, device)
    low = torch.zeros((channels, rows // period, columns // period), device=device)
    limits = Range()
    for z, plane in enumerate(uploaded(stack, period, device)):
        if fuser.clamp:
            limits.widen(plane)
        levels[0].fine[:, INSIDE, INSIDE] = plane
        _repeat_border(levels[0].fine)
        index = torch.full((), z, dtype=levels[0].choice.plane.dtype, device=device)
        for j, level in enumerate(levels):
            last = j == fuser.levels - 1
            coarse = coarsest if last else levels[j + 1].fine
            weighed = low if last and fuser.lowpass == "activity" else None
            add(level, coarse, weighed, index, scale, rule)
        if fuser.lowpass == "mean":
            low.add_(coarsest[:, INSIDE, INSIDE])
    if fuser.lowpass == "mean":
        image = low.mul_(float(np.float32(1 / count)))
    else:
        image = low.div_(levels[-1].choice.total)
    for level in reversed(levels):
        image = _rebuilt(image, level)
    fused = image_of(image, limits, stack.dtype, height, width)
    shown = min(DEPTH_LEVEL, fuser.levels - 1)
    maps = depth_of(levels[shown].choice, count)
    depth, confidence = (repeated(one, 2 ** (shown + 1), height, width) for one in maps)
    return Fused(fused, depth, confidence)


def _level(channels: int, rows: int, columns: int, planes: int, device: torch.device) -> Level:
    h, w = rows // 2, columns // 2
    return Level(
        fine=_bordered(channels, rows, columns, device),
        detail=torch.zeros((4, channels, h, w), device=device),
        choice=Choice(h, w, planes, device),
    )


def _bordered(channels: int, rows: int, columns: int, device: torch.device) -> Tensor:
    more = BEFORE + AFTER
    return torch.empty((channels, rows + more, columns + more), device=device)


def _repeat_border(level: Tensor) -> None:
    # Rows first: the columns then carry the corners along.
    level[:, :BEFORE] = level[:, BEFORE : BEFORE + 1]
    level[:, -AFTER:] = level[:, -AFTER - 1 : -AFTER]
    level[:, :, :BEFORE] = level[:, :, BEFORE : BEFORE + 1]
    level[:, :, -AFTER:] = level[:, :, -AFTER - 1 : -AFTER]


def _add(
    level: Level, coarse: Tensor, low: Tensor | None, z: Tensor, scale: float, rule: Rule
) -> None:
    """Add plane ``z`` to the sums of ``level`` and write its next level to ``coarse``.

    ``low``, the weighted sum of the low pass (C, y, x), comes with the coarsest level, if that is
    what becomes of it.
    """
    _reduce(level.fine, coarse)
    details = _details(level.fine, coarse)
    magnitudes = (details[0].abs() + details[1].abs()).add_(details[2].abs() + details[3].abs())
    magnitudes.mul_(scale)
    activity = magnitudes[0]
    for channel in magnitudes[1:]:
        activity = activity + channel
    keep, gain = weigh(smoothed(activity, rule), rule, z, level.choice)
    accumulate(level.detail, keep, gain, details)
    if low is not None:
        accumulate(low, keep, gain, coarse[:, INSIDE, INSIDE])


def _reduce(fine: Tensor, coarse: Tensor) -> None:
    """Smooth ``fine`` with [1 4 6 4 1]/16 both ways, keep every second sample; border included."""
    rows, columns = coarse.shape[1] - BEFORE - AFTER, coarse.shape[2] - BEFORE - AFTER
    column = _smooth([fine[:, k : k + 2 * rows - 1 : 2] for k in range(5)])
    both = _smooth([column[:, :, k : k + 2 * columns - 1 : 2] for k in range(5)])
    coarse[:, INSIDE, INSIDE] = both.mul_(1 / 256)
    _repeat_border(coarse)


def _smooth(samples: list[Tensor]) -> Tensor:
    a, b, c, d, e = samples
    total = a + e
    total.add_(b + d, alpha=4)  # times four is exact, so this rounds once
    return total.add_(c * 6)


def _details(fine: Tensor, coarse: Tensor) -> Tensor:
    """``fine`` less the expansion of ``coarse``: (4, C, Y/2, X/2) at even and odd y and x."""
    channels = coarse.shape[0]
    rows, columns = coarse.shape[1] - BEFORE - AFTER, coarse.shape[2] - BEFORE - AFTER
    details = torch.empty((4, channels, rows, columns), device=fine.device)
    for phase, samples in enumerate(_expanded(coarse[:, 1:, 1:])):
        y, x = BEFORE + phase // 2, BEFORE + phase % 2
        here = fine[:, y : y + 2 * rows - 1 : 2, x : x + 2 * columns - 1 : 2]
        torch.sub(here, samples, out=details[phase])
    return details


def _expanded(coarse: Tensor) -> list[Tensor]:
    """The four phases (C, Y, X) of the expansion of ``coarse`` (C, Y + 2, X + 2), border included.

    Of the five taps, an even sample meets 1, 6 and 1, an odd one 4 and 4.
    """
    above, middle, below = coarse[:, :-2], coarse[:, 1:-1], coarse[:, 2:]
    phases = []
    for column in (_even(above, middle, below), _odd(middle, below)):
        left, here, right = column[..., :-2], column[..., 1:-1], column[..., 2:]
        phases += [_even(left, here, right), _odd(here, right)]
    return phases


def _even(before: Tensor, here: Tensor, after: Tensor) -> Tensor:
    return (before + after).add_(here * 6).mul_(1 / 8)


def _odd(here: Tensor, after: Tensor) -> Tensor:
    return (here + after).mul_(1 / 2)


def _rebuilt(coarse: Tensor, level: Level) -> Tensor:
    """The fused image (C, 2Y, 2X) of one level from that of the coarser one (C, Y, X)."""
    channels, rows, columns = coarse.shape
    bordered = _bordered(channels, rows, columns, coarse.device)
    bordered[:, INSIDE, INSIDE] = coarse
    _repeat_border(bordered)
    share = level.choice.total.reciprocal()
    image = torch.empty((channels, 2 * rows, 2 * columns), device=coarse.device)
    for phase, samples in enumerate(_expanded(bordered[:, 1:, 1:])):
        image[:, phase // 2 :: 2, phase % 2 :: 2] = samples.add_(level.detail[phase] * share)
    return image
