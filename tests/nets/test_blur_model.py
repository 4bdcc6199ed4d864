"""The blur model: its shapes, its grid, and that it learns what blur is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slidefusion.nets.blur_model import BlurModel


def tiny() -> BlurModel:
    torch.manual_seed(7)
    return BlurModel(width=4, blocks=(1, 1, 1))


@pytest.mark.parametrize("size", [(64, 96), (33, 70), (1, 16)])
def test_shapes_for_any_size(size: tuple[int, int]) -> None:
    network = tiny().eval()
    plane = torch.rand(2, 3, *size)
    with torch.no_grad():
        logits, blurred = network(plane), network.blurred(plane)
    assert logits.shape == (2, 2, *size)
    assert blurred.shape == (2, *size) and blurred.dtype == torch.float32
    torch.testing.assert_close(blurred, logits.softmax(1)[:, 1])


def test_gray_is_a_colour_image_of_equal_channels() -> None:
    network = tiny().eval()
    gray = torch.rand(1, 1, 48, 48)
    with torch.no_grad():
        assert torch.equal(network(gray), network(gray.expand(-1, 3, -1, -1)))


def test_atrous_rates() -> None:
    rates = [
        layer.dilation[0]
        for layer in tiny().modules()
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3) and layer.dilation[0] > 1
    ]
    assert rates == [2] * 3 + [4] * 3 + [8] * 3 + [12] * 3


def test_trunk_ends_at_one_sixteenth_of_the_third_stage() -> None:
    with torch.device("meta"):
        features = BlurModel.full().trunk(torch.rand(1, 3, 512, 512))
    assert features.shape == (1, 1024, 32, 32)


def test_grid_does_not_depend_on_the_size() -> None:
    """Beyond the cells that see the border, a wider plane has the same mask."""
    network = tiny().eval()
    network.further = nn.Sequential()
    network.branches = nn.ModuleList([branch[-1:] for branch in network.branches])
    plane = torch.rand(1, 3, 64, 320)
    with torch.no_grad():
        whole, part = network(plane), network(plane[..., :241])
    torch.testing.assert_close(part[..., :128], whole[..., :128])


def test_gradient_reaches_every_parameter() -> None:
    network = tiny().train()
    F.cross_entropy(network(torch.rand(2, 3, 64, 64)), torch.ones(2, 64, 64).long()).backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, key


def half_blurred(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Texture (4, 3, 64, 64) whose left or right half is blurred, and which (4, 64, 64)."""
    sharp = torch.rand(4, 3, 64, 64, generator=generator)
    blurred = F.avg_pool2d(sharp, 5, 1, 2, count_include_pad=False)
    left = (torch.arange(64) < 32).expand(4, 64, 64)
    mask = torch.where(torch.rand(4, 1, 1, generator=generator) < 0.5, left, ~left)
    return torch.where(mask[:, None], blurred, sharp), mask.long()


def test_it_learns_to_tell_blurred_from_sharp() -> None:
    network = tiny().train()
    draw = torch.Generator().manual_seed(1)
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(40):
        image, mask = half_blurred(draw)
        optimiser.zero_grad()
        F.cross_entropy(network(image), mask).backward()
        optimiser.step()
    image, mask = half_blurred(draw)
    with torch.no_grad():
        found = network.eval().blurred(image) > 0.5
    assert (found == mask.bool()).float().mean() > 0.8
