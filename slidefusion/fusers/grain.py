"""The grain of a slide, given back where a network has only smoothed.

Generators are trained towards images without noise, so they also take the fine noise out of glass
and of cytoplasm that is in focus. That is not their task: it looks like plastic, and it takes the
weakest texture along. Here the finest detail that the network removed from the middle plane is
added again, except where the network changed more than noise, which is where it restored something.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["keep_grain"]

_BOX_PX = 7
_SAMPLE_PX = 4
_DEVIATION = 1.4826  # of a normal distribution, from the median of its absolute values


def keep_grain(plane: Tensor, image: Tensor) -> Tensor:
    """Add to ``image`` what it lacks of the grain of ``plane``; both (N, C, H, W) in [0, 1].

    The noise level is the plane's: the median of its finest detail band, in which blur leaves
    nothing but noise. Where the mean square of the difference of the two in that band, over 7 x 7
    px, is up to the square of that level, the difference is added back; from twice on, nothing.

    >>> import torch
    >>> plane = 0.9 + 0.01 * torch.randn(1, 3, 64, 64)
    >>> smooth = torch.full_like(plane, 0.9)
    >>> bool((keep_grain(plane, smooth) - plane).abs().mean() < 0.003)
    True
    """
    from torch.nn import functional

    from slidefusion.nets.heads import finest_band

    band = finest_band(plane)
    samples = band[..., ::_SAMPLE_PX, ::_SAMPLE_PX].abs().flatten(2)
    level = (samples.median(dim=2).values * _DEVIATION).clamp_min(1e-4)[..., None, None]
    missing = finest_band(plane - image)
    energy = functional.avg_pool2d(
        (missing / level).square().mean(dim=1, keepdim=True),
        _BOX_PX,
        stride=1,
        padding=_BOX_PX // 2,
        count_include_pad=False,
    )
    return (image + (2.0 - energy).clamp(0.0, 1.0) * missing).clamp(0.0, 1.0)
