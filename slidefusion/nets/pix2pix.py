"""Pixel2Pixel: a U-Net of strided convolutions against a 70 x 70 PatchGAN.

Source: Isola et al. 2017, "Image-to-image translation with conditional adversarial networks",
appendix 6.1 (layers) and 6.2 (N(0, 0.02) start). Dropout, the published noise, acts in training
only: a slide must come out the same twice.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from slidefusion.nets.heads import ImageHead, stack_planes, zero_start
from slidefusion.nets.initial import normal_start

__all__ = ["Pix2PixDiscriminator", "Pix2PixGenerator"]

DROPOUT_LAYERS = 3
SLOPE = 0.2


def _down(inputs: int, outputs: int, *, norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, 4, 2, 1, bias=not norm)]
    if norm:
        layers.append(nn.BatchNorm2d(outputs))
    return nn.Sequential(*layers, nn.LeakyReLU(SLOPE))


def _up(inputs: int, outputs: int, *, dropout: bool) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    if dropout:
        layers.append(nn.Dropout(0.5))
    return nn.Sequential(*layers, nn.ReLU())


class Pix2PixGenerator(nn.Module):
    """U-Net of 4x4 convolutions of stride 2, skip connections between equal resolutions.

    Parameters
    ----------
    planes, channels
        Z and C.
    width
        Channels of the first stage; 64 is the paper's (64, 128, 256, then 512 in all others).
    residual
        Output the middle plane plus a learned difference, instead of the image itself.
    depth
        Halvings, at least 3; H and W are multiples of 2 ** depth. The paper's 8 needs tiles of
        256 px; with 7, the default, crops of 128 px can be trained on. Most parameters sit in the
        deepest stages, so fewer halvings make a small network wider for the same size.

    >>> Pix2PixGenerator(width=4, depth=5)(torch.zeros(1, 1, 3, 64, 32)).shape
    torch.Size([1, 3, 64, 32])
    """

    def __init__(
        self,
        planes: int = 1,
        channels: int = 3,
        width: int = 64,
        *,
        residual: bool = False,
        depth: int = 7,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "planes": planes,
            "channels": channels,
            "width": width,
            "residual": residual,
            "depth": depth,
        }
        self.multiple = 2**depth
        widths = [width * min(2**stage, 8) for stage in range(depth)]
        # w, H/2; 2w, H/4; 4w, H/8; 8w, H/16 ... H/2**depth. The innermost has no batch norm: it
        # may be a single px, whose deviation from its own mean is zero.
        self.downs = nn.ModuleList(
            _down(inputs, outputs, norm=0 < stage < depth - 1)
            for stage, (inputs, outputs) in enumerate(
                zip([planes * channels, *widths], widths, strict=False)
            )
        )
        # Dropout only in stages of 8w, as published, however shallow the network is.
        # From the bottom: 8w (with the skip 16w) ... 4w (8w), 2w (4w), w (2w) at H/2
        joined = [widths[-1], *(2 * width for width in reversed(widths[:-1]))]
        self.ups = nn.ModuleList(
            _up(inputs, outputs, dropout=stage < min(DROPOUT_LAYERS, depth - 4))
            for stage, (inputs, outputs) in enumerate(
                zip(joined, reversed(widths[:-1]), strict=False)
            )
        )
        self.head = ImageHead(residual, planes, channels)
        self.exit = nn.ConvTranspose2d(joined[-1], self.head.features, 4, 2, 1)  # C, H
        normal_start(self)
        zero_start(self.exit, residual)

    def forward(self, stack: Tensor, masks: Tensor | None = None) -> Tensor:
        """Fuse ``stack`` (N, Z, C, H, W) in [0, 1]; ``masks`` are not used by this network."""
        x = stack_planes(stack) * 2 - 1
        skips: list[Tensor] = []
        for down in self.downs:
            x = down(x)
            skips.append(x)
        skips.pop()
        for up in self.ups:
            x = torch.cat([up(x), skips.pop()], dim=1)
        image: Tensor = self.head(self.exit(x), stack)
        return image


class Pix2PixDiscriminator(nn.Module):
    """Real or generated, one logit for each 70 x 70 px patch, 8 px apart.

    Parameters
    ----------
    channels
        C of the judged image.
    condition
        Channels of the condition given with it: the paper gives the input, hence Z*C. 0: none.
    width
        Channels of the first layer; 64 is the paper's (64, 128, 256 and 512 channels).

    >>> Pix2PixDiscriminator(condition=3, width=8)(
    ...     torch.zeros(1, 3, 128, 128), torch.zeros(1, 3, 128, 128)
    ... ).shape
    torch.Size([1, 1, 14, 14])
    """

    multiple = 8

    def __init__(self, channels: int = 3, condition: int = 3, width: int = 64) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "channels": channels,
            "condition": condition,
            "width": width,
        }
        layers: list[nn.Module] = []
        inputs = channels + condition
        # w, H/2; 2w, H/4; 4w, H/8; 8w, H/8 - 1
        for number, (outputs, stride) in enumerate(
            ((width, 2), (2 * width, 2), (4 * width, 2), (8 * width, 1))
        ):
            layers.append(nn.Conv2d(inputs, outputs, 4, stride, 1, bias=number == 0))
            if number:
                layers.append(nn.BatchNorm2d(outputs))
            layers.append(nn.LeakyReLU(SLOPE, inplace=True))
            inputs = outputs
        layers.append(nn.Conv2d(inputs, 1, 4, 1, 1))  # 1, H/8 - 2
        self.layers = nn.Sequential(*layers)
        normal_start(self)

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        """Logits of "this patch is real" for ``image`` (N, C, H, W) in [0, 1]."""
        x = image if condition is None else torch.cat([image, condition], dim=1)
        logits: Tensor = self.layers(x * 2 - 1)
        return logits
