"""The paper's generator: a U-Net of dense blocks that turns a few planes into one sharp image.

Source: FFusionCGAN, arXiv:2001.00692, section 3.2 and figure 2 (``docs/results.md``). Shapes
are for a tile of H x W px and ``width`` w, with r = ``unshuffle``.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional

from slidefusion.nets.heads import BANDS, Entrance, ImageHead, zero_start
from slidefusion.nets.initial import kaiming_start
from slidefusion.nets.widening import widened

__all__ = ["DenseBlock", "Generator", "UpStage", "enlarged_beside"]


class DenseBlock(nn.Module):
    """Three 3x3 convolutions, each of the sum of all before it; half the last joins the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.third = nn.Conv2d(channels, channels, 3, padding=1)
        self.activation = nn.LeakyReLU(0.2, inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, channels, H, W) to the same shape."""
        total = x + self.activation(self.first(x))
        total = total + self.activation(self.second(total))
        return torch.add(x, self.third(total), alpha=0.5)


def _conv(inputs: int, outputs: int, kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2), nn.PReLU())


def _blocks(channels: int) -> nn.Sequential:
    return nn.Sequential(DenseBlock(channels), DenseBlock(channels))


class UpStage(nn.ModuleList):
    """Layers that see deeper features, enlarged by 2, and the skip of their resolution.

    The first begins with a convolution of (N, channels of both, H, W); ``upsample`` as in
    `Generator`.
    """

    def __init__(self, upsample: Literal["bilinear", "nearest"], *layers: nn.Module) -> None:
        super().__init__(layers)
        self.upsample = upsample

    def forward(self, deeper: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """(N, C, H / 2, W / 2) and (N, C, H, W) to what the last layer makes of them."""
        x = enlarged_beside(deeper, skip, self.upsample)
        for layer in self:
            x = layer(x)
        return x


def enlarged_beside(
    deeper: torch.Tensor, skip: torch.Tensor, upsample: Literal["bilinear", "nearest"]
) -> torch.Tensor:
    """``deeper`` (N, C, H / 2, W / 2) enlarged by 2, and ``skip`` (N, D, H, W) behind it."""
    corners = None if upsample == "nearest" else False
    enlarged = functional.interpolate(deeper, scale_factor=2, mode=upsample, align_corners=corners)
    return torch.cat([enlarged, skip], dim=1)


class Generator(nn.Module):
    """U-Net of dense blocks: (N, Z, C, H, W) and blur masks (N, Z, H, W) to (N, C, H, W).

    Parameters
    ----------
    planes, channels
        Z and C.
    width
        Channels of the first stage; 64 is the paper's generator (16.4 million parameters).
    masks
        Whether a blur mask of each plane is a further input (False is the paper's ablation).
    residual
        Output the middle plane plus a learned difference, instead of the image itself.
    unshuffle
        Fold each r x r px into channels before the first stage and unfold after the last. 1 is
        the paper's; 2 gives a network of the same cost twice the width and twice the reach, which
        is what the compact weights are.
    edge_kernel
        Side of the first and last convolution (9 in the paper).
    details
        Whether the detail bands of each plane are further inputs, strengthened. What tells a
        sharp plane from a blurred one is a few hundredths of the range, which a network takes
        long to find in the pixels themselves.
    upsample
        ``"bilinear"`` (the paper) or ``"nearest"`` (its published code, and faster).

    >>> Generator(width=8)(torch.zeros(1, 1, 3, 64, 64), torch.zeros(1, 1, 64, 64)).shape
    torch.Size([1, 3, 64, 64])
    """

    def __init__(
        self,
        planes: int = 1,
        channels: int = 3,
        width: int = 64,
        *,
        masks: bool = True,
        residual: bool = False,
        unshuffle: int = 1,
        edge_kernel: int = 9,
        details: bool = False,
        upsample: Literal["bilinear", "nearest"] = "bilinear",
    ) -> None:
        super().__init__()
        if upsample not in ("bilinear", "nearest"):
            raise ValueError(f"upsample={upsample!r}: choose 'bilinear' or 'nearest'")
        self.config: dict[str, Any] = {
            "planes": planes,
            "channels": channels,
            "width": width,
            "masks": masks,
            "residual": residual,
            "unshuffle": unshuffle,
            "edge_kernel": edge_kernel,
            "details": details,
            "upsample": upsample,
        }
        self.multiple = 8 * unshuffle
        self.masks = masks
        w = width
        folded = unshuffle * unshuffle
        inputs = planes * (channels + (1 if masks else 0) + (BANDS * channels if details else 0))
        self.entrance = Entrance(unshuffle, details)
        self.entry = _conv(inputs * folded, w, edge_kernel)  # w, H/r
        self.down1 = nn.Sequential(_conv(w, w), _blocks(w))  # w, H/r: skip 1
        self.down2 = nn.Sequential(_conv(w, 2 * w), _blocks(2 * w))  # 2w, H/2r: skip 2
        self.down3 = nn.Sequential(_conv(2 * w, 4 * w), _blocks(4 * w))  # 4w, H/4r: skip 3
        self.halve = nn.AvgPool2d(2)
        self.bottom = nn.Sequential(  # 8w then 4w, H/8r
            _conv(4 * w, 8 * w), _conv(8 * w, 8 * w), _conv(8 * w, 4 * w)
        )
        self.up1 = UpStage(  # with skip 3: 8w, H/4r
            upsample, _conv(8 * w, 4 * w), _blocks(4 * w), _conv(4 * w, 2 * w)
        )
        self.up2 = UpStage(  # with skip 2: 4w, H/2r
            upsample, _conv(4 * w, 2 * w), _blocks(2 * w), _conv(2 * w, w)
        )
        self.up3 = UpStage(  # with skip 1: 2w, H/r
            upsample, _conv(2 * w, w), _blocks(w), _conv(w, w)
        )
        self.head = ImageHead(residual, planes, channels, unshuffle)
        self.exit = nn.Conv2d(w, self.head.features * folded, edge_kernel, padding=edge_kernel // 2)
        kaiming_start(self, slope=0.25)
        for block in self.modules():
            if isinstance(block, DenseBlock):  # near the identity, so that sums stay small
                for layer in (block.first, block.second, block.third):
                    nn.init.kaiming_normal_(layer.weight, a=0.2)
                    with torch.no_grad():
                        layer.weight.mul_(0.3)
        zero_start(self.exit, residual)

    def start_from(self, other: Generator, seed: int = 0) -> None:
        """Take the weights of the same network, of one without masks, or of a narrower one.

        Masks that the other does not know count for nothing at first; where this network has k
        times the width it computes the same (`slidefusion.nets.widening`).

        Raises
        ------
        ValueError
            The two differ in more than that.
        """
        mine, given = self.config, other.config
        shared = {"width": mine["width"], "masks": mine["masks"]}
        unmasked = mine["masks"] and not given["masks"]
        if (
            {**given, **shared} != mine
            or mine["width"] % given["width"]
            or (given["masks"] and not mine["masks"])
        ):
            raise ValueError(
                f"a network of {mine} can start from the same, the same without masks, or a "
                f"narrower one whose width divides {mine['width']}, not from {given}"
            )
        state = dict(other.state_dict())
        if unmasked:
            folded, planes = mine["unshuffle"] ** 2, mine["planes"]
            before = planes * mine["channels"] * folded  # of the entrance's inputs
            entry = state["entry.0.weight"]
            nothing = torch.zeros_like(entry[:, : planes * folded])
            state["entry.0.weight"] = torch.cat(
                [entry[:, :before], nothing, entry[:, before:]], dim=1
            )
        self.load_state_dict(widened(state, self.state_dict(), seed=seed))

    def forward(self, stack: torch.Tensor, masks: torch.Tensor | None = None) -> torch.Tensor:
        """Fuse ``stack`` (N, Z, C, H, W) in [0, 1]; H and W are multiples of ``multiple``."""
        x = self.entry(self.entrance(stack, masks if self.masks else None))
        skip1 = self.down1(x)
        skip2 = self.down2(self.halve(skip1))
        skip3 = self.down3(self.halve(skip2))
        x = self.bottom(self.halve(skip3))
        x = self.up1(x, skip3)
        x = self.up2(x, skip2)
        x = self.up3(x, skip1)
        out: torch.Tensor = self.head(self.exit(x), stack)
        return out
