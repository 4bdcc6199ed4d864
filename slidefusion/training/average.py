"""The weights that a training run exports: an average of those that it went through."""

from __future__ import annotations

import copy

import torch
from torch import nn

__all__ = ["WeightAverage"]


class WeightAverage:
    """What a run exports: the moving average of ``network``'s weights, and in the end a share of
    the way (``moved``) from those it began with to it.

    Its decay rises to ``decay`` over the first updates: with 0.998 from the beginning, 1000 updates
    later 13 % of it would still be the random weights. Not where the run begins with weights that
    exist (``trained``): those are worth keeping a part of.

    >>> average = WeightAverage(nn.Linear(2, 2), decay=0.9, moved=1.0, trained=False)
    >>> average.update(0)
    """

    def __init__(self, network: nn.Module, decay: float, moved: float, *, trained: bool) -> None:
        self.decay, self.moved, self.trained = decay, moved, trained
        self.source = network
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.start = copy.deepcopy(self.network.state_dict()) if moved < 1.0 else {}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the network's weights of update ``step`` (from 0); without decay, just take
        them."""
        decay = self.decay if self.trained else min(self.decay, (1 + step) / (10 + step))
        source, mine = self.source.state_dict(), self.network.state_dict()
        moving = [key for key, value in mine.items() if value.is_floating_point() and self.decay]
        if moving:
            news = [source[key].to(mine[key].device, mine[key].dtype) for key in moving]
            torch._foreach_lerp_([mine[key] for key in moving], news, 1.0 - decay)
        for key in mine.keys() - set(moving):
            mine[key].copy_(source[key])

    @torch.no_grad()
    def finish(self) -> None:
        """Go back a part of the way to where the run began."""
        for key, value in self.network.state_dict().items():
            if key in self.start and value.is_floating_point():
                begun = self.start[key].to(value.device)
                value.copy_(torch.lerp(begun, value, self.moved))
