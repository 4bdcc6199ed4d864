"""The two ends that every generator shares: planes to channels, features to an image.

All generators have one signature, ``forward(stack (N, Z, C, H, W), masks (N, Z, H, W) | None)
-> image (N, C, H, W)``, everything in [0, 1], whatever lies between.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

__all__ = ["ImageHead", "middle_plane", "stack_planes", "zero_start"]

Layer = TypeVar("Layer", nn.Conv2d, nn.ConvTranspose2d)


def stack_planes(stack: Tensor, masks: Tensor | None = None) -> Tensor:
    """Lay the planes, and their blur masks behind them, side by side as channels.

    ``stack``: (N, Z, C, H, W). ``masks``: (N, Z, H, W), or None for a network that takes none.
    Returns (N, Z*C, H, W), or with masks (N, Z*C + Z, H, W).

    >>> stack_planes(torch.zeros(2, 3, 3, 8, 8), torch.zeros(2, 3, 8, 8)).shape
    torch.Size([2, 12, 8, 8])
    """
    planes = stack.flatten(1, 2)
    return planes if masks is None else torch.cat([planes, masks.to(planes.dtype)], dim=1)


def middle_plane(stack: Tensor) -> Tensor:
    """Plane ``Z // 2`` of a stack (N, Z, C, H, W): (N, C, H, W)."""
    return stack[:, stack.shape[1] // 2]


def zero_start(layer: Layer, residual: bool) -> Layer:
    """Zero the last layer of a residual generator, so that untrained it is the middle plane."""
    if residual:
        nn.init.zeros_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return layer


class ImageHead(nn.Module):
    """From the last layer's features (N, ``features``, H, W) to an image (N, C, H, W), float32.

    ``residual=False``, as published: tanh, mapped to [0, 1]; ``features`` is C.

    ``residual=True``: the middle plane, plus for each other plane a learned share in -1 … 1 (tanh)
    of its difference to the middle plane, the same for all channels, plus tanh of a tenth of C
    further features; ``features`` is C + Z - 1. What a plane shows sharply can so be taken from it
    as it is, and only what no plane shows has to be made. (A tenth, so that Adam's first steps
    change the image a little and not wholly.) Clamped to [0, 1] in eval mode only, because the
    gradient of a clamp is zero just where a network that is being trained overshoots.

    float32 because bfloat16 has only 128 steps between 0.5 and 1, fewer than an 8-bit image.
    """

    def __init__(self, residual: bool = False, planes: int = 1, channels: int = 3) -> None:
        super().__init__()
        self.residual = residual
        self.channels = channels
        self.features = channels + planes - 1 if residual else channels

    def forward(self, features: Tensor, stack: Tensor) -> Tensor:
        """``features``: (N, ``features``, H, W), unbounded; ``stack``: (N, Z, C, H, W) in [0, 1]."""
        if not self.residual:
            return torch.tanh(features.float()) * 0.5 + 0.5
        middle = middle_plane(stack).float()
        made, shares = features.float().tensor_split([self.channels], dim=1)
        image = middle + torch.tanh(made * 0.1)
        others = [z for z in range(stack.shape[1]) if z != stack.shape[1] // 2]
        for share, z in zip(torch.tanh(shares).split(1, dim=1), others, strict=bool(others)):
            image = image + share * (stack[:, z].float() - middle)
        return image if self.training else image.clamp(0.0, 1.0)

    def extra_repr(self) -> str:
        return f"residual={self.residual}, features={self.features}"
