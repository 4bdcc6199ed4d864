"""A convolution to or from few channels, for a GPU: its pixels are folded into channels.

The matrix units of a GPU compute many channels at a time. A convolution to three channels uses only
three of them: the last one of the paper's generator, 9x9 from 64 channels, takes many times as long
as its multiplications should. Here blocks of r x r pixels become channels, so the same numbers are
computed by a convolution of r * r times the channels at fewer places.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["convolve_folded", "fold_weight"]


def fold_weight(weight: Tensor, side: int) -> Tensor:
    """(O, I, k, k) for ``side`` x ``side`` px in channels: (side² O, side² I, K, K).

    Channels are ordered by row, column and channel of the image.

    >>> fold_weight(torch.zeros(3, 4, 9, 9), 4).shape
    torch.Size([48, 64, 3, 3])
    """
    outputs, inputs, kernel, _ = weight.shape
    reach = kernel // 2
    blocks = -(-reach // side)
    folded = weight.new_zeros(side, side, outputs, side, side, inputs, *[2 * blocks + 1] * 2)
    for row in range(side):
        for dy in range(-reach, reach + 1):
            block_y, from_row = divmod(row + dy, side)
            for column in range(side):
                for dx in range(-reach, reach + 1):
                    block_x, from_column = divmod(column + dx, side)
                    place = (row, column, slice(None), from_row, from_column, slice(None))
                    folded[*place, block_y + blocks, block_x + blocks] = weight[
                        :, :, dy + reach, dx + reach
                    ]
    folded = folded.flatten(3, 5).flatten(0, 2)
    return folded.contiguous(memory_format=torch.channels_last)


def convolve_folded(x: Tensor, weight: Tensor, side: int) -> Tensor:
    """(N, I, H, W) to (N, O, H, W) of the weight's dtype, channels_last, zeros around the image.

    ``weight`` is folded by ``side``, and H and W are multiples of ``side``.
    """
    count, inputs, height, width = x.shape
    down, across = height // side, width // side
    shape = (count, down, across, side, side)
    folded = torch.empty(*shape, inputs, dtype=weight.dtype, device=x.device)
    nhwc = x.permute(0, 2, 3, 1).reshape(count, down, side, across, side, inputs)
    folded.copy_(nhwc.transpose(2, 3))
    result = functional.conv2d(
        folded.flatten(3).permute(0, 3, 1, 2), weight, padding=weight.shape[-1] // 2
    )
    outputs = result.shape[1] // side**2
    unfolded = result.permute(0, 2, 3, 1).reshape(*shape, outputs).transpose(2, 3)
    return unfolded.reshape(count, height, width, outputs).permute(0, 3, 1, 2)
