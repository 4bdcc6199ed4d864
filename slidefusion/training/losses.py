"""The losses: content (mean absolute error, optionally SSIM) and adversarial (cross-entropy).

Source: the method paper, equations 1 to 5: L_G = content + 0.001 adversarial; the discriminator
minimises the cross-entropy of real against generated.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["content_loss", "discriminator_loss", "fooling_loss", "ssim"]


def content_loss(image: Tensor, truth: Tensor, ssim_weight: float = 0.0) -> Tensor:
    """Mean absolute error of (N, C, H, W), plus ``ssim_weight`` x (1 - SSIM).

    >>> float(content_loss(torch.ones(1, 3, 16, 16), torch.zeros(1, 3, 16, 16)))
    1.0
    """
    error = (image - truth).abs().mean()
    return error + ssim_weight * (1.0 - ssim(image, truth)) if ssim_weight else error


def ssim(image: Tensor, truth: Tensor, window: int = 7) -> Tensor:
    """Mean SSIM of (N, C, H, W) in [0, 1], over uniform windows that lie inside the image.

    >>> float(ssim(torch.ones(1, 3, 16, 16), torch.ones(1, 3, 16, 16)))
    1.0
    """
    moments = torch.cat([image, truth, image * image, truth * truth, image * truth])
    height, width = image.shape[2:]
    moments = _means(height, window, image).T @ (moments @ _means(width, window, image))
    mean_x, mean_y, xx, yy, xy = moments.chunk(5)
    c1, c2 = 0.01**2, 0.03**2
    var_x, var_y, covariance = xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y
    top = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    bottom = (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    return (top / bottom).mean()


def _means(size: int, window: int, like: Tensor) -> Tensor:
    """A row of ``size`` times this (size, size - window + 1) are the means of its windows.

    Crops are small: such a product takes a third of the time of the pooling functions.
    """
    at = torch.arange(size, device=like.device)
    offset = at[:, None] - at[: size - window + 1]
    return ((offset >= 0) & (offset < window)).to(like.dtype) / window


def fooling_loss(logits: Tensor) -> Tensor:
    """The generator's adversarial loss: cross-entropy of its images being called real."""
    return functional.binary_cross_entropy_with_logits(logits, torch.ones_like(logits))


def discriminator_loss(real: Tensor, generated: Tensor) -> Tensor:
    """Cross-entropy of real called real and of generated called generated, summed."""
    called_real = functional.binary_cross_entropy_with_logits(real, torch.ones_like(real))
    called_generated = functional.binary_cross_entropy_with_logits(
        generated, torch.zeros_like(generated)
    )
    return called_real + called_generated
