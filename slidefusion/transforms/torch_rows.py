"""Filters along one axis in torch, for the readable and GPU twins of the compiled transforms.

A filter is a sum of shifted, strided views, in float32: no convolution library decides about its
precision (cuDNN rounds to 10 bits by default) or its algorithm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

__all__ = ["interleave", "weighted_sums"]


def weighted_sums(
    x: torch.Tensor,
    axis: int,
    at: npt.NDArray[np.int64],
    weights: npt.NDArray[np.float32],
    step: int,
    count: int,
    periodic: bool = False,
) -> list[torch.Tensor]:
    """For each row of ``weights`` (F, T), its sum over the samples ``step * k + at`` (T).

    ``x`` is (..., Y, X) and ``axis`` -2 or -1; each of the F results has ``count`` samples
    (k = 0 …) along it. Beyond its border ``x`` is half-sample symmetric, or periodic.
    """
    import torch

    first = int(at.min())
    index = np.arange(first, step * (count - 1) + int(at.max()) + 1)
    inside = torch.from_numpy(_inside(index, x.shape[axis], periodic)).to(x.device)
    extended = x.index_select(x.ndim + axis, inside)
    span = step * (count - 1) + 1
    sums = []
    for row in weights:
        total = None
        for position, weight in zip(at.tolist(), row.tolist(), strict=True):
            if weight == 0:
                continue
            samples = extended.narrow(axis, position - first, span)
            samples = samples[..., ::step] if axis == -1 else samples[..., ::step, :]
            total = samples * weight if total is None else total.add_(samples, alpha=weight)
        assert total is not None  # no published filter is all zeros
        sums.append(total)
    return sums


def interleave(parts: list[torch.Tensor], axis: int) -> torch.Tensor:
    """The samples of ``parts``, each (..., Y, X), in turn along ``axis`` (-2 or -1)."""
    import torch

    stacked = torch.stack(parts, dim=axis if axis == -1 else -2)
    shape = list(parts[0].shape)
    shape[axis] *= len(parts)
    return stacked.reshape(shape)


def _inside(index: npt.NDArray[np.int64], length: int, periodic: bool) -> npt.NDArray[np.int64]:
    if periodic:
        return index % length
    folded = index % (2 * length)
    return np.where(folded < length, folded, 2 * length - 1 - folded)
