"""A convolution as it is run: with its activation inside, on the CPU and on a GPU.

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
from slidefusion.nets.folded_conv import convolve_folded, fold_weight

__all__ = ["ActiveConv", "fold", "slope_of", "tensor"]


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
            self._packed = tensor(
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
        return tensor(result if after is None else result.add_(after))

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


def slope_of(layer: nn.Module) -> float | None:
    """The slope below zero of an activation that is a leaky ReLU at inference, or None."""
    if isinstance(layer, nn.ReLU):
        return 0.0
    if isinstance(layer, nn.LeakyReLU):
        return float(layer.negative_slope)
    if isinstance(layer, nn.PReLU) and layer.num_parameters == 1:
        return float(layer.weight)
    return None


def tensor(result: Any) -> Tensor:
    """``result``, which PyTorch's types call Any."""
    assert isinstance(result, Tensor)
    return result
