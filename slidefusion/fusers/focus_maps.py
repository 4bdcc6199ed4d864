"""From a focus classifier's scores to weights of planes, each step local (Liu et al. 2017).

Score map, focus map, decision map, consistency verification and guided filter follow section 3.4
of "Multi-focus image fusion with a deep convolutional neural network", Information Fusion 36. Maps
have half the resolution of the image, as the scores do, until the guided filter. What is of torch
here is computed by `torch_workers`, and in the thread that calls only if the network is on a GPU.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from slidefusion.fusers.torch_workers import in_order

__all__ = [
    "GuidedFilter",
    "best_plane",
    "chosen_planes",
    "consistent",
    "consistent_reach",
    "enlarged",
    "focus_map",
    "score_reach_px",
]

_PATCH, _MARGIN = 16, 4
_PAD = 20
"""Reflected px around an image: a patch, and what its convolutions see around it."""
_CELLS = 128
"""Side of the blocks that the network sees, in cells of 2 x 2 px."""

_CORE, _GROWTH, _VOTE = 4, 12, 16
"""All in cells. A region must contain a square of radius `_CORE` to stay, and then stays within
`_GROWTH` steps of it. Other cells take the plane that most cells within `_VOTE` have kept."""


def score_reach_px() -> int:
    """How far the input around a pixel influences its focus map."""
    return _PATCH - 1 + _MARGIN


def consistent_reach() -> int:
    """How far, in cells, the decisions around one influence what becomes of it."""
    return 2 * _CORE + _GROWTH + _VOTE


def _padded(gray: npt.NDArray[np.float32], cells: int, axis: int) -> npt.NDArray[np.float32]:
    pad = [(0, 0)] * gray.ndim
    pad[axis] = (_PAD, _PAD + 2 * cells - gray.shape[axis])
    return np.pad(gray, pad, mode="symmetric")


def focus_map(
    network: nn.Module, first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """How much sharper the second of two gray images (Y, X) in [0, 1] is than the first.

    The probability of each patch is averaged over all patches that cover a cell, as in the paper,
    and given as log odds (Y / 2, X / 2), rounded up. Beyond its edge an image is reflected.
    """
    rows, columns = (-(-side // 2) for side in first.shape)
    padded = [_padded(_padded(image, rows, 0), columns, 1) for image in (first, second)]
    device = next(network.buffers()).device

    @torch.inference_mode()
    def block(corner: tuple[int, int]) -> tuple[slice, slice, npt.NDArray[np.float32]]:
        (top, left), (bottom, right) = corner, (corner[0] + _CELLS, corner[1] + _CELLS)
        bottom, right = min(bottom, rows), min(right, columns)
        # Cell a lies in patches a + 3 to a + 10 of the padded image; each sees 4 px around it.
        place = (slice(2 * top + 2, 2 * bottom + 38), slice(2 * left + 2, 2 * right + 38))
        a, b = (torch.from_numpy(image[place].copy())[None, None] for image in padded)
        logits = network(a.to(device), b.to(device)).float()
        sharper = torch.sigmoid(logits[:, 1:] - logits[:, :1])
        scores = sharper[..., 2 : bottom - top + 9, 2 : right - left + 9]
        odds = torch.logit(functional.avg_pool2d(scores, 8, 1)[0, 0].cpu(), eps=1e-4)
        return slice(top, bottom), slice(left, right), odds.numpy()

    corners = itertools.product(range(0, rows, _CELLS), range(0, columns, _CELLS))
    result = np.empty((rows, columns), np.float32)
    for down, across, odds in (in_order if device.type == "cpu" else map)(block, corners):
        result[down, across] = odds
    return result


def _grown(mask: Tensor, radius: int) -> Tensor:
    """The cells within ``radius`` (a square) of a 0/1 mask (Y, X)."""
    return functional.max_pool2d(mask[None, None], 2 * radius + 1, 1, radius)[0, 0]


def consistent(decision: Tensor, count: int) -> Tensor:
    """The decision map (Y, X) of plane indices without its small regions.

    A cell keeps its plane if its region holds a square of 9 x 9 cells at most 12 steps away. This
    is an opening by reconstruction that ends after so many steps. The other cells take the plane
    that most of the cells around them have kept. The paper removes regions below 1 % of the image,
    so that a pixel would depend on the image's size.
    """
    kept = torch.zeros_like(decision, dtype=torch.bool)
    votes = torch.zeros(decision.shape)
    winner = decision.clone()
    for z in range(count):
        mask = (decision == z).float()
        core = 1 - _grown(1 - mask, _CORE)
        grown = _grown(core, _CORE) * mask
        for _ in range(_GROWTH):
            grown = _grown(grown, 1) * mask
        kept |= grown.bool()
        share = _box(grown, _VOTE)
        more = share > votes
        winner[more], votes[more] = z, share[more]
    return torch.where(kept | (votes == 0), decision, winner)


def _box(image: Tensor, radius: int) -> Tensor:
    """Mean over the square of that radius, of the part of it that lies inside (Y, X)."""
    size = 2 * radius + 1
    result = image[None, None]
    for kernel, pad in (((size, 1), (radius, 0)), ((1, size), (0, radius))):
        result = functional.avg_pool2d(result, kernel, 1, pad, count_include_pad=False)
    return result[0, 0]


class GuidedFilter:
    """He, Sun and Tang 2010, for many maps with one guide (Y, X) in [0, 1]."""

    def __init__(self, guide: Tensor, radius: int, eps: float) -> None:
        self.guide, self.radius = guide, radius
        self.mean = _box(guide, radius)
        self.spread = _box(guide * guide, radius) - self.mean**2 + eps

    def __call__(self, mask: Tensor) -> Tensor:
        """The mask (Y, X) with the edges of the guide, cut to [0, 1]."""
        share = _box(mask, self.radius)
        slope = (_box(self.guide * mask, self.radius) - self.mean * share) / self.spread
        offset = share - slope * self.mean
        filtered = _box(slope, self.radius) * self.guide + _box(offset, self.radius)
        return filtered.clamp_(0, 1)


def enlarged(decision: Tensor, height: int, width: int) -> Tensor:
    """A map of cells as one of pixels (height, width)."""
    return decision.repeat_interleave(2, 0).repeat_interleave(2, 1)[:height, :width]


def chosen_planes(
    decision: npt.NDArray[np.int32], planes: int, height: int, width: int
) -> npt.NDArray[np.int32]:
    """The plane of each pixel (Y, X), from that of each cell (Y / 2, X / 2), made consistent."""
    chosen = enlarged(consistent(torch.from_numpy(decision), planes), height, width)
    return np.asarray(chosen.numpy())


def best_plane(odds: Iterable[npt.NDArray[np.float32]]) -> npt.NDArray[np.int32]:
    """The sharpest plane of each cell, from the log odds of each plane against the one before it.

    Log odds add up along the planes (Bradley and Terry 1952); for two planes it is the paper's
    segmentation at one half. Only the sum and its maximum are kept.
    """
    total: npt.NDArray[np.float32] | None = None
    for z, step in enumerate(odds, start=1):
        if total is None:
            total, highest = np.zeros_like(step), np.zeros_like(step)
            decision = np.zeros(step.shape, np.int32)
        total += step
        better = total > highest
        highest[better], decision[better] = total[better], z
    assert total is not None, "at least two planes"
    return decision
