"""The moving average: what it keeps of the weights that a run began with."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from slidefusion.training.average import WeightAverage


@pytest.mark.parametrize(("trained", "kept"), [(False, (0.0, 1e-9)), (True, (0.81, 0.82))])
def test_random_weights_are_forgotten_soon(trained: bool, kept: tuple[float, float]) -> None:
    network = nn.Linear(1, 1)
    nn.init.ones_(network.weight)
    average = WeightAverage(network, 0.998, 1.0, trained=trained)
    nn.init.zeros_(network.weight)
    for step in range(100):
        average.update(step)
    assert kept[0] <= average.network.weight.item() <= kept[1]


def test_the_decay_is_reached() -> None:
    network = nn.Linear(1, 1)
    average = WeightAverage(network, 0.998, 1.0, trained=False)
    before = average.network.weight.clone()
    nn.init.constant_(network.weight, 3.0)
    average.update(100_000)
    torch.testing.assert_close(average.network.weight, before + 0.002 * (3.0 - before))
