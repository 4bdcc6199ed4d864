"""How far each network sees, measured by gradients against the papers or interval arithmetic."""

from __future__ import annotations

import math

import pytest
import torch

from slidefusion.nets import build
from tests.nets.receptive_field import measured, side_px, smooth


@pytest.fixture(autouse=True)
def same_weights() -> None:
    torch.manual_seed(3)


def test_pix2pix_discriminator_judges_70_px() -> None:
    network = smooth(build("pix2pix_discriminator", condition=0, width=2))
    assert side_px(network, 3, 128, (7, 7)) == 70


def test_patch_discriminator_judges_cells_64_px_apart() -> None:
    network = smooth(build("patch_discriminator", width=2))
    first = measured(network, 3, 320, (2, 2))
    second = measured(network, 3, 320, (3, 2))
    assert second[0] - first[0] == 64
    # Convolutions of stride 1, 2, 1, 2 ... see 61 px; the pool of 4 steps of 16 px adds 48.
    assert side_px(network, 3, 320, (2, 2)) == 61 + 48
    assert (first[0] + first[1]) / 2 == pytest.approx(64 * 2 + 31.5, abs=8)


def test_fusiongan_sees_13_px() -> None:
    network = smooth(build("fusiongan", width=4))
    assert side_px(lambda image: network(image[:, None]), 3, 31, (15, 15)) == 13


@pytest.mark.parametrize("blocks", [1, 4])
def test_srgan_sees_19_px_and_4_more_a_block(blocks: int) -> None:
    network = smooth(build("srgan", width=4, blocks=blocks))
    assert side_px(lambda image: network(image[:, None]), 3, 63, (31, 31)) == 19 + 4 * blocks


@pytest.mark.parametrize("blocks", [1, 4])
def test_nothing_outside_srgan_s_field_changes_a_pixel(blocks: int) -> None:
    network = build("srgan", width=4, blocks=blocks).eval()
    reach = (19 + 4 * blocks) // 2
    stack = torch.rand(1, 1, 3, 48, 48)
    changed = stack.clone()
    changed[..., : 24 - reach, :] = 0
    changed[..., 24 + reach + 1 :, :] = 1
    with torch.no_grad():
        assert torch.equal(network(stack)[..., 24, :], network(changed)[..., 24, :])


def test_focus_classifier_sees_16_px_and_a_margin_of_4() -> None:
    network = smooth(build("focus_classifier", width=2))
    top, bottom, left, right = measured(lambda image: network(image, image), 1, 48, (6, 8))
    assert (top, bottom) == (2 * 6 - 4, 2 * 6 + 15 + 4)
    assert (left, right) == (2 * 8 - 4, 2 * 8 + 15 + 4)


Interval = tuple[int, int]


def through(*steps: str, at: int) -> Interval:
    """Input pixels that output pixel ``at`` depends on; the steps run from output to input."""
    low = high = at
    for step in steps:
        kind, _, size = step.partition(" ")
        if kind == "conv":
            low, high = low - int(size) // 2, high + int(size) // 2
        elif kind == "pool":  # 2 px into one
            low, high = 2 * low, 2 * high + 1
        elif kind == "bilinear":  # twice the size: pixel p lies at p / 2 - 1/4
            low, high = math.floor(low / 2 - 0.25), math.floor(high / 2 - 0.25) + 1
        elif kind == "nearest":
            low, high = low // 2, high // 2
        elif kind == "strided":  # 4 x 4, stride 2, padding 1
            low, high = 2 * low - 1, 2 * high + 2
        elif kind == "transposed":  # 4 x 4, stride 2, padding 1: input i makes 2i - 1 to 2i + 2
            low, high = math.ceil(low / 2 - 1), math.floor((high + 1) / 2)
    return low, high


@pytest.mark.parametrize("upsample", ["bilinear", "nearest"])
def test_generator_sees_as_far_as_its_layers_say(upsample: str) -> None:
    edge = 3
    network = smooth(build("generator", width=2, edge_kernel=edge, upsample=upsample))
    masks = torch.zeros(2, 1, 352, 352)
    at = (171, 176)
    found = measured(lambda image: network(image[:, None], masks), 3, 352, at)
    three = "conv 3"
    steps = [f"conv {edge}", *[three] * 8, upsample, *[three] * 8, upsample, *[three] * 8, upsample]
    steps += [*[three] * 3, "pool", *[three] * 7, "pool", *[three] * 7, "pool", *[three] * 7]
    steps += [f"conv {edge}"]
    assert found == (*through(*steps, at=at[0]), *through(*steps, at=at[1]))


def test_pix2pix_sees_as_far_as_its_layers_say() -> None:
    network = smooth(build("pix2pix", width=2, depth=4))
    at = (60, 67)
    found = measured(lambda image: network(image[:, None]), 3, 128, at)
    steps = ["transposed"] * 4 + ["strided"] * 4
    assert found == (*through(*steps, at=at[0]), *through(*steps, at=at[1]))


@pytest.mark.parametrize(("branch", "side"), [(0, 1), (1, 25), (2, 49), (3, 73)])
def test_branches_of_the_blur_model_at_rates_4_8_and_12(branch: int, side: int) -> None:
    network = smooth(build("blur_model", width=4, blocks=(1, 1, 1)))
    assert side_px(network.branches[branch], 64, 81, (40, 40)) == side
