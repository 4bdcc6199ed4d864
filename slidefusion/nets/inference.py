"""A network as it is run, not trained: bfloat16, activations inside convolutions, no batch norm.

In the compact networks a convolution of few channels takes about as long as writing its result to
memory, so an activation as an operation of its own costs half as much again. oneDNN can apply the
activation before the result is written. PyTorch offers that as an operation that its compiler uses
and that also works without compiling; where it is missing, the same modules run convolution and
activation one after the other. On a GPU everything that follows a convolution is done in one pass,
by a kernel of this package (`gpu_kernels`).
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from slidefusion.nets import gpu_kernels
from slidefusion.nets.blur_model import Bottleneck
from slidefusion.nets.folded_conv import convolve_folded, fold_weight
from slidefusion.nets.folding import fold_batch_norm
from slidefusion.nets.generator import DenseBlock, UpStage, enlarged_beside
from slidefusion.nets.heads import Entrance, ImageHead
from slidefusion.nets.inference_ends import CompiledEntrance, CompiledHead

__all__ = ["ActiveConv", "fold", "for_inference"]


_FEW = 8
"""Up to so many channels a convolution leaves most of a GPU's matrix units unused."""


@functools.cache
def _has_pointwise(dtype: torch.dtype) -> bool:
    """Whether this build has oneDNN's convolutions with an activation or a sum, for this CPU."""
    if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    return torch.backends.mkldnn.is_available() and all(  # type: ignore[no-untyped-call]
        hasattr(torch.ops.mkldnn, f"_convolution_pointwise{suffix}") for suffix in ("", "_")
    )


class ActiveConv(nn.Module):
    """A convolution, then ``leaky_relu`` with ``slope`` (0 is ReLU, None no activation)."""

    weight: Tensor
    bias: Tensor | None
    folded: Tensor | None

    def __init__(self, conv: nn.Conv2d, slope: float | None = None) -> None:
        super().__init__()
        assert conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
        self.register_buffer("weight", conv.weight.detach())
        self.register_buffer("bias", None if conv.bias is None else conv.bias.detach())
        self.slope = slope
        self.register_buffer("folded", None)
        self.side = 1
        self.stride, self.padding = list(conv.stride), list(conv.padding)
        self.dilation, self.groups = list(conv.dilation), conv.groups
        self._packed: Tensor | None = None

    def _ordered(self, shape: torch.Size) -> Tensor:
        """The weights as oneDNN orders them for such images.

        Otherwise it would do that in every call, which takes a tenth of a small convolution.
        """
        if self._packed is None:
            self._packed = _tensor(
                torch.ops.mkldnn._reorder_convolution_weight(
                    self.weight.contiguous(),
                    self.padding,
                    self.stride,
                    self.dilation,
                    self.groups,
                    list(shape),
                )
            )
        return self._packed

    def fold(self, side: int) -> None:
        """On a GPU, work on ``side`` x ``side`` px in channels where they fit: `folded_conv`."""
        self.side = side
        self.register_buffer("folded", fold_weight(self.weight, side))

    def forward(self, x: Tensor, plus: Tensor | None = None, after: Tensor | None = None) -> Tensor:
        """(N, inputs, H, W) of any float dtype to (N, outputs, h, w) of the weights' dtype.

        ``plus``, of the result's shape and dtype, is added before the activation, and the result
        may be written over it; ``after`` is added after the activation.
        """
        if x.device.type != "cpu":
            return self._on_gpu(x, plus, after)
        x = x.to(self.weight.dtype).contiguous(memory_format=torch.channels_last)
        shape = self.padding, self.stride, self.dilation, self.groups
        if not _has_pointwise(x.dtype):
            result = functional.conv2d(
                x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
            )
            return self._finished(result, plus, after)
        slope = self.slope
        if plus is not None:
            add_to = torch.ops.mkldnn._convolution_pointwise_.binary
            activation = "relu" if slope == 0 else None
            weight = self._ordered(x.shape)
            result = add_to(plus, x, weight, self.bias, *shape, "add", 1.0, activation, [], "")
            if slope:
                functional.leaky_relu_(result, slope)
        else:
            convolve = torch.ops.mkldnn._convolution_pointwise
            name, slopes = ("leaky_relu", [slope]) if slope else ("relu", [])
            if slope is None:
                name = "none"
            weight = self._ordered(x.shape)
            result = convolve(x, weight, self.bias, *shape, name, slopes, "")
        return _tensor(result if after is None else result.add_(after))

    def _on_gpu(self, x: Tensor, plus: Tensor | None, after: Tensor | None) -> Tensor:
        if self.folded is not None and not (x.shape[2] % self.side or x.shape[3] % self.side):
            result = convolve_folded(x, self.folded, self.side)
        else:
            x = x.to(self.weight.dtype).contiguous(memory_format=torch.channels_last)
            result = functional.conv2d(
                x, self.weight, None, self.stride, self.padding, self.dilation, self.groups
            )
        if gpu_kernels.works_on(result):
            return gpu_kernels.finish(result, self.bias, self.slope, plus, after)
        if self.bias is not None:
            result += self.bias[:, None, None]
        return self._finished(result, plus, after)

    def _finished(self, result: Tensor, plus: Tensor | None, after: Tensor | None) -> Tensor:
        if plus is not None:
            result += plus
        if self.slope is not None:
            functional.leaky_relu_(result, self.slope)
        return result if after is None else result.add_(after)


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
        total = self.first(x, after=x)
        total = self.second(total, after=total)
        # The result may be written over x, which nothing else reads after this block.
        return _tensor(self.third(total, plus=x))


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
        self.skip = ActiveConv(skip, _slope(activation))
        self.deeper = nn.ConvTranspose2d(
            half, first.out_channels, 4, 2, 1, bias=False, device="meta"
        )
        sums = first.weight.new_tensor([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]])
        weight = torch.einsum("oiyx,ay,bx->ioab", first.weight[:, :half], sums, sums)
        self.deeper.weight = nn.Parameter(weight, requires_grad=False)
        self.rest = _with_activations(nn.Sequential(*rest))

    def forward(self, deeper: Tensor, skip: Tensor) -> Tensor:
        enlarged = self.deeper(deeper.to(self.deeper.weight.dtype))
        return _tensor(self.rest(self.skip(skip, plus=enlarged)))


class _LinearUpStage(nn.Module):
    """``UpStage`` of enlarged images that are linear between pixels."""

    def __init__(self, stage: UpStage) -> None:
        super().__init__()
        assert stage.upsample == "bilinear"
        self.layers = _with_activations(nn.Sequential(*(_rewritten(layer) for layer in stage)))

    def forward(self, deeper: Tensor, skip: Tensor) -> Tensor:
        if gpu_kernels.works_on(skip) and deeper.dtype == skip.dtype:
            return _tensor(self.layers(gpu_kernels.enlarge_beside(deeper, skip)))
        return _tensor(self.layers(enlarged_beside(deeper, skip, "bilinear")))


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
        self.last = ActiveConv(last, slope=0.0)

    def forward(self, features: Tensor) -> Tensor:
        shortcut = self.shortcut(features)
        if shortcut is features:  # other branches read the features, too: do not write over them
            shortcut = features.clone()
        return _tensor(self.last(self.body(features), plus=shortcut))


def for_inference(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy of ``network`` that computes the same in ``dtype``, faster; its image is float32.

    Give it float32 images: only convolutions compute in ``dtype``, and a residual head adds to the
    plane as it was. The last convolution of a generator without residual makes the image itself;
    it stays float32 (of bfloat16 on a GPU: becomes float16), since bfloat16 has fewer steps than
    8 bits.

    >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()).eval()
    >>> for_inference(network, torch.float32)[0]
    ActiveConv()
    """
    copy = fold_batch_norm(network).requires_grad_(False)
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
        copy.entrance = CompiledEntrance(entrance, dtype)
    return copy.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload,no-any-return]


def fold(conv: ActiveConv, makes_image: bool) -> None:
    """Fold the pixels of ``conv`` into channels if that makes it faster on a GPU.

    The convolution that makes the image becomes float16, which has more steps than 8 bits and
    enough range for an image.
    """
    outputs, inputs, kernel, _ = conv.weight.shape
    if makes_image:
        conv.to(torch.float16)
    same = kernel % 2 == 1 and conv.padding == [kernel // 2] * 2 and conv.stride == [1, 1]
    if same and kernel >= 5 and min(inputs, outputs) <= _FEW:
        conv.fold(4 if outputs <= _FEW else 2)


def _rewritten(module: nn.Module) -> nn.Module:
    if isinstance(module, DenseBlock):
        return _FusedDenseBlock(module)
    if isinstance(module, UpStage):
        nearest = module.upsample == "nearest"
        return _FusedUpStage(module) if nearest else _LinearUpStage(module)
    if isinstance(module, nn.AvgPool2d) and module.kernel_size == 2:
        return _Halve()
    if isinstance(module, Bottleneck):
        return _FusedBottleneck(module)
    if isinstance(module, ImageHead) and module.residual:
        return CompiledHead(module)
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
    """The layers with each activation put into the convolution before it.

    Identities, which folding has left in the place of batch norms, and dropout are left out.
    """
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
