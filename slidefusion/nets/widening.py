"""A wide network that computes what a narrow one does, to be trained on from there.

Source: Net2Net (Chen, Goodfellow and Shlens 2016, arXiv:1511.05641), section 3.1, with every
channel copied equally often.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["widened"]


def widened(
    narrow: Mapping[str, Tensor], wide: Mapping[str, Tensor], spread: float = 0.5, seed: int = 0
) -> dict[str, Tensor]:
    """Weights of the shapes of ``wide`` that compute what ``narrow`` does.

    Both are state dicts of convolutions, (out, in, kh, kw) and (out,), of which ``wide`` has a
    whole number of times the channels, or as many. Copies of a channel lie side by side, so
    concatenations need no care. A layer that reads the copies of a channel shares the narrow weight
    out to them in equal parts. Random weights that cancel each other are added to these parts, or
    else all copies would learn the same. Their deviation is ``spread`` times that of the layer's
    own weights, as if all copies had been drawn independently.

    Raises
    ------
    ValueError
        The names differ, or a shape is not a multiple.

    >>> layer = {"weight": torch.ones(2, 4, 1, 1), "bias": torch.ones(2)}
    >>> made = widened({name: value[:1, :2] for name, value in layer.items() if value.ndim > 1}
    ...                | {"bias": torch.ones(1)}, layer)
    >>> made["weight"].shape, float(made["weight"].sum())
    (torch.Size([2, 4, 1, 1]), 4.0)
    """
    if narrow.keys() != wide.keys():
        raise ValueError(f"not the same layers: {sorted(narrow.keys() ^ wide.keys())}")
    random = torch.Generator().manual_seed(seed)
    made = {}
    for name, value in narrow.items():
        shape = wide[name].shape
        if value.ndim != len(shape) or any(n % m for n, m in zip(shape, value.shape, strict=True)):
            raise ValueError(f"{name}: {tuple(shape)} is no multiple of {tuple(value.shape)}")
        copies = shape[0] // value.shape[0]
        new = value.repeat_interleave(copies, dim=0)
        if value.ndim > 1 and (parts := shape[1] // value.shape[1]) > 1:
            new = new.repeat_interleave(parts, dim=1) / parts
            copied = (shape[0], value.shape[1], parts, *shape[2:])
            noise = torch.randn(copied, generator=random)
            noise = (noise - noise.mean(2, keepdim=True)).reshape(shape)
            new = new + noise * (spread * float(value.std()) / parts**0.5)
        made[name] = new
    return made
