"""The detail of a slide, given back where a network has only smoothed.

Generators are trained towards images without noise. They therefore also remove fine noise where the
slide is in focus, and the weakest texture with it. On a slide with strong noise that is a gain. On
a slide whose noise is too weak to be seen nothing is gained, and texture is lost.

*Grain* is what a network changed by no more than the noise is strong. All of it is added again, or
a share that follows from the noise of the slide. So pixels that were sharp stay as they were, and
what the network has restored stays restored.

A network also removes faint small things, and sharp edges of a kind that it has not been trained
with. Detail that the slide has clearly, above its noise, and that the network's image has less of,
counts as *erased*. It is added again, however strong the noise is.
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
"""Energy up to which a difference counts as grain, in units of the energy of noise. The limit for a
fusion of several planes is higher, because its sharpest places are its noisiest, too. With 16 the
image of Cervix93 (three planes, two steps apart) has the SSIM of the fusion; with 4 it had less."""
_CLEAR, _CLEAR_OF_FUSED = 1.5, 0.7
"""By how much the energy of the slide must exceed that of the image, in units of the energy of
noise, for something to have been erased. In the finest band noise alone has 0.8 in a plane and 0.4
in a fusion, and the limits are nearly twice as much. With half of these limits noise comes back
everywhere."""
_BOX_PX = 7
_SAMPLE_PX = 4
_BLOCK_PX = 64
_QUANTILE = 0.25
_DEVIATION = 1.4826  # of a normal distribution, from the median of its absolute values


def noise_level(patches: npt.NDArray[Any], white: float) -> float:
    """Standard deviation of the noise in the finest detail band, as a fraction of ``white``.

    ``patches`` (N, Z, C, p, p) are of a slide. The noise of each block of 64 x 64 px is estimated
    from the median of the band's absolute values. A quarter of the blocks have less noise than what
    is returned: in quiet blocks blur has left nothing but noise, and others are full of sharp
    detail. Blocks without any noise (clipped, or filled up) do not count. The result is 0.0 if
    there are no others.

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

    - Grain: ``share`` of the difference of source and image is added where its mean square is at
      most that of twice the noise (fused: of four times the noise). From double that mean square on
      nothing is added.
    - What was erased: the mean square of the source, less 1.5 (fused: 0.7) times that of the noise,
      may still exceed that of the image. The part of the difference that is added is ``erased``
      times this excess over the mean square of the difference, and ``erased`` at most.

    Of the two the larger is added. ``share`` and ``erased`` are numbers, or (N, 1, H, W).

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
