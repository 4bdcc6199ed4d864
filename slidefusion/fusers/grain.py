"""The grain of a slide, given back where a network has only smoothed.

Generators are trained towards images without noise, so they also take the fine noise out of glass
and of cytoplasm that is in focus. That is not their task: it looks like plastic, and it takes the
weakest texture along. Here the finest detail that the network removed from the middle plane is
added again, except where the network changed more than noise, which is where it restored something.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["keep_grain"]

_BOX_PX = 7
_SAMPLE_PX = 4
_DEVIATION = 1.4826  # of a normal distribution, from the median of its absolute values


def keep_grain(planes: Tensor, image: Tensor) -> Tensor:
    """Add to ``image`` (N, C, H, W) what it lacks of the grain of ``planes`` (N, Z, C, H, W).

    All in [0, 1]. At each pixel the grain is that of the plane that is nearest to the image there.
    The noise level is each plane's own: the median of its finest detail band, in which blur leaves
    nothing but noise. Where the mean square of the difference of plane and image in that band, over
    7 x 7 px, is up to the square of that level, the difference is added back; from twice on,
    nothing.

    >>> import torch
    >>> plane = 0.9 + 0.01 * torch.randn(1, 1, 3, 64, 64)
    >>> smooth = torch.full((1, 3, 64, 64), 0.9)
    >>> bool((keep_grain(plane, smooth) - plane[:, 0]).abs().mean() < 0.003)
    True
    """
    if planes.device.type == "cpu":
        return _compiled(planes.float().contiguous(), image.float().contiguous())
    return _as_tensors(planes, image)


def _compiled(planes: Tensor, image: Tensor) -> Tensor:
    import torch

    from slidefusion.fusers.grain_kernels import add_grain, finest_samples
    from slidefusion.nets.end_kernels import ROWS
    from slidefusion.nets.row_bands import in_bands

    count, channels, height, width = planes.shape[1:]
    result = torch.empty_like(image)
    for stack, made, out in zip(planes.numpy(), image.numpy(), result.numpy(), strict=True):
        samples = torch.empty(count * channels, -(-height // _SAMPLE_PX), -(-width // _SAMPLE_PX))
        flat = stack.reshape(count * channels, height, width)
        take = partial(finest_samples, flat, _SAMPLE_PX, samples.numpy())
        in_bands(take, range(count * channels))
        levels = _level(samples.flatten(1)).reshape(count, channels).numpy()
        in_bands(partial(add_grain, stack, made, levels, out), range(0, height, ROWS))
    return result


def _as_tensors(planes: Tensor, image: Tensor) -> Tensor:
    import torch

    from slidefusion.nets.heads import finest_band

    nearest, grain = None, None
    for plane in planes.unbind(1):
        missing = finest_band(plane - image)
        energy = _mean_near((missing / _noise_level(finest_band(plane))).square())
        if nearest is None or grain is None:
            nearest, grain = energy, missing
        else:
            grain = torch.where(energy < nearest, missing, grain)
            nearest = torch.minimum(energy, nearest)
    assert nearest is not None and grain is not None
    return (image + (2.0 - nearest).clamp(0.0, 1.0) * grain).clamp(0.0, 1.0)


def _noise_level(band: Tensor) -> Tensor:
    """Standard deviation (N, C, 1, 1) of the noise in a finest band (N, C, H, W)."""
    return _level(band[..., ::_SAMPLE_PX, ::_SAMPLE_PX].abs().flatten(2))[..., None, None]


def _level(samples: Tensor) -> Tensor:
    """Standard deviation of noise from its absolute values along the last axis."""
    return (samples.median(dim=-1).values * _DEVIATION).clamp_min(1e-4)


def _mean_near(values: Tensor) -> Tensor:
    """Mean over the channels and 7 x 7 px: (N, C, H, W) to (N, 1, H, W)."""
    from torch.nn import functional

    return functional.avg_pool2d(
        values.mean(dim=1, keepdim=True),
        _BOX_PX,
        stride=1,
        padding=_BOX_PX // 2,
        count_include_pad=False,
    )
