"""Folded batch norm: the same images from fewer layers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from slidefusion.nets import build
from slidefusion.nets.folding import fold_batch_norm

NETWORKS: dict[str, dict[str, Any]] = {
    "blur_model": {"width": 4, "blocks": (1, 1, 2)},
    "fusiongan": {"width": 4},
    "pix2pix": {"width": 4, "depth": 5},
    "srgan": {"width": 4, "blocks": 2},
    "generator": {"width": 4, "masks": False},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_same_result_without_batch_norm(name: str) -> None:
    torch.manual_seed(4)
    network = build(name, **NETWORKS[name]).eval()
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        assert norm.running_mean is not None and norm.running_var is not None
        norm.running_mean.normal_(0.0, 0.3)
        norm.running_var.uniform_(0.5, 2.0)
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, 0.0, 0.3)
    folded = fold_batch_norm(network)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in folded.modules())
    image = torch.rand(2, 3, 64, 64) if name == "blur_model" else torch.rand(2, 1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(folded(image), network(image), atol=1e-4, rtol=1e-4)
    assert len(norms) == sum(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())


def test_refused_in_training_mode() -> None:
    with pytest.raises(ValueError, match=r"network\.eval\(\)"):
        fold_batch_norm(nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)))
