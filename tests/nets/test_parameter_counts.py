"""Parameters at the published widths, counted by arithmetic from the papers' tables of layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from slidefusion import nets


def build(name: str, **config: Any) -> nn.Module:
    with torch.device("meta"):  # shapes without memory: 54 million weights need not be drawn
        return nets.build(name, **config)


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def conv(inputs: int, outputs: int, kernel: int, *, bias: bool = True, norm: bool = False) -> int:
    return inputs * outputs * kernel**2 + outputs * bias + 2 * outputs * norm


def normed(inputs: int, outputs: int, kernel: int) -> int:
    return conv(inputs, outputs, kernel, bias=False, norm=True)


def test_generator() -> None:
    def prelu(inputs: int, outputs: int, kernel: int = 3) -> int:
        return conv(inputs, outputs, kernel) + 1

    def blocks(channels: int) -> int:
        return 2 * 3 * conv(channels, channels, 3)

    entry = prelu(3 + 1, 64, 9)
    down = prelu(64, 64) + blocks(64) + prelu(64, 128) + blocks(128) + prelu(128, 256) + blocks(256)
    bottom = prelu(256, 512) + prelu(512, 512) + prelu(512, 256)
    up1 = prelu(512, 256) + blocks(256) + prelu(256, 128)
    up2 = prelu(256, 128) + blocks(128) + prelu(128, 64)
    up3 = prelu(128, 64) + blocks(64) + prelu(64, 64)
    expected = entry + down + bottom + up1 + up2 + up3 + conv(64, 3, 9)
    assert count(build("generator")) == expected
    assert round(expected / 1e6, 1) == 16.4


def test_patch_discriminator() -> None:
    steps = [(64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512), (512, 512)]
    expected = conv(3, 64, 3) + sum(conv(i, o, 3, norm=True) for i, o in steps) + 512 + 1
    assert count(build("patch_discriminator")) == expected


def test_blur_model() -> None:
    def bottleneck(inputs: int, inner: int, outputs: int) -> int:
        shortcut = normed(inputs, outputs, 1) if inputs != outputs else 0
        return (
            normed(inputs, inner, 1) + normed(inner, inner, 3) + normed(inner, outputs, 1)
        ) + shortcut

    trunk = normed(3, 64, 7)
    trunk += bottleneck(64, 64, 256) + 2 * bottleneck(256, 64, 256)
    trunk += bottleneck(256, 128, 512) + 3 * bottleneck(512, 128, 512)
    trunk += bottleneck(512, 256, 1024) + 5 * bottleneck(1024, 256, 1024)
    # ResNet-50 as published has 25,557,032: less its fourth stage and its classifier
    fourth = bottleneck(1024, 512, 2048) + 2 * bottleneck(2048, 512, 2048)
    assert trunk == 25_557_032 - fourth - (2048 * 1000 + 1000)

    further = 3 * bottleneck(1024, 256, 1024)
    aspp = 4 * normed(1024, 64, 1) + 3 * 3 * bottleneck(1024, 64, 1024)
    expected = trunk + further + aspp + normed(4 * 64, 16, 1) + conv(16, 2, 1)
    assert count(build("blur_model")) == expected


def test_small_blur_model_is_small() -> None:
    from slidefusion.nets.blur_model import BlurModel

    assert count(BlurModel.small()) < 300_000


def test_fusiongan() -> None:
    hidden = normed(3, 256, 5) + normed(256, 128, 5) + normed(128, 64, 3) + normed(64, 32, 3)
    assert count(build("fusiongan")) == hidden + conv(32, 3, 1)
    steps = [(32, 64), (64, 128), (128, 256)]
    expected = conv(3, 32, 3) + sum(conv(i, o, 3, norm=True) for i, o in steps) + 256 + 1
    assert count(build("fusiongan_discriminator")) == expected


def test_pix2pix() -> None:
    encoder = [(64, 128), (128, 256), (256, 512), (512, 512), (512, 512), (512, 512)]
    decoder = [(512, 512), (1024, 512), (1024, 512), (1024, 512), (1024, 256), (512, 128)]
    expected = conv(3, 64, 4) + sum(normed(i, o, 4) for i, o in encoder) + conv(512, 512, 4)
    expected += sum(normed(i, o, 4) for i, o in decoder) + normed(256, 64, 4) + conv(128, 3, 4)
    assert count(build("pix2pix", depth=8)) == expected
    assert round(expected / 1e6, 1) == 54.4  # as commonly given for the published network


def test_pix2pix_discriminator() -> None:
    steps = [(64, 128), (128, 256), (256, 512)]
    expected = conv(6, 64, 4) + sum(normed(i, o, 4) for i, o in steps) + conv(512, 1, 4)
    assert count(build("pix2pix_discriminator")) == expected


def test_srgan() -> None:
    block = 2 * normed(64, 64, 3) + 1
    expected = conv(3, 64, 9) + 1 + 16 * block + normed(64, 64, 3) + conv(64, 3, 9)
    assert count(build("srgan")) == expected
    steps = [(64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512), (512, 512)]
    expected = conv(3, 64, 3) + sum(conv(i, o, 3, norm=True) for i, o in steps)
    assert count(build("srgan_discriminator")) == expected + 512 * 1024 + 1024 + 1024 + 1


def test_focus_classifier() -> None:
    branch = conv(1, 64, 3) + conv(64, 128, 3) + conv(128, 256, 3)
    dense = 8 * 8 * 512 * 256 + 256 + 256 * 2 + 2
    assert count(build("focus_classifier")) == branch + dense
