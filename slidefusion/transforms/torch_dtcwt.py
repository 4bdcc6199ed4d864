"""The transform of :mod:`slidefusion.transforms.dtcwt` in torch: for the GPU, and to be read.

Same filters, same order of the sub-bands, same results to the rounding of float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from slidefusion.transforms.dtcwt import ORIENTATIONS
from slidefusion.transforms.dtcwt_filters import Analysis, Synthesis, dual_tree
from slidefusion.transforms.levels import whole_levels
from slidefusion.transforms.torch_rows import interleave, weighted_sums

if TYPE_CHECKING:
    import torch

__all__ = ["forward", "inverse"]


def forward(
    image: torch.Tensor, levels: int = 4, level1: str = "near_sym_a", qshift: str = "qshift_a"
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Decompose ``image`` (..., Y, X), float32 on any device; see :func:`dtcwt.forward`.

    Returns the low pass (..., y, x) and, for each level, complex sub-bands (..., 6, y, x).

    Raises:
        OptionError: unknown filters, or ``levels`` no whole number from 1 on.
    """
    import torch

    tree = dual_tree(level1, qshift)
    low = _padded(image, 0, image.shape[-2] % 2, 0, image.shape[-1] % 2)
    highpasses = []
    for level in range(1, whole_levels(levels) + 1):
        if level > 1:
            y, x = (low.shape[axis] // 2 % 2 for axis in (-2, -1))
            low = _padded(low, y, y, x, x)
        filters = tree.analysis(level)
        low_y, high_y = _analyse(low, -2, filters)
        low, low_high = _analyse(low_y, -1, filters)
        high_low, high_high = _analyse(high_y, -1, filters)
        bands: list[torch.Tensor] = [low] * 6
        for real, (first, second) in zip(
            (high_low, low_high, high_high), ORIENTATIONS, strict=True
        ):
            bands[first], bands[second] = _to_complex(real)
        highpasses.append(torch.stack(bands, dim=-3))
    return low, highpasses


def inverse(
    lowpass: torch.Tensor,
    highpasses: Sequence[torch.Tensor],
    shape: tuple[int, int],
    level1: str = "near_sym_a",
    qshift: str = "qshift_a",
) -> torch.Tensor:
    """Rebuild the image (..., Y, X) of ``shape`` (Y, X) from what :func:`forward` returned.

    Raises:
        OptionError: unknown filters.
    """
    tree = dual_tree(level1, qshift)
    low = lowpass
    for level in range(len(highpasses), 0, -1):
        bands = highpasses[level - 1]
        high_low, low_high, high_high = (
            _to_real(bands.select(-3, first), bands.select(-3, second))
            for first, second in ORIENTATIONS
        )
        filters = tree.synthesis(level)
        low_y = _synthesise(low, low_high, -1, filters)
        high_y = _synthesise(high_low, high_high, -1, filters)
        low = _synthesise(low_y, high_y, -2, filters)
        finer = shape if level == 1 else tuple(2 * n for n in highpasses[level - 2].shape[-2:])
        for axis in (-2, -1):
            # Above level 1 what was repeated at both ends is cut off, at level 1 at the end only.
            extra = low.shape[axis] - finer[axis]
            low = low.narrow(axis, 0 if level == 1 else extra // 2, finer[axis])
    return low


def _analyse(x: torch.Tensor, axis: int, filters: Analysis) -> list[torch.Tensor]:
    # Low and high pass in their natural order: each tree makes every second sample of both.
    count = x.shape[axis] // filters.step
    bands: list[list[torch.Tensor]] = [[x, x], [x, x]]
    for at, weights, parity in zip(filters.at, filters.weights, filters.parity, strict=True):
        for band, samples in enumerate(weighted_sums(x, axis, at, weights, filters.step, count)):
            bands[band][parity[band]] = samples
    return [interleave(band, axis) for band in bands]


def _synthesise(
    low: torch.Tensor, high: torch.Tensor, axis: int, filters: Synthesis
) -> torch.Tensor:
    count = low.shape[axis] // 2
    firsts, seconds = [], []
    for pair in range(len(filters.low_at)):
        at, weights = filters.low_at[pair], filters.low_weights[pair]
        from_low = weighted_sums(low, axis, at, weights, 2, count)
        at, weights = filters.high_at[pair], filters.high_weights[pair]
        from_high = weighted_sums(high, axis, at, weights, 2, count)
        firsts.append(from_low[0] + from_high[0])
        seconds.append(from_low[1] + from_high[1])
    return interleave(firsts + seconds, axis)


def _to_complex(real: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    # The quad a b / c d makes (a - d + i(b + c)) / sqrt 2 and (a + d + i(b - c)) / sqrt 2.
    import torch

    a, b = real[..., ::2, ::2], real[..., ::2, 1::2]
    c, d = real[..., 1::2, ::2], real[..., 1::2, 1::2]
    scale = 0.5**0.5
    return (
        torch.complex((a - d) * scale, (b + c) * scale),
        torch.complex((a + d) * scale, (b - c) * scale),
    )


def _to_real(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    scale = 0.5**0.5
    above = interleave([(second.real + first.real) * scale, (first.imag + second.imag) * scale], -1)
    below = interleave([(first.imag - second.imag) * scale, (second.real - first.real) * scale], -1)
    return interleave([above, below], -2)


def _padded(x: torch.Tensor, top: int, bottom: int, left: int, right: int) -> torch.Tensor:
    import torch

    rows = [x[..., :1, :]] * top + [x] + [x[..., -1:, :]] * bottom
    x = torch.cat(rows, dim=-2)
    return torch.cat([x[..., :1]] * left + [x] + [x[..., -1:]] * right, dim=-1)
