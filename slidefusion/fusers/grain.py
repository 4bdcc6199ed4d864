"""The detail of a slide, given back where a network has only smoothed.

Generators are trained towards images without noise, so they also take fine noise out of what is in
focus, and the weakest texture with it. Where noise is strong that is a gain; where it is too weak
to be seen nothing is gained, and texture is lost. What a network changed by no more than noise is
therefore given back, all of it or a share, which follows from the noise of the slide: a pixel that
was sharp stays as it was, what was restored stays restored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FAINT", "keep_grain", "noise_level"]

FAINT = 1.2 / 255
"""Noise (see `noise_level`) that is too weak to be seen: half a percent of white."""

_LEVELS = (1.0, 0.2253, 0.0961)
"""White noise in the three detail bands, relative to the finest (Starck and Murtagh 2006)."""
_SIGMAS = 2.0
_BOX_PX = 7
_SAMPLE_PX = 4
_BLOCK_PX = 64
_QUANTILE = 0.25
_DEVIATION = 1.4826  # of a normal distribution, from the median of its absolute values


def noise_level(patches: npt.NDArray[Any], white: float) -> float:
    """Standard deviation of the noise in the finest detail band, as a fraction of ``white``.

    Of patches (N, Z, C, p, p) of a slide: from the median of the band's absolute values in each
    block of 64 x 64 px, of which a quarter are quieter than what is returned: there blur leaves
    nothing but noise, while blocks full of sharp detail are louder. Blocks without any noise
    (clipped, or filled up) do not count; 0.0 when there are no others.

    >>> glass = 200 + np.random.default_rng(0).normal(0, 2, (4, 1, 1, 128, 128))
    >>> 255 * noise_level(glass.astype(np.float32), 255)  # of 2, the finest band has 89 %
    1.7...
    """
    from slidefusion.fusers.grain_kernels import finest_samples

    planes = patches.reshape(-1, *patches.shape[-2:]).astype(np.float32) / np.float32(white)
    height, width = (-(-side // _SAMPLE_PX) for side in planes.shape[1:])
    samples = np.empty((len(planes), height, width), np.float32)
    for p in range(len(planes)):
        finest_samples(planes, _SAMPLE_PX, samples, p)
    side = min(_BLOCK_PX // _SAMPLE_PX, height, width)
    blocks = samples[:, : height // side * side, : width // side * side]
    blocks = blocks.reshape(len(planes), height // side, side, width // side, side)
    levels = np.median(blocks, axis=(2, 4)) * _DEVIATION
    noisy = levels[levels > 0]
    return float(np.quantile(noisy, _QUANTILE)) if noisy.size else 0.0


def keep_grain(source: Tensor, image: Tensor, noise: float, share: Tensor | float = 1.0) -> Tensor:
    """Add to ``image`` what it lacks of the grain of ``source``; all (N, C, H, W) in [0, 1].

    ``source`` is the plane that ``image`` was made from, or several planes fused by a transform.
    ``noise`` is that of `noise_level`. In each of three detail bands: where the mean square of
    the difference of source and image, over 7 x 7 px and the channels, is up to that of twice the
    noise, ``share`` (a number, or (N, 1, H, W)) of the difference is added back; from double that
    on, nothing.

    >>> import torch
    >>> plane = 0.9 + 0.01 * torch.randn(1, 3, 64, 64)
    >>> smooth = torch.full((1, 3, 64, 64), 0.9)
    >>> bool((keep_grain(plane, smooth, 0.009) - plane).abs().mean() < 0.003)
    True
    """
    limits = [max(_SIGMAS * noise * level, 1e-6) for level in _LEVELS]
    if source.device.type == "cpu":
        return _compiled(source, image, limits, share)
    return _as_tensors(source, image, limits, share)


def _compiled(source: Tensor, image: Tensor, limits: list[float], share: Tensor | float) -> Tensor:
    import torch

    from slidefusion.fusers.grain_kernels import add_grain
    from slidefusion.nets.end_kernels import ROWS

    shares = torch.as_tensor(share, dtype=torch.float32).expand(len(image), 1, *image.shape[2:])
    given = [tensor.float().contiguous().numpy() for tensor in (source, image, shares[:, 0])]
    result = torch.empty(image.shape)
    weights = np.array([1 / limit for limit in limits], np.float32)
    for grainy, made, most, out in zip(*given, result.numpy(), strict=True):
        for top in range(0, made.shape[1], ROWS):
            add_grain(grainy, made, weights, most, out, top)
    return result


def _as_tensors(
    source: Tensor, image: Tensor, limits: list[float], share: Tensor | float
) -> Tensor:
    from slidefusion.nets.heads import detail_bands

    result = image
    for missing, limit in zip(detail_bands(source - image), limits, strict=True):
        energy = _mean_near((missing / limit).square())
        result = result + share * (2.0 - energy).clamp(0.0, 1.0) * missing
    return result.clamp(0.0, 1.0)


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
