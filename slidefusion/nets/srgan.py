"""SRGAN: a deep residual network and a VGG-like discriminator, kept at the input's size.

Source: Ledig et al. 2017, "Photo-realistic single image super-resolution using a generative
adversarial network", section 2.1 and figure 4; its two upsampling blocks are left out, as in the
comparison of arXiv:2001.00692. The discriminator's dense layers follow a global average instead of
flattened features, so that images of any size can be judged.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from slidefusion.nets.heads import ImageHead, stack_planes, zero_start
from slidefusion.nets.initial import kaiming_start

__all__ = ["SrganDiscriminator", "SrganGenerator"]

SLOPE = 0.2


def _convolution(channels: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)]


class ResidualBlock(nn.Module):
    """x + (conv, batch norm, PReLU, conv, batch norm); (N, channels, H, W) to the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*_convolution(channels), nn.PReLU(), *_convolution(channels))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


class SrganGenerator(nn.Module):
    """SRResNet without upsampling: residual blocks at full resolution.

    Parameters
    ----------
    planes, channels
        Z and C.
    width
        Channels throughout; 64 is the paper's.
    residual
        Output the middle plane plus a learned difference, instead of the image itself.
    blocks
        Residual blocks; 16 in the paper. The receptive field is 19 + 4 * blocks px.

    >>> SrganGenerator(planes=3, width=8)(torch.zeros(1, 3, 3, 20, 30)).shape
    torch.Size([1, 3, 20, 30])
    """

    multiple = 1

    def __init__(
        self,
        planes: int = 1,
        channels: int = 3,
        width: int = 64,
        *,
        residual: bool = False,
        blocks: int = 16,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "planes": planes,
            "channels": channels,
            "width": width,
            "residual": residual,
            "blocks": blocks,
        }
        self.entry = nn.Sequential(nn.Conv2d(planes * channels, width, 9, padding=4), nn.PReLU())
        self.body = nn.Sequential(
            *(ResidualBlock(width) for _ in range(blocks)), *_convolution(width)
        )
        self.head = ImageHead(residual, planes, channels)
        self.exit = nn.Conv2d(width, self.head.features, 9, padding=4)
        kaiming_start(self, 0.25)  # the slope at which PReLU starts
        zero_start(self.exit, residual)

    def forward(self, stack: Tensor, masks: Tensor | None = None) -> Tensor:
        """Fuse ``stack`` (N, Z, C, H, W) in [0, 1]; ``masks`` are not used by this network."""
        features = self.entry(stack_planes(stack))  # w, H
        image: Tensor = self.head(self.exit(features + self.body(features)), stack)
        return image


class SrganDiscriminator(nn.Module):
    """Eight convolutions and two dense layers: (N, C, H, W) to one logit, (N, 1, 1, 1).

    Parameters
    ----------
    channels
        C of the judged image.
    condition
        Channels of the condition given with it (0: the image alone, as in the paper).
    width
        Channels of the first layer; 64 is the paper's (up to 512, then 1024 dense).

    >>> SrganDiscriminator(width=8)(torch.zeros(2, 3, 40, 50)).shape
    torch.Size([2, 1, 1, 1])
    """

    multiple = 1

    def __init__(self, channels: int = 3, condition: int = 0, width: int = 64) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "channels": channels,
            "condition": condition,
            "width": width,
        }
        w = width
        layers: list[nn.Module] = []
        inputs = channels + condition
        # w, H; w, H/2; 2w, H/2; 2w, H/4; 4w, H/4; 4w, H/8; 8w, H/8; 8w, H/16
        for number, outputs in enumerate((w, w, 2 * w, 2 * w, 4 * w, 4 * w, 8 * w, 8 * w)):
            layers.append(nn.Conv2d(inputs, outputs, 3, stride=1 + number % 2, padding=1))
            if number:
                layers.append(nn.BatchNorm2d(outputs))
            layers.append(nn.LeakyReLU(SLOPE, inplace=True))
            inputs = outputs
        layers += [
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(8 * w, 16 * w, 1),  # the dense layers
            nn.LeakyReLU(SLOPE, inplace=True),
            nn.Conv2d(16 * w, 1, 1),
        ]
        self.layers = nn.Sequential(*layers)
        kaiming_start(self, SLOPE)

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        """Logits of "this image is real" for ``image`` (N, C, H, W) in [0, 1]."""
        x = image if condition is None else torch.cat([image, condition], dim=1)
        logits: Tensor = self.layers(x * 2 - 1)
        return logits
