"""Networks as a GPU runs them, and its kernels.

The kernels run on a GPU, or with ``TRITON_INTERPRET=1`` and Triton installed on the CPU; elsewhere
their tests are skipped. How a GPU puts a network together is tested everywhere, with PyTorch's
operations in their place.
"""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from torch.nn import functional  # noqa: E402

from slidefusion.nets import gpu_kernels, inference  # noqa: E402
from slidefusion.nets.active_conv import ActiveConv  # noqa: E402
from slidefusion.nets.generator import Generator  # noqa: E402
from slidefusion.nets.inference import for_inference  # noqa: E402

INTERPRETED = bool(importlib.util.find_spec("triton")) and os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
needs_kernels = pytest.mark.skipif(
    not INTERPRETED and not gpu_kernels.works(),
    reason="needs a GPU with Triton, or Triton and TRITON_INTERPRET=1",
)

FORMS: list[dict[str, Any]] = [
    {},
    {"unshuffle": 2, "edge_kernel": 5, "details": True, "upsample": "nearest", "residual": True},
]


def image(*shape: int, dtype: Any = torch.float32) -> Any:
    made = torch.randn(*shape, device=DEVICE).to(dtype)
    return made.contiguous(memory_format=torch.channels_last)


@needs_kernels
@pytest.mark.parametrize("slope", [None, 0.0, 0.2])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_finish(slope: float | None, biased: bool, before: bool, after: bool, dtype: Any) -> None:
    result, first, last = (image(2, 24, 17, 13, dtype=dtype) for _ in range(3))
    bias = image(1, 24, 1, 1, dtype=dtype).flatten()
    expected = result.float()
    if biased:
        expected = expected + bias.float()[:, None, None]
    if before:
        expected = expected + first.float()
    if slope is not None:
        expected = functional.leaky_relu(expected, slope)
    if after:
        expected = expected + last.float()
    made = gpu_kernels.finish(
        result, bias if biased else None, slope, first if before else None, last if after else None
    )
    assert made is result
    close = {} if dtype == torch.float32 else {"rtol": 0.01, "atol": 0.01}
    torch.testing.assert_close(made.float(), expected, **close)


@needs_kernels
def test_finish_of_another_order_of_memory() -> None:
    result = torch.randn(2, 24, 17, 13, device=DEVICE)
    bias = torch.randn(24, device=DEVICE)
    expected = functional.leaky_relu(result + bias[:, None, None], 0.2)
    torch.testing.assert_close(gpu_kernels.finish(result, bias, 0.2), expected)


@needs_kernels
def test_halve() -> None:
    given = image(2, 24, 16, 12)
    torch.testing.assert_close(gpu_kernels.halve(given), functional.avg_pool2d(given, 2))


@needs_kernels
def test_enlarge_beside() -> None:
    deeper, skip = image(2, 24, 16, 12), image(2, 8, 32, 24)
    enlarged = functional.interpolate(deeper, scale_factor=2, mode="bilinear", align_corners=False)
    made = gpu_kernels.enlarge_beside(deeper, skip)
    torch.testing.assert_close(made, torch.cat([enlarged, skip], dim=1))


@pytest.mark.parametrize("form", FORMS, ids=["published", "compact"])
@pytest.mark.parametrize(
    "kernels", [False, pytest.param(True, marks=needs_kernels)], ids=["plain", "kernels"]
)
def test_a_generator_as_a_gpu_runs_it(
    form: dict[str, Any], kernels: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = DEVICE if kernels else "cpu"
    network = Generator(width=16, **form).eval().to(device)
    torch.nn.init.normal_(network.exit.weight, std=0.01)
    stack = torch.rand(2, 1, 3, 64, 64, device=device)
    masks = torch.rand(2, 1, 64, 64, device=device)
    monkeypatch.setattr(gpu_kernels, "works_on", lambda image: kernels)
    ours = for_inference(network, torch.float32)
    for module in ours.modules():  # whatever the device, and in float32
        if isinstance(module, ActiveConv):
            inference.fold(module, makes_image=False)
            monkeypatch.setattr(module, "forward", on_gpu(module))
    with torch.inference_mode():
        torch.testing.assert_close(
            ours(stack, masks),
            network(stack, masks),
            rtol=0,
            atol=1e-5 if device == "cpu" else 1e-2,
        )
    assert not form or all(conv.side == 1 for conv in ours.modules() if is_conv(conv))
    assert form or sorted({conv.side for conv in ours.modules() if is_conv(conv)}) == [1, 2, 4]


def test_what_cannot_be_folded_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_kernels, "works_on", lambda image: False)
    conv = torch.nn.Conv2d(3, 12, 9, padding=4)
    ours = ActiveConv(conv, slope=0.2)
    inference.fold(ours, makes_image=False)
    assert ours.side == 2
    for side in (32, 33):
        x = torch.rand(1, 3, 32, side)
        with torch.no_grad():
            expected = functional.leaky_relu(conv(x), 0.2)
            torch.testing.assert_close(ours._on_gpu(x, None, None), expected)


def on_gpu(conv: ActiveConv) -> Any:
    return lambda x, plus=None, after=None: conv._on_gpu(x, plus, after)


def is_conv(module: Any) -> bool:
    return isinstance(module, ActiveConv)
