"""The multi-focus CNN: a Siamese network that tells which of two patches is in focus.

Source: Liu et al. 2017, "Multi-focus image fusion with a deep convolutional neural network",
Information Fusion 36, section 3.2 (layers, 16 x 16 patches) and 3.3 (dense layers as convolutions).
As in the authors' published network nothing lies between the two dense layers.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["FocusClassifier"]


class FocusClassifier(nn.Module):
    """Two gray images to a map of scores, one for each 16 x 16 px patch, 2 px apart.

    Score (i, j) judges rows 2i to 2i + 15 and columns 2j to 2j + 15. A patch of exactly
    ``patch_px`` gives one score. In a larger image the 3x3 convolutions also see the ``margin_px``
    around each patch, where a patch that is given alone has zeros.

    Parameters
    ----------
    width
        Channels of the first layer; 64 is the paper's (64, 128, 256, dense 256).
    dense
        Whether the dense layer of 4 * width is there. Without it the network can compute exactly
        the same, since two linear layers are one: :meth:`merged` makes that one of them, with a
        twentieth of the parameters and a seventh of the work at width 64.

    >>> FocusClassifier(width=4)(torch.zeros(1, 1, 32, 16), torch.zeros(1, 1, 32, 16)).shape
    torch.Size([1, 2, 9, 1])
    """

    multiple = 2
    patch_px = 16
    stride_px = 2
    margin_px = 4

    def __init__(self, width: int = 64, *, dense: bool = True) -> None:
        super().__init__()
        self.config: dict[str, Any] = {"width": width, "dense": dense}
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
        if dense:
            over_patch = nn.Conv2d(8 * w, 4 * w, side)  # 4w, H/2 - 7
            self.classify = nn.Sequential(over_patch, nn.Conv2d(4 * w, 2, 1))
        else:
            self.classify = nn.Sequential(nn.Conv2d(8 * w, 2, side))  # 2, H/2 - 7
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

    @torch.no_grad()
    def merged(self) -> FocusClassifier:
        """The same function with both dense layers in one (see ``dense``); itself if it has one."""
        if not self.config["dense"]:
            return self
        inner, outer = self.classify
        assert isinstance(inner, nn.Conv2d) and isinstance(outer, nn.Conv2d)
        assert inner.bias is not None and outer.bias is not None
        with torch.device("meta"):  # no weights are drawn from the user's random numbers
            result = FocusClassifier(self.config["width"], dense=False)
        result.branch = copy.deepcopy(self.branch)
        weight = outer.weight[:, :, 0, 0].double()  # (2, 4w)
        (only,) = result.classify
        assert isinstance(only, nn.Conv2d)
        merged = torch.einsum("oi,icyx->ocyx", weight, inner.weight.double())
        only.weight = nn.Parameter(merged.float())
        only.bias = nn.Parameter((weight @ inner.bias.double() + outer.bias.double()).float())
        return result.train(self.training)
