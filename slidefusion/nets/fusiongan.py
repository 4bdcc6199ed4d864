"""FusionGAN: a plain stack of convolutions against a plain discriminator.

Source: Ma et al. 2019, "FusionGAN: a generative adversarial network for infrared and visible image
fusion", Information Fusion 48, sections 3.2.1 and 3.2.2. Where the paper pads the image once and
convolves without padding, each layer here pads itself. The discriminator's linear layer follows a
global average instead of flattened features, so that images of any size can be judged.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from slidefusion.nets.heads import ImageHead, stack_planes, zero_start
from slidefusion.nets.initial import kaiming_start

__all__ = ["FusionGanDiscriminator", "FusionGanGenerator"]

SLOPE = 0.2


class FusionGanGenerator(nn.Module):
    """Five convolutions at full resolution, receptive field 13 x 13 px.

    Parameters
    ----------
    planes, channels
        Z and C.
    width
        Channels of the third layer; 64 is the paper's (256, 128, 64 and 32 channels).
    residual
        Output the middle plane plus a learned difference, instead of the image itself.

    >>> FusionGanGenerator(planes=3, width=8)(torch.zeros(1, 3, 3, 20, 30)).shape
    torch.Size([1, 3, 20, 30])
    """

    multiple = 1

    def __init__(
        self, planes: int = 1, channels: int = 3, width: int = 64, *, residual: bool = False
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "planes": planes,
            "channels": channels,
            "width": width,
            "residual": residual,
        }
        layers: list[nn.Module] = []
        inputs = planes * channels
        # 4w, 2w, w, w/2, all H x W
        for outputs, kernel in ((4 * width, 5), (2 * width, 5), (width, 3), (width // 2, 3)):
            layers += [
                nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
                nn.BatchNorm2d(outputs),
                nn.LeakyReLU(SLOPE, inplace=True),
            ]
            inputs = outputs
        self.layers = nn.Sequential(*layers)
        self.head = ImageHead(residual, planes, channels)
        self.exit = nn.Conv2d(inputs, self.head.features, 1)
        kaiming_start(self, SLOPE)
        zero_start(self.exit, residual)

    def forward(self, stack: Tensor, masks: Tensor | None = None) -> Tensor:
        """Fuse ``stack`` (N, Z, C, H, W) in [0, 1]; ``masks`` are not used by this network."""
        image: Tensor = self.head(self.exit(self.layers(stack_planes(stack) * 2 - 1)), stack)
        return image


class FusionGanDiscriminator(nn.Module):
    """Four strided convolutions and a linear layer: (N, C, H, W) to one logit, (N, 1, 1, 1).

    Parameters
    ----------
    channels
        C of the judged image.
    condition
        Channels of the condition given with it (0: the image alone, as in the paper).
    width
        Twice the channels of the first layer; 64 is the paper's (32, 64, 128 and 256 channels).

    >>> FusionGanDiscriminator(width=8)(torch.zeros(2, 3, 40, 50)).shape
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
        layers: list[nn.Module] = []
        inputs = channels + condition
        # w/2, H/2; w, H/4; 2w, H/8; 4w, H/16
        for number, outputs in enumerate((width // 2, width, 2 * width, 4 * width)):
            layers.append(nn.Conv2d(inputs, outputs, 3, stride=2, padding=1))
            if number:
                layers.append(nn.BatchNorm2d(outputs))
            layers.append(nn.LeakyReLU(SLOPE, inplace=True))
            inputs = outputs
        layers += [nn.AdaptiveAvgPool2d(1), nn.Conv2d(inputs, 1, 1)]  # the linear layer
        self.layers = nn.Sequential(*layers)
        kaiming_start(self, SLOPE)

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        """Logits of "this image is real" for ``image`` (N, C, H, W) in [0, 1]."""
        x = image if condition is None else torch.cat([image, condition], dim=1)
        logits: Tensor = self.layers(x * 2 - 1)
        return logits
