"""A network as it is run, not trained: activations inside convolutions, no batch norm, bfloat16.

Convolutions are those of `active_conv`, or, in 8 bits, of `int8_layers`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from slidefusion.nets import gpu_kernels
from slidefusion.nets.active_conv import ActiveConv, fold, slope_of, tensor
from slidefusion.nets.blur_model import Bottleneck
from slidefusion.nets.folding import fold_batch_norm
from slidefusion.nets.generator import DenseBlock, UpStage, enlarged_beside
from slidefusion.nets.heads import Entrance, ImageHead
from slidefusion.nets.inference_ends import CompiledEntrance, CompiledHead
from slidefusion.nets.int8_layers import (
    Int8Conv,
    Int8DenseBlock,
    Int8UpStage,
    becomes_int8,
    note_ranges,
)

__all__ = ["for_inference"]


class _Cast(nn.Module):
    """Another layer with weights, which gets its input in their dtype."""

    def __init__(self, layer: nn.ConvTranspose2d) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return tensor(self.layer(x.to(self.layer.weight.dtype)))


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
        total = self.first(x, after=x)
        total = self.second(total, after=total)
        # The result may be written over x, which nothing else reads after this block.
        return tensor(self.third(total, plus=x))


class _FusedUpStage(nn.Module):
    """``UpStage`` of nearest neighbours without the enlarged image.

    Enlarged by 2, an image repeats each pixel, and along an axis the three weights of a convolution
    see only two different pixels. So the weights that meet the same pixel can be added up first.
    The first convolution's part that reads the enlarged image thereby becomes a transposed
    convolution of stride 2 with 4 x 4 sums of weights: 4 multiplications a result instead of 9.
    """

    def __init__(self, stage: UpStage) -> None:
        super().__init__()
        assert stage.upsample == "nearest"
        begin, *rest = stage
        first, activation = begin.children()
        assert isinstance(first, nn.Conv2d)
        half = first.in_channels // 2
        # Without weights of their own, which would be drawn from the user's random numbers.
        skip = nn.Conv2d(half, first.out_channels, 3, padding=1, device="meta")
        skip.weight, skip.bias = nn.Parameter(first.weight[:, half:]), first.bias
        self.skip = ActiveConv(skip, slope_of(activation))
        self.deeper = nn.ConvTranspose2d(
            half, first.out_channels, 4, 2, 1, bias=False, device="meta"
        )
        sums = first.weight.new_tensor([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]])
        weight = torch.einsum("oiyx,ay,bx->ioab", first.weight[:, :half], sums, sums)
        self.deeper.weight = nn.Parameter(weight, requires_grad=False)
        self.rest = _with_activations(nn.Sequential(*rest))

    def forward(self, deeper: Tensor, skip: Tensor) -> Tensor:
        enlarged = self.deeper(deeper.to(self.deeper.weight.dtype))
        return tensor(self.rest(self.skip(skip, plus=enlarged)))


class _LinearUpStage(nn.Module):
    """``UpStage`` of enlarged images that are linear between pixels."""

    def __init__(self, stage: UpStage) -> None:
        super().__init__()
        assert stage.upsample == "bilinear"
        self.layers = _with_activations(nn.Sequential(*(_rewritten(layer) for layer in stage)))

    def forward(self, deeper: Tensor, skip: Tensor) -> Tensor:
        if gpu_kernels.works_on(skip) and deeper.dtype == skip.dtype:
            return tensor(self.layers(gpu_kernels.enlarge_beside(deeper, skip)))
        return tensor(self.layers(enlarged_beside(deeper, skip, "bilinear")))


class _Halve(nn.Module):
    """``AvgPool2d(2)``."""

    def forward(self, x: Tensor) -> Tensor:
        if gpu_kernels.works_on(x):
            return gpu_kernels.halve(x)
        return functional.avg_pool2d(x, 2)


class _FusedBottleneck(nn.Module):
    """``Bottleneck`` with its sum and the activation behind it in the last convolution."""

    def __init__(self, block: Bottleneck) -> None:
        super().__init__()
        self.shortcut = _rewritten(block.shortcut)
        self.body = _rewritten(block.body[:-1])
        last = next(iter(block.body[-1].children()))
        assert isinstance(last, nn.Conv2d)
        self.last = ActiveConv(last, slope=0.0)  # of a single pixel: never in 8 bits

    def forward(self, features: Tensor) -> Tensor:
        shortcut = self.shortcut(features)
        if shortcut is features:  # other branches read the features, too: do not write over them
            shortcut = features.clone()
        return tensor(self.last(self.body(features), plus=shortcut))


def for_inference(
    network: nn.Module, dtype: torch.dtype, ranges: Mapping[str, Tensor] | None = None
) -> nn.Module:
    """A copy of ``network`` that computes the same in ``dtype``, faster; its image is float32.

    Give it float32 images: only convolutions compute in ``dtype``, and a residual head adds to the
    plane as it was. Those that have ``ranges`` of their inputs (`input_ranges`) compute in 8 bits
    instead, on the CPU, beside others in float32. The last convolution of a generator without
    residual makes the image itself; it stays float32 (of bfloat16 on a GPU: becomes float16), since
    bfloat16 has fewer steps than 8 bits.

    >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()).eval()
    >>> for_inference(network, torch.float32)[0]
    ActiveConv()
    """
    assert ranges is None or dtype == torch.float32
    copy = fold_batch_norm(network).requires_grad_(False)
    note_ranges(copy, ranges or {})
    head = getattr(copy, "head", None)
    copy = _rewritten(copy)
    for name, module in copy.named_modules():
        makes_image = head is not None and not head.residual and name.startswith("exit")
        if isinstance(module, ActiveConv | nn.ConvTranspose2d) and not makes_image:
            module.to(dtype)
        if isinstance(module, ActiveConv) and module.weight.is_cuda and dtype == torch.bfloat16:
            fold(module, makes_image)
    entrance = getattr(copy, "entrance", None)
    if isinstance(entrance, Entrance):
        entry = getattr(copy, "entry", [None])[0]
        following = entry if isinstance(entry, Int8Conv) else None
        copy.entrance = CompiledEntrance(entrance, dtype, following)
    return copy.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload,no-any-return]


def _rewritten(module: nn.Module) -> nn.Module:
    if isinstance(module, DenseBlock):
        return Int8DenseBlock(module) if becomes_int8(module) else _FusedDenseBlock(module)
    if isinstance(module, UpStage):
        nearest = module.upsample == "nearest"
        first, *rest = module
        if nearest and becomes_int8(first):
            return Int8UpStage(module, _with_activations(nn.Sequential(*rest)))
        return _FusedUpStage(module) if nearest else _LinearUpStage(module)
    if isinstance(module, nn.AvgPool2d) and module.kernel_size == 2:
        return _Halve()
    if isinstance(module, Bottleneck):
        return _FusedBottleneck(module)
    if isinstance(module, ImageHead) and module.residual:
        return CompiledHead(module)
    if isinstance(module, nn.Conv2d):
        return Int8Conv(module) if becomes_int8(module) else ActiveConv(module)
    if isinstance(module, nn.ConvTranspose2d):
        return _Cast(module)
    if isinstance(module, nn.Sequential):
        return _with_activations(module)
    for name, child in module.named_children():
        setattr(module, name, _rewritten(child))
    return module


def _with_activations(layers: nn.Sequential) -> nn.Sequential:
    """The layers with each activation put into the convolution before it.

    Identities, which folding has left in the place of batch norms, and dropout are left out.
    """
    result: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, nn.Identity | nn.Dropout):
            continue
        slope = slope_of(layer)
        before = result[-1] if result else None
        convolution = before if isinstance(before, ActiveConv | Int8Conv) else None
        if slope is not None and convolution is not None and convolution.slope is None:
            convolution.slope = slope
        else:
            result.append(_rewritten(layer))
    return nn.Sequential(*result)
