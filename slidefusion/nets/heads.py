"""The two ends that every generator shares: planes to channels, features to an image.

All generators have one signature, ``forward(stack (N, Z, C, H, W), masks (N, Z, H, W) | None)
-> image (N, C, H, W)``, everything in [0, 1], whatever lies between.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = [
    "BANDS",
    "Entrance",
    "ImageHead",
    "detail_bands",
    "middle_plane",
    "stack_planes",
    "zero_start",
]

BANDS = 3
"""Detail bands that a residual head strengthens; the coarsest reaches 14 px."""

_STRENGTH = 20.0
"""Factor of the detail bands as inputs. Nuclei and borders of cells, which have 0.02 to 0.1 there,
come to 0.4 to 2."""

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


class Entrance(nn.Module):
    """Planes as a network takes them: white is 0, and r x r px (``unshuffle``) lie in channels.

    Glass then excites nothing, and neither does what lies outside the image, which counts as zeros.
    ``stack`` (N, Z, C, H, W) and ``masks`` (N, Z, H, W), or None, become (N, r * r * inputs, H/r,
    W/r). The inputs are the Z * C planes, their Z masks, and with ``details`` the 3 * Z * C detail
    bands of the planes, strengthened, of which those of the finest band come first.
    """

    def __init__(self, unshuffle: int = 1, details: bool = False) -> None:
        super().__init__()
        self.unshuffle = unshuffle
        self.details = details

    def forward(self, stack: Tensor, masks: Tensor | None = None) -> Tensor:
        """Every input of 1 - ``stack``."""
        x = stack_planes(1.0 - stack, masks)
        if self.details:
            bands = detail_bands(1.0 - stack.flatten(1, 2))  # each (N, Z * C, H, W)
            x = torch.cat([x, *(_STRENGTH * band for band in bands)], dim=1)
        return functional.pixel_unshuffle(x, self.unshuffle)


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

    With ``unshuffle`` r they come as (N, r * r * ``features``, H/r, W/r), r x r px in channels.

    ``residual=False``, as published: tanh, mapped to [0, 1]; ``features`` is C.

    ``residual=True``: the middle plane and three things that are added to it.

    - For each other plane, a share in -1 … 1 of each band of its difference to the middle plane
      (three detail bands and the rest). So what a plane shows sharply can be taken from it as it
      is, at each scale by itself, as multi-scale fusion does.
    - For each detail band of the middle plane, a share in -4 … 4 of it. So detail that blur has
      only weakened can be strengthened again.
    - C features for what is in none of these, as the tanh of a tenth of them. The tenth keeps the
      first steps of Adam from changing the whole image.

    Shares are the same for all channels, so that no coloured fringes arise. ``features`` is
    C + 4 (Z - 1) + 3. The image is clamped to [0, 1] in eval mode only, because the gradient of a
    clamp is zero just where a network in training overshoots.

    The image is float32 because bfloat16 has only 128 steps between 0.5 and 1, fewer than 8 bits.
    """

    def __init__(
        self, residual: bool = False, planes: int = 1, channels: int = 3, unshuffle: int = 1
    ) -> None:
        super().__init__()
        self.residual = residual
        self.unshuffle = unshuffle
        self.sizes = (channels, (planes - 1) * (BANDS + 1), BANDS)
        self.features = sum(self.sizes) if residual else channels

    def forward(self, features: Tensor, stack: Tensor) -> Tensor:
        """Features, unbounded, and stack (N, Z, C, H, W) in [0, 1]."""
        features = functional.pixel_shuffle(features, self.unshuffle)
        if not self.residual:
            return torch.tanh(features.float()) * 0.5 + 0.5
        middle = middle_plane(stack).float()
        made, shares, gains = torch.split(features.float(), list(self.sizes), dim=1)
        image = middle + torch.tanh(made * 0.1)
        others = [z for z in range(stack.shape[1]) if z != stack.shape[1] // 2]
        shares = torch.tanh(shares)
        for number, z in enumerate(others):
            difference = stack[:, z].float() - middle
            details = detail_bands(difference)
            bands = [*details, difference - sum(details)]
            for k, band in enumerate(bands, start=number * len(bands)):
                image = image + shares[:, k : k + 1] * band
        for number, band in enumerate(detail_bands(middle)):
            image = image + 4.0 * torch.tanh(gains[:, number : number + 1] / 4.0) * band
        return image if self.training else image.clamp(0.0, 1.0)

    def extra_repr(self) -> str:
        return f"residual={self.residual}, features={self.features}"


def detail_bands(image: Tensor) -> list[Tensor]:
    """The finest ``BANDS`` bands of an image (N, C, H, W), each an octave, fine to coarse.

    Differences of successive smoothings by (1 4 6 4 1) / 16 with holes of 0, 1 and 3 px (the
    starlet or à trous transform; Starck and Murtagh 2006). Beyond the edge the border is repeated.

    >>> [float(band.abs().max()) for band in detail_bands(torch.ones(1, 3, 8, 8))]
    [0.0, 0.0, 0.0]
    """
    bands = []
    for number in range(BANDS):
        smooth = _smooth(_smooth(image, 2, 2**number), 3, 2**number)
        bands.append(image - smooth)
        image = smooth
    return bands


def _smooth(image: Tensor, axis: int, step: int) -> Tensor:
    reach = 2 * step
    size = image.shape[axis]
    border = (0, 0, reach, reach) if axis == 2 else (reach, reach, 0, 0)
    padded = functional.pad(image, border, mode="replicate")
    at = [padded.narrow(axis, k * step, size) for k in range(5)]
    return (at[0] + at[4]) / 16 + (at[1] + at[3]) / 4 + at[2] * 0.375
