"""The paper's discriminator: a VGG-like PatchGAN, one verdict for each 64 x 64 px.

Source: the method paper, section 3.2 and figure 2.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

__all__ = ["PatchDiscriminator"]


class PatchDiscriminator(nn.Module):
    """Real or generated, patch by patch: (N, C, H, W) to logits (N, 1, H/64, W/64).

    Parameters
    ----------
    channels
        C of the judged image.
    condition
        Channels of the condition given with it (0: the image alone, as in the paper).
    width
        Channels of the first convolutions; 64 is the paper's.

    >>> PatchDiscriminator(width=8)(torch.zeros(1, 3, 512, 512)).shape
    torch.Size([1, 1, 8, 8])
    """

    multiple = 64

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
            layers.append(nn.LeakyReLU(0.2, inplace=True))
            inputs = outputs
        layers.append(nn.MaxPool2d(4, 4))  # 8w, H/64
        layers.append(nn.Conv2d(inputs, 1, 1))
        self.layers = nn.Sequential(*layers)

    def forward(self, image: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
        """Logits of "this patch is real" for an image (N, C, H, W)."""
        x = image if condition is None else torch.cat([image, condition], dim=1)
        logits: torch.Tensor = self.layers(x)
        return logits
