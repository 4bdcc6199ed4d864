"""What every discriminator promises: its map, its condition, its gradients."""

from __future__ import annotations

import pytest
import torch

from slidefusion.nets import build

NAMES = ["patch_discriminator", "pix2pix_discriminator"]
WHOLE_IMAGE = ["fusiongan_discriminator", "srgan_discriminator"]


@pytest.mark.parametrize(
    ("name", "cells"), [("patch_discriminator", 8), ("pix2pix_discriminator", 62)]
)
def test_map_of_512_px(name: str, cells: int) -> None:
    network = build(name, width=2, condition=0).eval()
    with torch.no_grad():
        assert network(torch.rand(1, 3, 512, 512)).shape == (1, 1, cells, cells)


@pytest.mark.parametrize("name", WHOLE_IMAGE)
@pytest.mark.parametrize("size", [(64, 64), (50, 131)])
def test_one_verdict_for_an_image_of_any_size(name: str, size: tuple[int, int]) -> None:
    network = build(name, width=4).eval()
    with torch.no_grad():
        assert network(torch.rand(2, 3, *size)).shape == (2, 1, 1, 1)


@pytest.mark.parametrize("name", NAMES + WHOLE_IMAGE)
@pytest.mark.parametrize(("channels", "condition"), [(3, 0), (1, 3), (3, 9)])
def test_image_and_condition_matter_and_gradient_reaches_all(
    name: str, channels: int, condition: int
) -> None:
    torch.manual_seed(2)
    network = build(name, channels=channels, condition=condition, width=4)
    image = torch.rand(2, channels, 64, 64, requires_grad=True)
    given = torch.rand(2, condition, 64, 64, requires_grad=True) if condition else None
    logits = network(image, given)
    assert logits.shape[:2] == (2, 1)
    logits.square().mean().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
    assert image.grad is not None and (image.grad.abs().sum((0, 2, 3)) > 0).all()
    if given is not None:
        assert given.grad is not None and (given.grad.abs().sum((0, 2, 3)) > 0).all()


@pytest.mark.parametrize("name", NAMES + WHOLE_IMAGE)
def test_logits_are_not_probabilities(name: str) -> None:
    """The sigmoid belongs to the loss: with its last layer negated the verdict is the opposite."""
    torch.manual_seed(2)
    network = build(name, width=4, condition=0).eval()
    last = [layer for layer in network.modules() if isinstance(layer, torch.nn.Conv2d)][-1]
    image = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        before = network(image)
        for parameter in last.parameters():
            parameter.neg_()
        torch.testing.assert_close(network(image), -before)
