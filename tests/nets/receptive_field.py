"""Receptive fields measured: which input pixels have a gradient from one output pixel."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def measured(
    function: Callable[[Tensor], Tensor], channels: int, size_px: int, at: tuple[int, int]
) -> tuple[int, int, int, int]:
    """First and last row, first and last column that output pixel ``at`` depends on.

    ``function``: (N, channels, H, W) to (N, outputs, h, w), evaluated on a square of ``size_px``.
    Two images are tried, because a ReLU may hide an edge from one.
    """
    image = torch.rand(2, channels, size_px, size_px, requires_grad=True)
    function(image)[:, :, at[0], at[1]].sum().backward()
    assert image.grad is not None
    touched = image.grad.abs().sum((0, 1)) > 0
    rows = touched.any(1).nonzero().flatten()
    columns = touched.any(0).nonzero().flatten()
    return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])


def side_px(
    function: Callable[[Tensor], Tensor], channels: int, size_px: int, at: tuple[int, int]
) -> int:
    """Side of the receptive field of output pixel ``at``, which must be square."""
    top, bottom, left, right = measured(function, channels, size_px, at)
    assert top > 0 and bottom < size_px - 1, "the image is too small to hold the field"
    assert bottom - top == right - left
    return bottom - top + 1


def smooth(network: nn.Module) -> nn.Module:
    """Eval mode, with averages in place of maxima, which let one pixel of each window through."""
    for parent in network.modules():
        for name, layer in parent.named_children():
            if isinstance(layer, nn.MaxPool2d):
                pool = nn.AvgPool2d(layer.kernel_size, layer.stride, layer.padding)
                setattr(parent, name, pool)
    return network.eval().requires_grad_(False)
