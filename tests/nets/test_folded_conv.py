"""A convolution with its pixels in channels is the same convolution."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
from slidefusion.nets.folded_conv import convolve_folded, fold_weight  # noqa: E402


@pytest.mark.parametrize("kernel", [1, 3, 5, 9])
@pytest.mark.parametrize("side", [1, 2, 4])
@pytest.mark.parametrize(("inputs", "outputs"), [(4, 8), (8, 3)])
def test_it_is_the_same_convolution(kernel: int, side: int, inputs: int, outputs: int) -> None:
    conv = torch.nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False).double()
    x = torch.rand(2, inputs, 16, 24, dtype=torch.float64)
    with torch.no_grad():
        made = convolve_folded(x, fold_weight(conv.weight, side), side)
        torch.testing.assert_close(made, conv(x))
    assert made.is_contiguous(memory_format=torch.channels_last)
