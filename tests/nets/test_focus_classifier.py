"""The Siamese focus classifier: score map and patches agree, both images share one branch."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from slidefusion.nets.focus_classifier import FocusClassifier


def classifier(width: int = 4) -> FocusClassifier:
    torch.manual_seed(7)
    return FocusClassifier(width).eval()


def pair(height: int, width: int, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    first, second = torch.rand(2, 2, 1, height, width, generator=draw)
    return first, second


@pytest.mark.parametrize(("height", "width"), [(16, 16), (18, 16), (64, 40)])
def test_one_score_a_patch_two_pixels_apart(height: int, width: int) -> None:
    with torch.no_grad():
        scores = classifier()(*pair(height, width))
    assert scores.shape == (2, 2, (height - 16) // 2 + 1, (width - 16) // 2 + 1)


def test_score_map_is_the_network_run_patch_by_patch() -> None:
    """With its margin beside it, each patch alone gets the score that the map gives it."""
    network = classifier()
    first, second = pair(40, 44)
    with torch.no_grad():
        scores = network(first, second)
        for row, column in ((2, 2), (3, 7), (10, 12)):
            y, x = 2 * row - network.margin_px, 2 * column - network.margin_px
            side = network.patch_px + 2 * network.margin_px
            crop = (..., slice(y, y + side), slice(x, x + side))
            alone = network(first[crop], second[crop])[:, :, 2, 2]
            torch.testing.assert_close(alone, scores[:, :, row, column], atol=1e-6, rtol=1e-5)


def test_both_images_go_through_the_same_branch() -> None:
    """Swapping the images is the same as swapping the halves of the first dense layer."""
    network = classifier()
    first, second = pair(20, 20)
    with torch.no_grad():
        swapped = network(second, first)
        weight = network.classify[0].weight
        weight.copy_(torch.cat(weight.chunk(2, dim=1)[::-1], dim=1))
        torch.testing.assert_close(network(first, second), swapped)


def test_merged_dense_layers_compute_the_same() -> None:
    network = classifier(8)
    for layer in network.classify:
        torch.nn.init.normal_(layer.bias)
    merged = network.merged()
    assert merged.config == {"width": 8, "dense": False} and not merged.training
    assert merged.merged() is merged
    with torch.no_grad():
        torch.testing.assert_close(merged(*pair(40, 40)), network(*pair(40, 40)))
    assert sum(p.numel() for p in merged.parameters()) < 0.2 * sum(
        p.numel() for p in network.parameters()
    )


def test_gradient_reaches_every_parameter() -> None:
    network = classifier()
    network(*pair(20, 20)).square().sum().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, key


def test_it_learns_which_image_is_sharp() -> None:
    network = classifier().train()
    draw = torch.Generator().manual_seed(1)
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)

    def sample() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        sharp = torch.rand(32, 1, 16, 16, generator=draw)
        blurred = F.avg_pool2d(sharp, 3, 1, 1, count_include_pad=False)
        second = torch.rand(32, generator=draw) < 0.5
        swap = second[:, None, None, None]
        return torch.where(swap, blurred, sharp), torch.where(swap, sharp, blurred), second.long()

    for _ in range(40):
        first, second, which = sample()
        optimiser.zero_grad()
        F.cross_entropy(network(first, second)[:, :, 0, 0], which).backward()
        optimiser.step()
    first, second, which = sample()
    with torch.no_grad():
        assert (network(first, second)[:, :, 0, 0].argmax(1) == which).float().mean() > 0.9
