"""Convolutions of 8-bit integers, for processors that multiply these fastest.

A convolution's weights are rounded to -127 … 127 with a step for each of its outputs, its inputs to
0 … 255 with one step and one zero for the image, which follow from the values that its inputs have
(`input_ranges`). Channels of small values would then keep a few of these 256 steps, so each is
divided by a factor of its own first, and the weights are multiplied by it (Xiao et al. 2022,
*SmoothQuant*, arXiv:2211.10438). Products are summed in 32 bits, exactly; sums, activations and
skips between convolutions stay float32.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from slidefusion.nets import int8_kernels as kernels
from slidefusion.nets.active_conv import slope_of, tensor
from slidefusion.nets.generator import DenseBlock, UpStage

__all__ = [
    "Int8Conv",
    "Int8DenseBlock",
    "Int8UpStage",
    "becomes_int8",
    "byte_convolution",
    "note_ranges",
]

_INPUTS_SHARE = 0.7
"""How much of the unevenness of its channels an image loses to the weights."""
_TINY = 1e-6


@functools.cache
def byte_convolution() -> Any:
    """oneDNN's convolution of 8-bit integers, or None where PyTorch was built without it."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return None  # the operation is declared all the same
    names = "qconv_pointwise", "qconv2d_pointwise"  # PyTorch 2.6 has only the second
    return next((getattr(torch.ops.onednn, n) for n in names if hasattr(torch.ops.onednn, n)), None)


def note_ranges(network: nn.Module, ranges: Mapping[str, Tensor]) -> None:
    """Mark the convolutions of ``network`` that are to become 8-bit ones, each with its range.

    An `Entrance` before one folds px into channels, which are ``alike``: they get one factor.
    """
    entrance: Any = getattr(network, "entrance", None)
    for name, module in network.named_modules():
        if name in ranges:
            module.input_range = ranges[name]
            if name == "entry.0" and entrance is not None:
                module.alike = entrance.unshuffle**2


def becomes_int8(layer: nn.Module) -> bool:
    """Whether a convolution, or every one of some layers, is marked."""
    convolutions = [module for module in layer.modules() if isinstance(module, nn.Conv2d)]
    return all(hasattr(conv, "input_range") for conv in convolutions)


class Int8Conv(nn.Module):
    """A marked convolution, then leaky ReLU with ``slope`` (0 is ReLU, None no activation)."""

    def __init__(self, conv: nn.Conv2d, slope: float | None = None) -> None:
        super().__init__()
        self.slope, alike = slope, getattr(conv, "alike", 1)
        weight, ranges = conv.weight.detach().float(), tensor(conv.input_range).float()
        largest = _of_alike(ranges.abs().amax(0), alike)
        weighed = _of_alike(weight.abs().amax((0, 2, 3)), alike)
        factor = largest**_INPUTS_SHARE / weighed ** (1 - _INPUTS_SHARE)
        lowest, highest = float((ranges[0] / factor).min()), float((ranges[1] / factor).max())
        self.step = max(highest - lowest, _TINY) / 255
        self.zero = round(-lowest / self.step)
        self.factor: npt.NDArray[np.float32] = (1 / (factor * self.step)).numpy()
        """Of each channel, from a value to its integer."""
        weight = weight * factor[:, None, None]
        steps = weight.abs().amax((1, 2, 3)).clamp_min(_TINY) / 127
        self.weight = (weight / steps[:, None, None, None]).round().to(torch.int8)
        self.steps, self.zeros = steps, torch.zeros(len(steps), dtype=torch.int32)
        self.bias = None if conv.bias is None else conv.bias.detach().float()
        self.shape = list(conv.stride), list(conv.padding), list(conv.dilation), conv.groups
        self._packed: Tensor | None = None
        self._row = np.empty(0, np.float32)

    def times(self, scale: float) -> Int8Conv:
        """This one, whose results are so many times as large from now on."""
        self.steps = self.steps * scale
        self.bias = None if self.bias is None else self.bias * scale
        return self

    def row_factor(self, width: int) -> npt.NDArray[np.float32]:
        """``factor`` repeated for so many pixels."""
        row = self._row
        if len(row) != width * len(self.factor):
            row = self._row = np.tile(self.factor, width)
        return row

    def rounded(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) float32 as uint8, channels_last."""
        rows = _rows(x)
        out = np.empty(rows.shape, np.uint8)
        kernels.round_rows(rows, self.row_factor(x.shape[3]), np.float32(self.zero), out)
        return _image(out, x)

    def convolved(self, rounded: Tensor, activation: str = "none") -> Tensor:
        """Of what `rounded` gives: (N, outputs, h, w) float32, channels_last."""
        if self._packed is None:  # as oneDNN orders them for such images
            self._packed = tensor(
                torch.ops.onednn.qconv_prepack(
                    self.weight, self.steps, self.step, self.zero, *self.shape, list(rounded.shape)
                )
            )
        image = rounded, self.step, self.zero
        weights = self._packed, self.steps, self.zeros, self.bias
        result = 1.0, 0, torch.float32
        convolve = byte_convolution()
        return tensor(convolve(*image, *weights, *self.shape, *result, activation, [], ""))

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) float32, or what `rounded` gives, to (N, outputs, h, w) float32."""
        rounded = x if x.dtype == torch.uint8 else self.rounded(x)
        result = self.convolved(rounded, "relu" if self.slope == 0 else "none")
        return nn.functional.leaky_relu_(result, self.slope) if self.slope else result


class Int8DenseBlock(nn.Module):
    """``DenseBlock`` with one pass over the image between two convolutions."""

    def __init__(self, block: DenseBlock) -> None:
        super().__init__()
        self.slope = np.float32(block.activation.negative_slope)
        self.first, self.second = Int8Conv(block.first), Int8Conv(block.second)
        self.third = Int8Conv(block.third).times(0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) float32 to the same shape."""
        total, rounded = x, self.first.rounded(x)
        for conv, following in ((self.first, self.second), (self.second, self.third)):
            made = conv.convolved(rounded)
            rows = _rows(made)
            out = np.empty(rows.shape, np.uint8)
            row, zero = following.row_factor(x.shape[3]), np.float32(following.zero)
            kernels.add_active(rows, _rows(total), self.slope, row, zero, out)
            total, rounded = made, _image(out, x)
        return self.third.convolved(rounded).add_(x)


class Int8UpStage(nn.Module):
    """``UpStage`` of nearest neighbours, whose images are enlarged as integers; ``rest`` are its
    layers behind the first convolution and its activation."""

    def __init__(self, stage: UpStage, rest: nn.Module) -> None:
        super().__init__()
        assert stage.upsample == "nearest"
        first, activation = stage[0].children()
        assert isinstance(first, nn.Conv2d)
        self.first, self.rest = Int8Conv(first, slope_of(activation)), rest

    def forward(self, deeper: Tensor, skip: Tensor) -> Tensor:
        """(N, C, h, w) and (N, D, 2 h, 2 w), float32, to (N, outputs, 2 h, 2 w)."""
        count, behind, height, width = skip.shape
        channels = deeper.shape[1] + behind
        out = np.empty((count, height, width, channels), np.uint8)
        given = _pixels(deeper).numpy(), _pixels(skip).numpy()
        for n in range(count):
            zero = np.float32(self.first.zero)
            kernels.round_beside(given[0][n], given[1][n], self.first.factor, zero, out[n])
        return tensor(self.rest(self.first(torch.from_numpy(out).permute(0, 3, 1, 2))))


def _of_alike(values: Tensor, alike: int) -> Tensor:
    """The largest value of those that are alike, for each of them."""
    return values.view(-1, alike).amax(1).clamp_min(_TINY).repeat_interleave(alike)


def _pixels(x: Tensor) -> Tensor:
    """(N, C, H, W) as (N, H, W, C), a view if it is channels_last."""
    return x.permute(0, 2, 3, 1).contiguous()


def _rows(x: Tensor) -> npt.NDArray[np.float32]:
    """(N, C, H, W) as (N * H, W * C), a view if it is channels_last."""
    count, channels, height, width = x.shape
    return _pixels(x).view(count * height, width * channels).numpy()


def _image(rows: npt.NDArray[np.uint8], like: Tensor) -> Tensor:
    """Rows that `_rows` made of such an image, as an image again."""
    count, channels, height, width = like.shape
    return torch.from_numpy(rows).view(count, height, width, channels).permute(0, 3, 1, 2)
