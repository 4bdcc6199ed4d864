"""The network that is run computes what the network that was trained does."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
from slidefusion.nets import fused  # noqa: E402
from slidefusion.nets.fused import ActiveConv, for_inference  # noqa: E402
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
        monkeypatch.setattr(fused, "_pointwise", lambda: None)
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
