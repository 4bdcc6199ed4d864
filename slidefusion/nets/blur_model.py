"""The blur region recognition model BM: DeepLab v3 on a ResNet-50 that is cut at 1/16 resolution.

Sources: He et al. 2016, "Deep residual learning for image recognition" (the trunk); Chen et al.
2017, "Rethinking atrous convolution for semantic image segmentation" (rate 2 behind the trunk,
ASPP); FFusionCGAN, arXiv:2001.00692, section 3.2.3 (the combination: ResNet-50 up to its 40th
activation, four branches). Every convolution is directly followed by its batch norm, so they can
be folded.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slidefusion.nets.heads import Entrance
from slidefusion.nets.initial import kaiming_start

__all__ = ["BlurModel", "Bottleneck"]

ATROUS_RATES = (4, 8, 12)
STRIDE = 16
CLASSES = 2  # 0: sharp, 1: blurred


def _convolution(
    inputs: int,
    outputs: int,
    kernel_px: int,
    stride: int = 1,
    rate: int = 1,
    *,
    active: bool = True,
) -> nn.Sequential:
    padding = rate * (kernel_px // 2)
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel_px, stride, padding, dilation=rate, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if active else []))


class Bottleneck(nn.Module):
    """ReLU(shortcut + 1x1 down, 3x3 at a stride and rate, 1x1 up); (N, inputs, h, w) in.

    The shortcut is a projection where the number of channels or the resolution changes.
    """

    def __init__(
        self, inputs: int, inner: int, outputs: int, *, stride: int = 1, rate: int = 1
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _convolution(inputs, inner, 1),
            _convolution(inner, inner, 3, stride, rate),
            _convolution(inner, outputs, 1, active=False),
        )
        same = inputs == outputs and stride == 1
        self.shortcut: nn.Module = (
            nn.Identity() if same else _convolution(inputs, outputs, 1, stride, active=False)
        )

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(self.body(features) + self.shortcut(features))


def _stage(inputs: int, inner: int, count: int, stride: int) -> nn.Sequential:
    """``count`` bottlenecks of one ResNet stage, the first with the stride and four times wider."""
    first = Bottleneck(inputs, inner, 4 * inner, stride=stride)
    others = [Bottleneck(4 * inner, inner, 4 * inner) for _ in range(count - 1)]
    return nn.Sequential(first, *others)


class BlurModel(nn.Module):
    """Which pixels of one plane are blurred.

    ``width``: channels of the stem and of each ASPP branch; ``blocks``: bottlenecks of the three
    stages. ``width=64, blocks=(3, 4, 6)`` is ResNet-50's trunk (:meth:`full`);
    :meth:`small` is for laptops. The three bottlenecks at rate 2 keep the third stage's widths;
    those of the branches are ``width`` wide inside.

    >>> BlurModel.small().eval().blurred(torch.rand(2, 3, 64, 96)).shape
    torch.Size([2, 64, 96])
    """

    multiple = STRIDE

    def __init__(
        self, channels: int = 3, width: int = 64, *, blocks: Sequence[int] = (3, 4, 6)
    ) -> None:
        super().__init__()
        self.config = {"channels": channels, "width": width, "blocks": list(blocks)}
        self.channels = channels
        deep = 16 * width
        self.entrance = Entrance()
        self.trunk = nn.Sequential(
            _convolution(channels, width, 7, 2),  # 1/2, width
            nn.MaxPool2d(3, 2, 1),  # 1/4
            _stage(width, width, blocks[0], 1),  # 1/4, 4 width
            _stage(4 * width, 2 * width, blocks[1], 2),  # 1/8, 8 width
            _stage(8 * width, 4 * width, blocks[2], 2),  # 1/16, 16 width
        )
        self.further = nn.Sequential(*(Bottleneck(deep, deep // 4, deep, rate=2) for _ in range(3)))
        branches = [nn.Sequential(_convolution(deep, width, 1))]
        for rate in ATROUS_RATES:
            stack = [Bottleneck(deep, width, deep, rate=rate) for _ in range(3)]
            branches.append(nn.Sequential(*stack, _convolution(deep, width, 1)))
        self.branches = nn.ModuleList(branches)  # each 1/16, width
        decoded = max(width // 4, 4)
        self.decode = _convolution(4 * width, decoded, 1)  # 1/16, width / 4
        self.classify = nn.Conv2d(decoded, CLASSES, 1)
        kaiming_start(self)

    @classmethod
    def full(cls, channels: int = 3) -> BlurModel:
        """The published size."""
        return cls(channels, 64, blocks=(3, 4, 6))

    @classmethod
    def small(cls, channels: int = 3) -> BlurModel:
        """A size that costs a small part of the smallest generator."""
        return cls(channels, 12, blocks=(1, 1, 2))

    def forward(self, plane: Tensor) -> Tensor:
        """``plane``: (N, C, H, W) in [0, 1], any size, or gray (N, 1, H, W).

        Returns the logits of sharp and blurred, (N, 2, H, W), linear between cells of 16 px.
        """
        return _enlarged(self.cells(plane), plane)

    def blurred(self, plane: Tensor) -> Tensor:
        """Probability that a pixel is blurred: (N, C, H, W) in [0, 1] to (N, H, W), float32."""
        logits = self.cells(plane).float()
        return torch.sigmoid(_enlarged(logits[:, 1:] - logits[:, :1], plane)[:, 0])

    def cells(self, plane: Tensor) -> Tensor:
        """The logits (N, 2, h, w) at 1/16 of the resolution."""
        if plane.shape[1] == 1:
            plane = plane.expand(-1, self.channels, -1, -1)
        features = self.further(self.trunk(self.entrance(plane[:, None])))
        features = torch.cat([branch(features) for branch in self.branches], dim=1)
        logits: Tensor = self.classify(self.decode(features))
        return logits


def _enlarged(cells: Tensor, plane: Tensor) -> Tensor:
    """Enlarged by 16 and cut; enlarged to the size of ``plane`` the grid would depend on it."""
    enlarged = F.interpolate(cells, scale_factor=STRIDE, mode="bilinear", align_corners=False)
    return enlarged[..., : plane.shape[2], : plane.shape[3]]
