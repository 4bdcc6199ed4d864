"""What every generator promises, ours and those it is compared with."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import nn

from slidefusion.errors import OptionError
from slidefusion.nets import NETWORKS, build
from slidefusion.nets.working_set import network_bytes

SMALL: dict[str, dict[str, Any]] = {
    "generator": {"width": 4},
    "fusiongan": {"width": 4},
    "pix2pix": {"width": 4, "depth": 5},
    "srgan": {"width": 4, "blocks": 3},
}
every_generator = pytest.mark.parametrize("name", SMALL)


def generator(name: str, **config: Any) -> nn.Module:
    torch.manual_seed(5)
    return build(name, **SMALL[name], **config)


def stack_of(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def masks_of(stack: torch.Tensor) -> torch.Tensor:
    return stack_of(*stack.shape[:2], *stack.shape[3:], seed=2)


def perturbed(network: nn.Module) -> nn.Module:
    """As if trained a little: no layer is zero and batch norm has seen images."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None:
            layer.running_mean.normal_(0.0, 0.1)
    return network


@every_generator
@pytest.mark.parametrize(("planes", "channels"), [(1, 3), (3, 3), (2, 1), (1, 5)])
@pytest.mark.parametrize("residual", [False, True])
def test_shape_and_range(name: str, planes: int, channels: int, residual: bool) -> None:
    network = generator(name, planes=planes, channels=channels, residual=residual)
    network = perturbed(network).eval()
    multiple = int(network.multiple)
    stack = stack_of(2, planes, channels, 2 * multiple, multiple * (1 + 64 // multiple))
    with torch.no_grad():
        image = network(stack, masks_of(stack))
    assert image.shape == (2, channels, *stack.shape[3:])
    assert image.dtype == torch.float32
    assert image.min() >= 0.0 and image.max() <= 1.0
    assert image.std() > 0.01


@every_generator
@pytest.mark.parametrize("planes", [1, 2, 3])
def test_untrained_residual_generator_is_the_middle_plane(name: str, planes: int) -> None:
    network = generator(name, planes=planes, residual=True)
    stack = stack_of(2, planes, 3, 64, 64)
    for mode in (True, False):
        with torch.no_grad():
            image = network.train(mode)(stack, masks_of(stack))
        assert torch.equal(image, stack[:, planes // 2])


@every_generator
def test_residual_output_is_clamped_in_eval_mode_only(name: str) -> None:
    network = generator(name, residual=True)
    stack = torch.ones(2, 1, 3, 64, 64)
    with torch.no_grad():
        network.exit.bias.fill_(5.0)
        assert network.train()(stack, masks_of(stack)).max() > 1.1
        assert network.eval()(stack, masks_of(stack)).max() == 1.0


@every_generator
def test_images_of_a_batch_do_not_meet_in_eval_mode(name: str) -> None:
    network = perturbed(generator(name)).eval()
    stack = stack_of(3, 1, 3, 64, 64)
    masks = masks_of(stack)
    with torch.no_grad():
        together = network(stack, masks)
        alone = torch.cat([network(stack[i : i + 1], masks[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


@every_generator
def test_gradient_reaches_every_parameter(name: str) -> None:
    network = perturbed(generator(name, planes=3, residual=True)).train()
    stack = stack_of(2, 3, 3, 64, 64)
    network(stack, masks_of(stack)).square().mean().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, key


@every_generator
def test_every_plane_and_channel_matters(name: str) -> None:
    network = perturbed(generator(name, planes=3)).eval()
    stack = stack_of(1, 3, 3, 64, 64).requires_grad_()
    network(stack, masks_of(stack)).sum().backward()
    assert stack.grad is not None
    assert (stack.grad.abs().sum((0, 3, 4)) > 0).all()


def test_generator_heeds_its_masks_unless_built_without() -> None:
    stack = stack_of(1, 1, 3, 64, 64)
    for masks, same in ((True, False), (False, True)):
        network = perturbed(generator("generator", masks=masks)).eval()
        with torch.no_grad():
            blurred, sharp = (network(stack, value * torch.ones(1, 1, 64, 64)) for value in (1, 0))
        assert torch.equal(blurred, sharp) == same


@pytest.mark.parametrize("unshuffle", [1, 2])
def test_generator_unshuffle(unshuffle: int) -> None:
    network = generator("generator", residual=True, unshuffle=unshuffle).eval()
    stack = stack_of(1, 1, 3, 32, 48)
    with torch.no_grad():
        assert torch.equal(network(stack, masks_of(stack)), stack[:, 0])


@pytest.mark.parametrize("planes", [1, 3])
@pytest.mark.parametrize("width", [4, 12])
def test_generator_starts_from_one_without_masks(planes: int, width: int) -> None:
    settings = {"planes": planes, "unshuffle": 2, "details": True}
    without = perturbed(build("generator", **settings, width=4, masks=False)).eval()
    masked = build("generator", **settings, width=width).eval()
    masked.start_from(without)
    stack = torch.rand(1, planes, 3, 32, 32)
    blurred = torch.rand(1, planes, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(masked(stack, blurred), without(stack), atol=2e-5, rtol=1e-5)
    masked(stack, blurred).square().sum().backward()
    assert masked.entry[0].weight.grad.flatten(2).norm(dim=2).min() > 0  # so masks can be learned


def test_generator_starts_from_a_narrower_one() -> None:
    """It computes the same, and copies of a channel learn different things."""
    narrow = perturbed(build("generator", width=4, residual=True)).eval()
    wide = build("generator", width=8, residual=True).eval()
    wide.start_from(narrow)
    stack, blurred = torch.rand(1, 1, 3, 32, 32), torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(
            wide(stack, blurred), narrow(stack, blurred), atol=2e-5, rtol=1e-5
        )
    wide(stack, blurred).square().sum().backward()
    learned = wide.down1[0][0].weight.grad.unflatten(0, (-1, 2))
    assert not torch.allclose(learned[:, 0], learned[:, 1], rtol=0.1)


@pytest.mark.parametrize("other", [{"width": 6}, {"planes": 3}, {"residual": True}, {"width": 16}])
def test_generator_starts_from_no_other_network(other: dict[str, Any]) -> None:
    settings = {"planes": 1, "width": 8, **other}
    with pytest.raises(ValueError, match="can start from the same"):
        build("generator", width=8).start_from(build("generator", **settings))
    with pytest.raises(ValueError, match="can start from the same"):
        build("generator", width=8, masks=False).start_from(build("generator", width=8))


def test_detail_bands_are_inputs_of_their_own() -> None:
    """With the weights of the pixels at zero, only details are seen: brightness is not."""
    network = perturbed(generator("generator", planes=3, masks=False, details=True)).eval()
    with torch.no_grad():
        network.entry[0].weight[:, :9] = 0.0
        stack = 0.5 + 0.1 * stack_of(1, 3, 3, 64, 64)
        image, brighter, sharper = (network(s) for s in (stack, stack + 0.2, 1.5 * stack))
    torch.testing.assert_close(image, brighter, atol=1e-4, rtol=0)
    assert (image - sharper).abs().max() > 0.01


@every_generator
def test_mixed_precision_gives_float32_near_full_precision(name: str) -> None:
    network = perturbed(generator(name, residual=True)).eval()
    stack = stack_of(1, 1, 3, 64, 64)
    with torch.no_grad():
        exact = network(stack, masks_of(stack))
        with torch.autocast("cpu", torch.bfloat16):
            mixed = network(stack, masks_of(stack))
    assert mixed.dtype == torch.float32
    assert (mixed - exact).abs().mean() < 0.01


@pytest.mark.parametrize("name", [*SMALL, "blur_model", "focus_classifier"])
def test_built_again_from_its_configuration(name: str) -> None:
    options = SMALL.get(name, {"width": 4})
    network = build(name, **options)
    again = build(name, **json.loads(json.dumps(network.config)))
    assert again.config == network.config
    again.load_state_dict(network.state_dict())


def test_every_name_builds_and_keeps_its_configuration() -> None:
    for name in NETWORKS:
        network = build(name, width=4)
        assert network.config["width"] == 4
        assert int(network.multiple) >= 1


def test_wrong_names_and_options() -> None:
    with pytest.raises(OptionError, match="did you mean 'pix2pix'"):
        build("pix2pixx")
    with pytest.raises(OptionError, match="srgan"):
        build("srgan", deepness=3)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"edge_kernel": 8}, "must be odd"), ({"upsample": "cubic"}, "'nearest'")],
)
def test_what_no_generator_has_is_an_option_error(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        build("generator", **wrong)


def test_memory_of_a_network_whose_card_leaves_out_defaults() -> None:
    given = {"width": 8}
    whole: Any = build("generator", **given)
    expected = network_bytes("generator", dict(whole.config), 64, 1, "float32")
    assert network_bytes("generator", given, 64, 1, "float32") == expected
