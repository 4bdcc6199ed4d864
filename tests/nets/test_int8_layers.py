"""8-bit convolutions against float ones, within what rounding can change."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

torch = pytest.importorskip("torch")
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from slidefusion.nets import int8_layers  # noqa: E402
from slidefusion.nets.generator import DenseBlock, UpStage, enlarged_beside  # noqa: E402
from slidefusion.nets.heads import Entrance  # noqa: E402
from slidefusion.nets.inference import for_inference  # noqa: E402
from slidefusion.nets.inference_ends import CompiledEntrance  # noqa: E402
from slidefusion.nets.input_ranges import measure  # noqa: E402
from slidefusion.nets.int8_layers import (  # noqa: E402
    Int8Conv,
    Int8DenseBlock,
    Int8UpStage,
    note_ranges,
)
from slidefusion.processor import multiplies_bytes  # noqa: E402
from tests.fusers.networks import tiny  # noqa: E402

pytestmark = pytest.mark.skipif(not multiplies_bytes(), reason="this processor has no VNNI")


def marked(conv: nn.Conv2d, *images: Tensor) -> nn.Conv2d:
    """With the whole range of these images noted at it."""
    channels = torch.cat([image.transpose(0, 1).flatten(1) for image in images], dim=1)
    low, high = channels.amin(1).clamp(max=0), channels.amax(1).clamp(min=0)
    note_ranges(conv, {"": torch.stack([low, high])})
    return conv.requires_grad_(False)


def uneven(*shape: int, seed: int = 0) -> Tensor:
    """An image whose channels have very different ranges, not around 0."""
    generator = torch.Generator().manual_seed(seed)
    scale = 10 ** torch.empty(shape[1], 1, 1).uniform_(-2, 1, generator=generator)
    image: Tensor = scale * (torch.randn(shape, generator=generator) + 0.5)
    return image


def error_bound(conv: Int8Conv, plain: nn.Conv2d, image: Tensor) -> Tensor:
    """Half a step of every input, times the weights, and the other way round."""
    factor = torch.from_numpy(conv.factor)[:, None, None]
    step = (0.51 / factor).expand_as(image[:1])  # of an input, with a little for float32
    weight = plain.weight
    of_weight = 0.51 * conv.steps[:, None, None, None] * conv.step * factor
    settings: dict[str, Any] = {
        "stride": plain.stride,
        "padding": plain.padding,
        "dilation": plain.dilation,
    }
    changed = functional.conv2d(step, weight.abs() + of_weight, None, **settings)
    return changed + functional.conv2d(image.abs(), of_weight.expand_as(weight), None, **settings)


@given(
    inputs=st.integers(1, 20),
    outputs=st.integers(1, 20),
    kernel=st.sampled_from([3, 5, 9]),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 2),
    size=st.tuples(st.integers(9, 20), st.integers(9, 20)),
    bias=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_convolution_is_off_by_its_roundings_at_most(
    inputs: int,
    outputs: int,
    kernel: int,
    stride: int,
    dilation: int,
    size: tuple[int, int],
    bias: bool,
    seed: int,
) -> None:
    image = uneven(2, inputs, *size, seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        plain = nn.Conv2d(
            inputs, outputs, kernel, stride, dilation * (kernel // 2), dilation, bias=bias
        )
    conv = Int8Conv(marked(plain, image))
    with torch.inference_mode():
        wanted, found = plain(image), conv(image)
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last) or outputs == 1
    assert bool(((found - wanted).abs() <= error_bound(conv, plain, image) + 1e-5).all())


def test_beyond_an_image_is_exactly_0() -> None:
    """Though 0 is another integer for inputs that are not around 0."""
    image = 5 + torch.rand(1, 4, 16, 16)
    plain = marked(nn.Conv2d(4, 8, 3, padding=1), image, -image / 3)
    conv = Int8Conv(plain)
    assert 0 < conv.zero < 255
    with torch.inference_mode():
        found = conv(torch.zeros(1, 4, 16, 16))
        torch.testing.assert_close(found, plain(torch.zeros(1, 4, 16, 16)), atol=1e-6, rtol=0)


def test_what_lies_beyond_its_range_is_cut() -> None:
    image = uneven(1, 3, 12, 12)
    plain = marked(nn.Conv2d(3, 2, 3, padding=1), image)
    conv = Int8Conv(plain)
    with torch.inference_mode():
        wild = image.clone()
        wild[0, :, 3, 4], wild[0, :, 7, 7] = float("inf"), float("nan")
        assert conv.rounded(wild)[0, :, 3, 4].tolist() == [255] * 3
        assert bool(torch.isfinite(conv(wild)).all())


@pytest.mark.parametrize("slope", [None, 0.0, 0.2])
def test_an_activation_follows(slope: float | None) -> None:
    image = uneven(2, 5, 10, 14)
    conv = Int8Conv(marked(nn.Conv2d(5, 6, 3, padding=1), image))
    with torch.inference_mode():
        wanted = conv(image)
        wanted = wanted if slope is None else functional.leaky_relu(wanted, slope)
        conv.slope = slope
        torch.testing.assert_close(conv(image), wanted)
        torch.testing.assert_close(conv(conv.rounded(image)), wanted)


def test_older_pytorch_has_the_same_operation_under_another_name() -> None:
    image = uneven(2, 5, 10, 14)
    conv = Int8Conv(marked(nn.Conv2d(5, 6, 3, padding=1), image))
    with torch.inference_mode():
        wanted = conv(image)
        older = torch.ops.onednn.qconv2d_pointwise
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(int8_layers, "byte_convolution", lambda: older)
            assert torch.equal(conv(image), wanted)


def test_a_dense_block_is_its_convolutions() -> None:
    block = DenseBlock(6).eval().requires_grad_(False)
    image = uneven(2, 6, 16, 24).to(memory_format=torch.channels_last)
    note_ranges(block, measure(block, lambda: block(image)))
    convs = [Int8Conv(conv) for conv in (block.first, block.second, block.third)]
    with torch.inference_mode():
        total = image
        for conv in convs[:2]:
            total = total + functional.leaky_relu(conv(total), 0.2)
        wanted = image + 0.5 * convs[2](total)
        before = image.clone()
        torch.testing.assert_close(Int8DenseBlock(block)(image), wanted, atol=1e-5, rtol=1e-5)
        assert torch.equal(image, before)


def test_an_up_stage_rounds_the_enlarged_image() -> None:
    first = nn.Sequential(nn.Conv2d(8, 4, 3, padding=1), nn.PReLU())
    stage = UpStage("nearest", first, nn.Identity()).eval().requires_grad_(False)
    deeper, skip = uneven(2, 5, 6, 9), uneven(2, 3, 12, 18, seed=1)
    note_ranges(stage, measure(stage, lambda: stage(deeper, skip)))
    conv = Int8Conv(first[0], 0.25)
    with torch.inference_mode():
        wanted = conv(enlarged_beside(deeper, skip, "nearest"))
        found = Int8UpStage(stage, nn.Identity())(deeper, skip)
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("side", [1, 2, 3, 4])
@pytest.mark.parametrize("details", [False, True])
def test_an_entrance_rounds_as_the_convolution_behind_it(side: int, details: bool) -> None:
    entrance = Entrance(side, details=details)
    stack, masks = torch.rand(2, 3, 3, 20 * side, 12 * side), torch.rand(2, 3, 20 * side, 12 * side)
    plain = entrance(stack, masks)
    network: Any = nn.Module()
    network.entrance = entrance
    network.entry = nn.Sequential(nn.Conv2d(plain.shape[1], 4, 3, padding=1))
    note_ranges(network, measure(network, lambda: network.entry(plain)))
    conv = Int8Conv(network.entry[0])
    with torch.inference_mode():
        found = CompiledEntrance(entrance, torch.float32, conv)(stack, masks)
        assert found.dtype == torch.uint8
        difference = found.int() - conv.rounded(plain).int()
        assert int(difference.abs().max()) <= 1  # where float32 rounds another way
        assert float((difference != 0).float().mean()) < 0.001


@pytest.mark.parametrize("network", ["generator", "fusiongan", "pix2pix", "srgan"])
@pytest.mark.parametrize("config", [{"planes": 1}, {"planes": 3}])
def test_a_generator_makes_nearly_the_same(network: str, config: dict[str, Any]) -> None:
    if network == "generator":
        config = {**config, "details": True, "unshuffle": 2, "upsample": "nearest"}
    made = tiny(network, **config)
    stack = torch.rand(2, config["planes"], 3, 64, 64)
    ranges = measure(made, lambda: made(stack, stack[:, :, 0]))
    with torch.inference_mode():
        wanted = made(stack, stack[:, :, 0])
        eight = for_inference(made, torch.float32, ranges)
        found = eight(stack, stack[:, :, 0])
    assert any(isinstance(module, Int8Conv) for module in eight.modules())
    change = (wanted - stack[:, config["planes"] // 2]).abs().mean()
    assert float((found - wanted).abs().mean()) < 0.1 * float(change)


@pytest.mark.parametrize("upsample", ["nearest", "bilinear"])
@pytest.mark.parametrize(
    "missing", ["entry.0", "down1.1.0.second", "up1.0.0", "up1.1.0.first", "up1.2.0", "exit"]
)
def test_convolutions_without_ranges_stay_float32(upsample: str, missing: str) -> None:
    made = tiny("generator", details=True, unshuffle=2, upsample=upsample)
    stack = torch.rand(2, 1, 3, 64, 64)
    ranges = measure(made, lambda: made(stack, stack[:, :, 0]))
    del ranges[missing]
    with torch.inference_mode():
        wanted = made(stack, stack[:, :, 0])
        found = for_inference(made, torch.float32, ranges)(stack, stack[:, :, 0])
    change = (wanted - stack[:, 0]).abs().mean()
    assert float((found - wanted).abs().mean()) < 0.1 * float(change)
