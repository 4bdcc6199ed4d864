"""The network that is run computes what the network that was trained does."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
from slidefusion.nets import active_conv  # noqa: E402
from slidefusion.nets.active_conv import ActiveConv, fold  # noqa: E402
from slidefusion.nets.heads import Entrance, ImageHead  # noqa: E402
from slidefusion.nets.inference import for_inference  # noqa: E402
from slidefusion.nets.inference_ends import CompiledEntrance, CompiledHead  # noqa: E402
from slidefusion.nets.working_set import network_bytes  # noqa: E402
from tests.fusers.networks import tiny  # noqa: E402

NETWORKS: list[tuple[str, dict[str, Any]]] = [
    ("generator", {"planes": 3, "unshuffle": 2}),
    ("generator", {"planes": 3, "unshuffle": 2, "details": True}),
    ("generator", {"planes": 1, "masks": False, "residual": False, "upsample": "nearest"}),
    ("fusiongan", {"planes": 3}),
    ("pix2pix", {"planes": 1, "residual": False}),
    ("srgan", {"planes": 1}),
    ("blur_model", {}),
    ("focus_classifier", {}),
]


def inputs(name: str, config: dict[str, Any]) -> list[Any]:
    if name == "blur_model":
        return [torch.rand(2, 3, 48, 64)]
    if name == "focus_classifier":
        return [torch.rand(2, 1, 48, 64), torch.rand(2, 1, 48, 64)]
    return [torch.rand(2, config["planes"], 3, 48, 64), torch.rand(2, config["planes"], 48, 64)]


@pytest.mark.parametrize("there", [True, False], ids=["fused", "plain"])
@pytest.mark.parametrize(("name", "config"), NETWORKS)
def test_it_computes_the_same(
    name: str, config: dict[str, Any], there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not there:
        monkeypatch.setattr(active_conv, "_has_pointwise", lambda dtype: False)
    network, given = tiny(name, **config), inputs(name, config)
    before = [tensor.clone() for tensor in given]
    with torch.inference_mode():
        wanted = network(*given)
        found = for_inference(network, torch.float32)(*given)
        half = for_inference(network, torch.bfloat16)(*given)
    assert all(map(torch.equal, given, before)), "what it was given is the caller's"
    scale = float(wanted.abs().max())
    torch.testing.assert_close(found, wanted, atol=1e-4 * scale, rtol=0)
    torch.testing.assert_close(half.float(), wanted, atol=0.08 * scale, rtol=0)
    if name not in ("blur_model", "focus_classifier"):
        assert half.dtype == torch.float32, "an image in bfloat16 has fewer than 256 steps"


@pytest.mark.parametrize(("name", "config"), [*NETWORKS, ("focus_classifier", {"dense": True})])
def test_nothing_is_drawn_from_the_random_numbers_of_the_caller(
    name: str, config: dict[str, Any]
) -> None:
    network: Any = tiny(name, **config)
    before = torch.get_rng_state()
    merged = network.merged() if hasattr(network, "merged") else network
    for_inference(merged, torch.bfloat16)
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(tensor.is_meta for tensor in merged.state_dict().values())


def test_the_network_given_stays_as_it_was() -> None:
    network = tiny("srgan", planes=1)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for_inference(network, torch.bfloat16)
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_activations_lie_in_convolutions() -> None:
    for name, config in NETWORKS:
        left = [
            type(m).__name__ for m in for_inference(tiny(name, **config), torch.float32).modules()
        ]
        assert not {"PReLU", "BatchNorm2d", "Conv2d"} & set(left), (name, left)
        assert any(
            isinstance(m, ActiveConv) for m in for_inference(tiny(name), torch.float32).modules()
        )


@pytest.mark.parametrize(("planes", "side"), [(1, 2), (3, 1), (1, 3), (1, 4)])
@pytest.mark.parametrize("cells", [(75, 45), (1, 3), (32, 64)])
def test_a_head_compiled_and_as_tensors(planes: int, side: int, cells: tuple[int, int]) -> None:
    size = cells[0] * side, cells[1] * side
    head = ImageHead(residual=True, planes=planes, unshuffle=side).eval()
    stack = torch.rand(2, planes, 3, *size)
    shape = 2, head.features * side * side, size[0] // side, size[1] // side
    features = 20 * torch.randn(shape) * torch.rand(shape) ** 3
    wanted = head(features, stack)
    for found in (
        CompiledHead(head)(features, stack),
        CompiledHead(head)._as_tensors(features, stack),
    ):
        torch.testing.assert_close(found, wanted, atol=2e-6, rtol=0)
    half = features.bfloat16().to(memory_format=torch.channels_last)
    wanted = head(half.float(), stack)
    torch.testing.assert_close(CompiledHead(head)(half, stack), wanted, atol=2e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float16])
@pytest.mark.parametrize("details", [False, True])
@pytest.mark.parametrize(("planes", "side"), [(1, 2), (3, 1), (3, 2), (1, 3), (1, 4)])
@pytest.mark.parametrize("cells", [(70, 17), (1, 3), (32, 64)])
def test_an_entrance_compiled_rounds_as_torch_does(
    planes: int, side: int, cells: tuple[int, int], details: bool, dtype: torch.dtype
) -> None:
    size = cells[0] * side, cells[1] * side
    entrance = Entrance(side, details=details)
    stack, masks = torch.rand(2, planes, 3, *size), torch.rand(2, planes, *size)
    gray = stack[:, :, :1].expand(-1, -1, 3, -1, -1)
    for given in ((stack, masks), (stack,), (gray, masks)):
        found = CompiledEntrance(entrance, dtype)(*given)
        compiled = side != 3 and dtype != torch.float16 and (side, dtype) != (4, torch.float32)
        assert not compiled or found.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(found, entrance(*given).to(dtype))


def test_memory_is_counted_without_computing() -> None:
    config = {"planes": 1, "channels": 3, "width": 8}
    small, large = (network_bytes("generator", config, side, 1, "float32") for side in (64, 128))
    half = network_bytes("generator", config, 128, 1, "bfloat16")
    parameters = sum(
        p.numel()
        for p in tiny("generator", planes=1, width=8, edge_kernel=9, residual=False).parameters()
    )
    activations = large - 8 * parameters
    assert activations == pytest.approx(4 * (small - 8 * parameters), rel=0.05)
    assert (half - 6 * parameters) * 2 == activations
    least = 3 * 8 * 128 * 128 * 4  # a skip, an input and an output of the widest stage
    assert activations > least


@pytest.mark.parametrize(
    ("settings", "side"),
    [
        ({"out_channels": 3, "kernel_size": 9, "padding": 4}, 4),
        ({"out_channels": 16, "kernel_size": 5, "padding": 2}, 2),
        ({"out_channels": 16, "kernel_size": 3, "padding": 1}, 1),
        ({"out_channels": 3, "kernel_size": 9, "padding": 0}, 1),
        ({"out_channels": 2, "kernel_size": 8}, 1),  # the classifier's last
        ({"out_channels": 3, "kernel_size": 9, "padding": 4, "stride": 2}, 1),
    ],
)
def test_only_convolutions_that_keep_the_size_are_folded(settings: Any, side: int) -> None:
    conv = ActiveConv(torch.nn.Conv2d(4, **settings))
    fold(conv, makes_image=False)
    assert conv.side == side
    assert (conv.folded is None) == (side == 1)
