"""Filters of the wavelet fusers in torch, in the order of the compiled row kernels.

The samples that one tap of a filter reads lie side by side. To that end a :class:`Reader` copies
the samples along one axis once (one pass), extends them beyond the border and sorts them by
*phase*, which is their position modulo the step of the filter. The results of two trees are not
interleaved: an axis may be stored *halved*, its even samples first and its odd ones behind them,
and a reader can read such an axis.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["Filter", "Reader", "filters_of", "interleaved", "weighted_sum"]

Filter = tuple[tuple[int, float], ...]
"""Position and weight of each tap; an even number of them."""


def filters_of(at: npt.NDArray[np.int64], weights: npt.NDArray[np.float32]) -> list[Filter]:
    """For each row of ``weights`` (F, T) its filter of the samples ``at`` (T).

    Plain numbers, which ``torch.compile`` can look into.

    >>> filters_of(np.array([0, 1]), np.array([[0.5, 0.25]], np.float32))
    [((0, 0.5), (1, 0.25))]
    """
    return [tuple(zip(at.tolist(), row.tolist(), strict=True)) for row in weights]


class Reader:
    """The samples ``step * k + at``, k = 0 … ``count`` - 1, of an axis of ``length`` samples."""

    def __init__(
        self,
        at: npt.NDArray[np.int64],
        step: int,
        count: int,
        length: int,
        device: torch.device,
        halved: bool = False,
    ) -> None:
        """``at`` are all positions that will be asked for; ``halved`` says how the axis is stored.

        Beyond its border the axis is half-sample symmetric.
        """
        first = int(at.min()) // step
        run = count + int(at.max()) // step - first
        phases = sorted({int(position) % step for position in at.ravel()})
        base = step * (first + np.arange(run))
        index = np.concatenate([base + phase for phase in phases]) % (2 * length)
        index = np.where(index < length, index, 2 * length - 1 - index)
        if halved:
            index = index % 2 * (length // 2) + index // 2
        self._index = torch.from_numpy(index).to(device)
        self._count = count
        self._start = {
            int(position): phases.index(int(position) % step) * run + int(position) // step - first
            for position in at.ravel()
        }

    def __call__(self, x: Tensor, axis: int) -> _Samples:
        """Copy the samples of ``x`` along ``axis`` (negative)."""
        return _Samples(x.index_select(x.ndim + axis, self._index), axis, self._start, self._count)


class _Samples:
    def __init__(self, copied: Tensor, axis: int, start: dict[int, int], count: int) -> None:
        self._copied, self._axis, self._start, self._count = copied, axis, start, count

    def at(self, position: int) -> Tensor:
        """The ``count`` samples ``step * k + position``, a view."""
        return self._copied.narrow(self._axis, self._start[position], self._count)


def weighted_sum(samples: _Samples, taps: Filter, out: Tensor, add: bool = False) -> None:
    """Write to ``out`` the sum of the samples that ``taps`` weigh, or add it.

    Four taps are summed as two pairs, like ``rows.weighted_sums``; taps of weight zero are not
    read. Two passes a tap, three for each sum.
    """
    empty = not add
    for four in (taps[t : t + 4] for t in range(0, len(taps), 4)):
        group: Tensor | None = None
        for pair in (four[:2], four[2:]):
            for_pair = _pair(samples, pair)
            if for_pair is not None:
                group = for_pair if group is None else group.add_(for_pair)
        if group is None:
            continue
        if empty:
            out.copy_(group)
        else:
            out.add_(group)
        empty = False
    assert not empty  # no published filter is all zeros


def interleaved(pair: Sequence[Tensor], axis: int) -> Tensor:
    """The samples of two tensors (C, Y, X) in turn along ``axis`` (-2 or -1)."""
    dim = pair[0].ndim + axis
    return torch.stack(tuple(pair), dim + 1).flatten(dim, dim + 1)


def _pair(samples: _Samples, pair: Sequence[tuple[int, float]]) -> Tensor | None:
    products = [samples.at(position) * weight for position, weight in pair if weight != 0]
    if len(products) == 2:
        return products[0].add_(products[1])
    return products[0] if products else None
