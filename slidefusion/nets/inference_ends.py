"""The two ends of a network as they are run: on the CPU compiled, on a GPU as tensor operations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from slidefusion.nets.heads import BANDS, Entrance, ImageHead, middle_plane
from slidefusion.nets.int8_layers import Int8Conv

__all__ = ["CompiledEntrance", "CompiledHead"]

_BITS = {torch.uint8: np.uint8, torch.bfloat16: np.uint16, torch.float32: np.uint32}

_INTEGERS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
"""Unsigned integers by their bytes. Compiled loops copy neighbouring values of a line as one."""


class CompiledEntrance(nn.Module):
    """An ``Entrance`` whose result is as the convolution behind it wants it.

    That is channels_last, and bfloat16, float32, or, for one in 8 bits (``following``), uint8.
    """

    def __init__(
        self, entrance: Entrance, dtype: torch.dtype, following: Int8Conv | None = None
    ) -> None:
        super().__init__()
        self.plain = entrance
        self.dtype = dtype if following is None else torch.uint8
        # The convolution is a module of the network and none of this one.
        self.rounded = None if following is None else following.rounded
        self.zero = np.float32(0 if following is None else following.zero)
        factor = np.ones(0, np.float32) if following is None else following.factor
        self.factor = factor[:: entrance.unshuffle**2].copy()

    def forward(self, stack: Tensor, masks: Tensor | None = None) -> Tensor:
        side, (count, _, _, height, width) = self.plain.unshuffle, stack.shape
        bits = _BITS.get(self.dtype)
        size = 0 if bits is None else np.dtype(bits).itemsize * side
        if stack.device.type != "cpu" or size not in _INTEGERS:
            plain: Tensor = self.plain(stack.float(), masks)
            return plain.to(self.dtype) if self.rounded is None else self.rounded(plain)
        from slidefusion.nets.end_kernels import ROWS, fold_details, fold_planes

        stack = stack.float().flatten(1, 2).contiguous()
        behind = stack.shape[1] + (0 if masks is None else masks.shape[1])  # the detail bands
        inputs = behind + (BANDS * stack.shape[1] if self.plain.details else 0)
        folded = torch.empty(
            count, height // side, width // side, side * side * inputs, dtype=self.dtype
        )
        line = np.empty(width, bits)
        factor = self.factor if self.rounded else np.ones(inputs, np.float32)
        for n in range(count):
            out = folded[n].view(torch.uint8).numpy().view(_INTEGERS[size])
            planes = stack[n].numpy()
            parts: list[tuple[Callable[..., None], int]] = [(partial(fold_planes, planes, True), 0)]
            if masks is not None:
                blur = masks[n].float().contiguous().numpy()
                parts.append((partial(fold_planes, blur, False), len(planes)))
            if self.plain.details:
                parts.append((partial(fold_details, planes), behind))
            for top in range(0, height, ROWS):  # all parts of a band while it is in the cache
                for part, first in parts:
                    part(side, line, factor[first:], self.zero, out, side * first, top)
        return folded.permute(0, 3, 1, 2)


class CompiledHead(nn.Module):
    """A residual ``ImageHead`` in eval mode."""

    def __init__(self, head: ImageHead) -> None:
        super().__init__()
        self.sizes, self.unshuffle = head.sizes, head.unshuffle

    def forward(self, features: Tensor, stack: Tensor) -> Tensor:
        size = 2 if features.dtype == torch.bfloat16 else 4
        compiled = features.device.type == "cpu" and size * self.unshuffle in _INTEGERS
        return self._compiled(features, stack) if compiled else self._as_tensors(features, stack)

    def _compiled(self, features: Tensor, stack: Tensor) -> Tensor:
        from slidefusion.nets.end_kernels import ROWS, add_details

        if features.dtype == torch.bfloat16:
            bits = features.view(torch.uint16)
        else:
            bits = features.float().view(torch.uint32)
        bits = bits.permute(0, 2, 3, 1).contiguous()
        stack = stack.float().contiguous()
        line = np.empty(stack.shape[-1], bits[0].numpy().dtype)
        integers = _INTEGERS[line.itemsize * self.unshuffle]
        image = torch.empty(len(stack), *stack.shape[2:])
        for n in range(len(stack)):
            planes, made = stack[n].numpy(), image[n].numpy()
            groups = bits[n].numpy().view(integers)
            for top in range(0, stack.shape[3], ROWS):
                add_details(groups, line, self.unshuffle, planes, made, top)
        return image

    def _as_tensors(self, features: Tensor, stack: Tensor) -> Tensor:
        """With half the passes over memory that ``ImageHead`` takes."""
        features = functional.pixel_shuffle(features, self.unshuffle)
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
        return image.clamp_(0, 1)


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
