"""The multi-focus CNN: a Siamese network that tells which of two patches is in focus.

Source: Liu et al. 2017, "Multi-focus image fusion with a deep convolutional neural network",
Information Fusion 36, section 3.2 (layers, 16 x 16 patches) and 3.3 (dense layers as convolutions).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["FocusClassifier"]


class FocusClassifier(nn.Module):
    """Two gray images to a map of scores, one for each 16 x 16 px patch, 2 px apart.

    Score (i, j) judges rows 2i to 2i + 15 and columns 2j to 2j + 15. A patch of exactly
    ``patch_px`` gives one score. Beside more image the 3x3 convolutions also see the 4 px around
    the patch, where a single patch sees zeros.

    Parameters
    ----------
    width
        Channels of the first layer; 64 is the paper's (64, 128, 256, dense 256).

    >>> FocusClassifier(width=4)(torch.zeros(1, 1, 32, 16), torch.zeros(1, 1, 32, 16)).shape
    torch.Size([1, 2, 9, 1])
    """

    multiple = 2
    patch_px = 16
    stride_px = 2

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.config: dict[str, Any] = {"width": width}
        w = width
        self.branch = nn.Sequential(  # shared by both images
            nn.Conv2d(1, w, 3, padding=1),  # w, H
            nn.ReLU(inplace=True),
            nn.Conv2d(w, 2 * w, 3, padding=1),  # 2w, H
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2, 2),  # 2w, H/2
            nn.Conv2d(2 * w, 4 * w, 3, padding=1),  # 4w, H/2
            nn.ReLU(inplace=True),
        )
        side = self.patch_px // self.stride_px
        self.classify = nn.Sequential(
            nn.Conv2d(8 * w, 4 * w, side),  # dense over the patch: 4w, H/2 - 7
            nn.ReLU(inplace=True),
            nn.Conv2d(4 * w, 2, 1),
        )
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.xavier_uniform_(layer.weight)  # as in the paper
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Logits (N, 2, H/2 - 7, W/2 - 7): channel 0 "the first is in focus", 1 "the second is".

        ``first``, ``second``: (N, 1, H, W) in [0, 1], H and W even and at least 16.
        """
        features = self.branch(torch.cat([first, second]) * 2 - 1)  # (2N, 4w, H/2, W/2)
        logits: Tensor = self.classify(torch.cat(features.chunk(2), dim=1))
        return logits
