"""The transform of :mod:`slidefusion.transforms.dwt` in torch: for the GPU, and to be read.

Same filters, same order of the bands, same results to the rounding of float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from slidefusion.transforms.levels import whole_levels
from slidefusion.transforms.torch_rows import interleave, weighted_sums
from slidefusion.transforms.wavelets import FilterBank, filter_bank

if TYPE_CHECKING:
    import torch

__all__ = ["forward", "inverse"]


def forward(
    image: torch.Tensor, wavelet: str = "db2", levels: int = 4, mode: str = "symmetric"
) -> list[torch.Tensor]:
    """Decompose ``image`` (..., Y, X), float32 on any device; see :func:`dwt.forward`.

    Raises:
        OptionError: unknown wavelet or mode, or ``levels`` no whole number from 1 on.
    """
    import torch

    bank = filter_bank(wavelet, mode)
    pyramid = []
    low = image
    for _ in range(whole_levels(levels)):
        low_y, high_y = _analyse(low, -2, bank)
        low, low_high = _analyse(low_y, -1, bank)
        high_low, high_high = _analyse(high_y, -1, bank)
        pyramid.append(torch.stack([high_low, low_high, high_high], dim=-3))
    return [*pyramid, low]


def inverse(
    pyramid: Sequence[torch.Tensor],
    shape: tuple[int, int],
    wavelet: str = "db2",
    mode: str = "symmetric",
) -> torch.Tensor:
    """Rebuild the image (..., Y, X) of ``shape`` (Y, X); see :func:`dwt.inverse`.

    Raises:
        OptionError: unknown wavelet or mode.
    """
    bank = filter_bank(wavelet, mode)
    *details, low = pyramid
    shapes = [shape, *((band.shape[-2], band.shape[-1]) for band in details[:-1])]
    for band, (height, width) in zip(reversed(details), reversed(shapes), strict=True):
        high_low, low_high, high_high = band.unbind(-3)
        low_y = _synthesise(low, low_high, -1, width, bank)
        high_y = _synthesise(high_low, high_high, -1, width, bank)
        low = _synthesise(low_y, high_y, -2, height, bank)
    return low


def _analyse(x: torch.Tensor, axis: int, bank: FilterBank) -> list[torch.Tensor]:
    import torch

    taps, count = bank.analysis, bank.coefficients(x.shape[axis])
    if bank.periodic and x.shape[axis] % 2:
        # PyWavelets makes an odd length even by repeating the last sample before it wraps around.
        x = torch.cat([x, x.narrow(axis, x.shape[axis] - 1, 1)], dim=axis)
    return weighted_sums(x, axis, taps.at, taps.weights, 2, count, bank.periodic)


def _synthesise(
    low: torch.Tensor, high: torch.Tensor, axis: int, length: int, bank: FilterBank
) -> torch.Tensor:
    taps, count = bank.synthesis_low, (length + 1) // 2
    from_low = weighted_sums(low, axis, taps.at, taps.weights, 1, count, bank.periodic)
    taps = bank.synthesis_high
    from_high = weighted_sums(high, axis, taps.at, taps.weights, 1, count, bank.periodic)
    pair = [one + other for one, other in zip(from_low, from_high, strict=True)]
    return interleave(pair, axis).narrow(axis, 0, length)
