"""Between which values the inputs of a network's convolutions lie, as `int8_layers` need to know.

A card of weights has them as text: for each convolution the lowest and the highest value of every
channel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["as_text", "from_text", "measure"]

_REST = 0.002
"""Share of the values of a channel that lie beyond what counts as its lowest, and its highest. Of
a few held-out phantoms .0005 cost twice as much (.0002 of SSIM), and .005 a little more."""


def measure(network: nn.Module, run: Callable[[], object]) -> dict[str, Tensor]:
    """What ``network`` is given while ``run()`` runs it: name of a convolution to (2, inputs).

    Convolutions of a single pixel, and those in groups, are left out: 8 bits make them no faster.

    >>> network = nn.Sequential(nn.Conv2d(1, 1, 3))
    >>> measure(network, lambda: network(torch.ones(1, 1, 4, 4)))
    {'0': tensor([[0.],
            [1.]])}
    """
    found: dict[str, Tensor] = {}

    def note(name: str, x: Tensor) -> None:
        values = x.detach().float().transpose(0, 1).flatten(1).cpu()  # (channels, all else)
        beyond = max(1, round(_REST * values.shape[1]))
        low = values.kthvalue(beyond, dim=1).values.clamp(max=0)
        high = values.kthvalue(values.shape[1] + 1 - beyond, dim=1).values.clamp(min=0)
        if name in found:
            low, high = torch.minimum(low, found[name][0]), torch.maximum(high, found[name][1])
        found[name] = torch.stack([low, high])

    hooks = [
        module.register_forward_pre_hook(lambda _, given, name=name: note(name, given[0]))
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d) and module.groups == 1 and module.kernel_size != (1, 1)
    ]
    try:
        with torch.no_grad():
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return found


def as_text(ranges: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """Ranges as they are written in a card.

    >>> as_text({"entry": torch.tensor([[0.0, -0.5], [1.0, 2 / 3]])})
    {'entry': ['0 -0.5', '1 0.667']}
    """
    return {
        name: [" ".join(f"{value:.3g}" for value in line) for line in pair.tolist()]
        for name, pair in ranges.items()
    }


def from_text(text: Mapping[str, Any], network: nn.Module) -> dict[str, Tensor]:
    """Ranges (2, inputs) that a card has for ``network``.

    Raises
    ------
    ValueError
        They are none, or not for this network.
    """
    modules = dict(network.named_modules())
    ranges = {}
    for name, lines in text.items():
        conv = modules.get(name)
        if not isinstance(conv, nn.Conv2d) or conv.groups > 1:
            raise ValueError(f"{name!r} is no convolution of it")
        low, high = ([float(value) for value in line.split()] for line in lines)
        if not len(low) == len(high) == conv.in_channels:
            raise ValueError(
                f"{name!r} has {len(low)} and {len(high)} values for {conv.in_channels} inputs"
            )
        if not all(-math.inf < a <= 0 <= b < math.inf for a, b in zip(low, high, strict=True)):
            raise ValueError(f"{name!r} has values that are no lowest and highest around 0")
        ranges[name] = torch.tensor([low, high])
    return ranges
