"""Losses against scikit-image and against arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from slidefusion.training.losses import (
    content_loss,
    discriminator_loss,
    fooling_loss,
    ssim,
)


def test_ssim_is_that_of_scikit_image_inside() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((1, 3, 40, 40)).astype(np.float32)
    image = np.clip(truth + rng.normal(0, 0.1, truth.shape), 0, 1).astype(np.float32)
    _, full = structural_similarity(
        image[0].astype(np.float64),
        truth[0].astype(np.float64),
        win_size=7,
        channel_axis=0,
        data_range=1.0,
        use_sample_covariance=False,
        full=True,
    )
    ours = float(ssim(torch.from_numpy(image), torch.from_numpy(truth)))
    assert ours == pytest.approx(full[:, 3:-3, 3:-3].mean(), abs=1e-5)


def test_content_is_the_mean_absolute_error_and_ssim() -> None:
    image, truth = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16)
    error = float((image - truth).abs().mean())
    assert float(content_loss(image, truth)) == pytest.approx(error)
    with_ssim = error + 0.2 * (1 - float(ssim(image, truth)))
    assert float(content_loss(image, truth, 0.2)) == pytest.approx(with_ssim)


def test_adversarial_losses_are_cross_entropies() -> None:
    real, generated = torch.tensor([2.0, -1.0]), torch.tensor([0.5, 0.0])

    def entropy(logits: torch.Tensor, label: int) -> float:
        odds = [1 / (1 + math.exp(-float(v))) for v in logits]
        return -sum(math.log(p if label else 1 - p) for p in odds) / len(odds)

    assert float(fooling_loss(generated)) == pytest.approx(entropy(generated, 1))
    expected = entropy(real, 1) + entropy(generated, 0)
    assert float(discriminator_loss(real, generated)) == pytest.approx(expected)
