"""A network as it is run, not trained: bfloat16, activations inside convolutions, no batch norm.

In the compact networks a convolution of few channels takes about as long as writing its result to
memory, so an activation as an operation of its own costs half as much again. oneDNN applies it
before the result is written. PyTorch has that as an operation of its compiler, which also works
without compiling; where it is missing, or on a GPU, the same modules run the two one after the
other.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from slidefusion.nets.folding import fold_batch_norm
from slidefusion.nets.generator import DenseBlock
from slidefusion.nets.heads import BANDS, ImageHead, middle_plane

__all__ = ["ActiveConv", "for_inference"]


@functools.cache
def _pointwise() -> Any:
    """oneDNN's convolution with an activation, or None where this build has none."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return None
    return getattr(torch.ops.mkldnn, "_convolution_pointwise", None)


class ActiveConv(nn.Module):
    """A convolution, then ``leaky_relu`` with ``slope`` (0 is ReLU, None no activation)."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, conv: nn.Conv2d, slope: float | None = None) -> None:
        super().__init__()
        assert conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
        self.register_buffer("weight", conv.weight.detach())
        self.register_buffer("bias", None if conv.bias is None else conv.bias.detach())
        self.slope = slope
        self.stride, self.padding = list(conv.stride), list(conv.padding)
        self.dilation, self.groups = list(conv.dilation), conv.groups

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) of any float dtype to (N, outputs, h, w) of the weights' dtype."""
        x = x.to(self.weight.dtype).contiguous(memory_format=torch.channels_last)
        shape = self.padding, self.stride, self.dilation, self.groups
        fused = _pointwise() if x.device.type == "cpu" else None
        if fused is not None and self.slope is not None:
            if self.slope == 0:
                result = fused(x, self.weight, self.bias, *shape, "relu", [], "")
            else:
                result = fused(x, self.weight, self.bias, *shape, "leaky_relu", [self.slope], "")
            return _tensor(result)
        result = functional.conv2d(
            x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )
        return result if self.slope is None else functional.leaky_relu_(result, self.slope)


class _Cast(nn.Module):
    """Another layer with weights, which gets its input in their dtype."""

    def __init__(self, layer: nn.ConvTranspose2d) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return _tensor(self.layer(x.to(self.layer.weight.dtype)))


class _FusedDenseBlock(nn.Module):
    """``DenseBlock`` with its activations in the convolutions and its half in the weights."""

    def __init__(self, block: DenseBlock) -> None:
        super().__init__()
        slope = block.activation.negative_slope
        self.first, self.second = ActiveConv(block.first, slope), ActiveConv(block.second, slope)
        self.third = ActiveConv(block.third)
        self.third.weight = self.third.weight * 0.5
        if self.third.bias is not None:
            self.third.bias = self.third.bias * 0.5

    def forward(self, x: Tensor) -> Tensor:
        total = self.first(x).add_(x)
        total = self.second(total).add_(total)
        return _tensor(self.third(total).add_(x))


class _FusedHead(nn.Module):
    """A residual ``ImageHead`` in eval mode with half the passes over memory.

    At full resolution and in float32 its sums cost a third of a compact network, nearly all of it
    for reading and writing: they are done in place, and scaled once.
    """

    def __init__(self, head: ImageHead) -> None:
        super().__init__()
        self.sizes = head.sizes

    def forward(self, features: Tensor, stack: Tensor) -> Tensor:
        middle = middle_plane(stack).float()
        made, shares, gains = torch.split(features.float(), list(self.sizes), dim=1)
        image = made.mul(0.1).tanh_().add_(middle)
        others = [z for z in range(stack.shape[1]) if z != stack.shape[1] // 2]
        shares = torch.tanh(shares)
        for number, z in enumerate(others):
            difference = stack[:, z].float() - middle  # anew: the stack is the caller's
            first = number * (BANDS + 1)
            for k, band in enumerate(_bands(difference), start=first):
                image.addcmul_(shares[:, k : k + 1], band)
        gains = gains.mul(0.25).tanh_()
        for k, band in zip(range(BANDS), _bands(middle), strict=False):
            image.addcmul_(gains[:, k : k + 1], band, value=4)
        return _tensor(image.clamp_(0, 1))


def _bands(image: Tensor) -> Iterator[Tensor]:
    """The detail bands of an image (N, C, H, W), fine to coarse, and then the rest."""
    for number in range(BANDS):
        smooth = _binomial(_binomial(image, 2, 2**number), 3, 2**number).mul_(1 / 256)
        yield image - smooth
        image = smooth
    yield image


def _binomial(image: Tensor, axis: int, step: int) -> Tensor:
    """Sums weighted by 1 4 6 4 1, ``step`` px apart, along an axis; the border is repeated."""
    border = (0, 0, 2 * step, 2 * step) if axis == 2 else (2 * step, 2 * step, 0, 0)
    padded = functional.pad(image, border, mode="replicate")
    at = [padded.narrow(axis, k * step, image.shape[axis]) for k in range(5)]
    result = at[0] + at[4]
    return result.add_(at[1], alpha=4).add_(at[3], alpha=4).add_(at[2], alpha=6)


def for_inference(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy of ``network`` that computes the same in ``dtype``, faster; its image is float32.

    Give it float32 images: only convolutions compute in ``dtype``, and a residual head adds to the
    plane as it was. The last convolution of a generator without residual makes the image itself;
    it stays float32, since bfloat16 has fewer steps than 8 bits.

    >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()).eval()
    >>> for_inference(network, torch.float32)[0]
    ActiveConv()
    """
    copy = fold_batch_norm(network).requires_grad_(False)
    head = getattr(copy, "head", None)
    last = None if head is None or head.residual else copy.exit
    for module in copy.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module is not last:
            module.to(dtype)
    copy = _rewritten(copy)
    return copy.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload,no-any-return]


def _rewritten(module: nn.Module) -> nn.Module:
    if isinstance(module, DenseBlock):
        return _FusedDenseBlock(module)
    if isinstance(module, ImageHead) and module.residual:
        return _FusedHead(module)
    if isinstance(module, nn.Conv2d):
        return ActiveConv(module)
    if isinstance(module, nn.ConvTranspose2d):
        return _Cast(module)
    if isinstance(module, nn.Sequential):
        return _with_activations(module)
    for name, child in module.named_children():
        setattr(module, name, _rewritten(child))
    return module


def _with_activations(layers: nn.Sequential) -> nn.Sequential:
    """Each activation goes into the convolution before it, over what folding left between."""
    result: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, nn.Identity | nn.Dropout):
            continue
        slope = _slope(layer)
        before = result[-1] if result else None
        if slope is not None and isinstance(before, ActiveConv) and before.slope is None:
            before.slope = slope
        else:
            result.append(_rewritten(layer))
    return nn.Sequential(*result)


def _slope(layer: nn.Module) -> float | None:
    """The slope below zero of an activation that is a leaky ReLU at inference, or None."""
    if isinstance(layer, nn.ReLU):
        return 0.0
    if isinstance(layer, nn.LeakyReLU):
        return float(layer.negative_slope)
    if isinstance(layer, nn.PReLU) and layer.num_parameters == 1:
        return float(layer.weight)
    return None


def _tensor(result: Any) -> Tensor:
    assert isinstance(result, Tensor)
    return result
