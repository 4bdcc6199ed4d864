"""The detail of a slide, given back where a network has only smoothed.

Generators are trained towards images without noise, so they also take fine noise out of what is in
focus, and the weakest texture with it. Where noise is strong that is a gain; where it is too weak
to be seen nothing is gained, and texture is lost. What a network changed by no more than noise, the
grain, is therefore given back, all of it or a share, which follows from the noise of the slide: a
pixel that was sharp stays as it was, what was restored stays restored.

Faint small things go with the noise, too, and sharp edges of a kind that the network has not seen.
What the slide clearly has, more than its noise, and the network's image has less of, was erased,
and is given back whatever the noise.
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
_GRAIN, _GRAIN_OF_FUSED = 4.0, 16.0
"""Up to what energy a difference is grain, in noise's own. In a fusion of several planes what looks
sharpest is the noisiest, too: so Cervix93 (three planes, two steps apart) has the SSIM of the
fusion; by a fourth of it, it had less."""
_CLEAR, _CLEAR_OF_FUSED = 1.5, 0.7
"""How much more energy than the image, in noise's own, the slide must have for something to have
been erased: nearly twice what noise has in the finest band, .8 of a plane and .4 of a fusion. By
half as much noise comes back everywhere."""
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


def keep_grain(
    source: Tensor,
    image: Tensor,
    noise: float,
    share: Tensor | float = 1.0,
    erased: Tensor | float = 0.0,
    *,
    fused: bool = False,
) -> Tensor:
    """Add to ``image`` what it lacks of the detail of ``source``; all (N, C, H, W) in [0, 1].

    ``source`` is the plane that ``image`` was made from, or several planes ``fused`` by a
    transform. ``noise`` is that of a plane (`noise_level`). In each of three detail bands, with
    mean squares over 7 x 7 px and the channels:

    - Grain: where that of the difference of source and image is up to that of twice the noise
      (fused: four times), ``share`` of the difference is added; from double that on, nothing.
    - What was erased: where that of the source, less 1.5 (fused: 0.7) times the noise's, is still
      more than that of the image, the difference is added in proportion to the excess over its own
      mean square, at most ``erased`` of it.

    Of the two the larger. ``share`` and ``erased`` are numbers, or (N, 1, H, W).

    >>> import torch
    >>> plane = 0.9 + 0.01 * torch.randn(1, 3, 64, 64)
    >>> smooth = torch.full((1, 3, 64, 64), 0.9)
    >>> bool((keep_grain(plane, smooth, 0.009) - plane).abs().mean() < 0.003)
    True
    >>> plane[..., 30:34, 30:34] -= 0.05  # a particle
    >>> bool(keep_grain(plane, smooth, 0.009, 0.0, 1.0)[..., 31:33, 31:33].mean() < 0.88)
    True
    """
    levels = [max(noise * level, 5e-7) for level in _LEVELS]
    limits = (_GRAIN_OF_FUSED, _CLEAR_OF_FUSED) if fused else (_GRAIN, _CLEAR)
    add = _compiled if source.device.type == "cpu" else _as_tensors
    return add(source, image, levels, limits, share, erased)


def _compiled(
    source: Tensor,
    image: Tensor,
    levels: list[float],
    limits: tuple[float, float],
    share: Tensor | float,
    erased: Tensor | float,
) -> Tensor:
    import torch

    from slidefusion.fusers.grain_kernels import add_grain
    from slidefusion.nets.end_kernels import ROWS

    shares = [
        torch.as_tensor(most, dtype=torch.float32).expand(len(image), 1, *image.shape[2:])[:, 0]
        for most in (share, erased)
    ]
    given = [tensor.float().contiguous().numpy() for tensor in (source, image, *shares)]
    result = torch.empty(image.shape)
    weights = np.array([1 / level for level in levels], np.float32)
    bounds = np.array(limits, np.float32)
    for clear, made, most, back, out in zip(*given, result.numpy(), strict=True):
        for top in range(0, made.shape[1], ROWS):
            add_grain(clear, made, weights, bounds, (most, back), out, top)
    return result


def _as_tensors(
    source: Tensor,
    image: Tensor,
    levels: list[float],
    limits: tuple[float, float],
    share: Tensor | float,
    erased: Tensor | float,
) -> Tensor:
    import torch

    from slidefusion.nets.heads import detail_bands

    grain, clear = limits
    result = image
    bands = zip(detail_bands(source), detail_bands(image), levels, strict=True)
    for theirs, ours, level in bands:
        missing = theirs - ours
        energy = _mean_near((missing / level).square())
        lead = _mean_near((theirs / level).square() - (ours / level).square())
        small = share * (2.0 - energy / grain).clamp(0.0, 1.0)
        gone = erased * ((lead - clear) / energy.clamp(min=1e-6)).clamp(0.0, 1.0)
        result = result + torch.maximum(small, gone) * missing
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
