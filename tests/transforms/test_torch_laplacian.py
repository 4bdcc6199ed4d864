"""The torch pyramid agrees with the compiled one, border included, and can be differentiated."""

from __future__ import annotations

import numpy as np
import pytest

from slidefusion.errors import StackError
from slidefusion.transforms import laplacian

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 40), (2, 64, 32)])
@pytest.mark.parametrize("levels", [1, 3])
def test_agrees_with_the_compiled_pyramid(shape: tuple[int, int, int], levels: int) -> None:
    from slidefusion.transforms import torch_laplacian

    image = np.random.default_rng(levels).random(shape, dtype=np.float32)
    ours = torch_laplacian.forward(torch.from_numpy(image)[None], levels)
    for mine, expected in zip(ours, laplacian.forward(image, levels), strict=True):
        assert np.abs(mine[0].numpy() - expected).max() < 1e-6
    assert np.abs(torch_laplacian.inverse(ours)[0].numpy() - image).max() < 1e-6


def test_gradients_pass_through() -> None:
    from slidefusion.transforms import torch_laplacian

    image = torch.rand(2, 1, 16, 16, requires_grad=True)
    torch_laplacian.inverse(torch_laplacian.forward(image, 2)).sum().backward()
    assert torch.allclose(image.grad, torch.ones_like(image), atol=1e-5)


def test_a_shape_off_the_period_is_refused() -> None:
    from slidefusion.transforms import torch_laplacian

    with pytest.raises(StackError, match="2\\*\\*levels = 4"):
        torch_laplacian.forward(torch.zeros(1, 1, 8, 6), 2)
