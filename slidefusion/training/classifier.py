"""Training of the multi-focus CNN: which of two patches is in focus."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

from slidefusion.nets import build
from slidefusion.training.recipe import Recipe
from slidefusion.training.samples import Crops, augmented

__all__ = ["ClassifierLearner"]

Batch = dict[str, Tensor]
Floats = npt.NDArray[np.float32]

_PATCH_PX = 24
"""The 16 px that are judged and the 4 px around them that the network sees in an image, too."""
_JUDGED = np.s_[..., 4:20, 4:20]
_PATCHES_A_CROP = 8


class ClassifierLearner:
    """The Siamese focus classifier in training.

    Half of the pairs are as in its publication (Liu et al. 2017, section 3.3): a sharp patch and
    the same blurred with a Gaussian. The others are two planes of a stack, the one nearer to the
    truth being in focus; a recipe of one plane has none of these. Contrast, polarity and noise
    vary, so that neither stain nor grain tells.
    """

    exported = "model"
    losses: tuple[str, ...] = ("cross_entropy", "accuracy")

    def __init__(self, recipe: Recipe, crops: Crops) -> None:
        self.recipe = recipe
        self.crops = crops
        model = build("focus_classifier", **recipe.network)
        self.modules: dict[str, nn.Module] = {"model": model}
        self.optimisers: dict[str, torch.optim.Optimizer] = {
            "model": torch.optim.Adam(model.parameters(), recipe.learning_rate)
        }

    def sample(self, step: int, part: int = 0) -> Batch:
        """The batch of ``step``: two patches (N, 1, 24, 24) and which is in focus (N,), 0 or 1."""
        pairs: list[tuple[Floats, Floats]] = []
        labels = []
        for stack, truth, rng in augmented(self.crops, self.recipe, step, part, stream=3):
            found = _patch_pairs(stack, truth, rng)
            pairs += found
            labels.append(rng.integers(2, size=len(found)))
        label = np.concatenate(labels)
        first = [pair[swap] for pair, swap in zip(pairs, label, strict=True)]
        second = [pair[1 - swap] for pair, swap in zip(pairs, label, strict=True)]
        return {
            "first": torch.from_numpy(np.stack(first)[:, None]),
            "second": torch.from_numpy(np.stack(second)[:, None]),
            "label": torch.from_numpy(label),
        }

    def update(self, batch: Batch, step: int, fabric: Any) -> dict[str, float]:
        """One update; returns the losses."""
        logits = self.modules["model"](batch["first"], batch["second"])[:, :, 2, 2].float()
        loss = functional.cross_entropy(logits, batch["label"])
        self.optimisers["model"].zero_grad()
        fabric.backward(loss)
        self.optimisers["model"].step()
        right = (logits.detach().argmax(1) == batch["label"]).float().mean()
        return {"cross_entropy": float(loss.detach()), "accuracy": float(right)}

    @torch.no_grad()
    def images(self, batch: Batch, network: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
        """For validation: the first patches, and scores and labels as gray patches."""
        logits = network(batch["first"], batch["second"])[:, :, 2, 2].float()
        shape = (-1, 3, _PATCH_PX, _PATCH_PX)
        score = logits.softmax(1)[:, 1, None, None, None].expand(shape)
        label = batch["label"].float()[:, None, None, None].expand(shape)
        return batch["first"].expand(shape), score, label


def _patch_pairs(
    stack: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8], rng: np.random.Generator
) -> list[tuple[Floats, Floats]]:
    """Pairs (sharp, blurred) of patches in [0, 1] where it is clearest which is which."""
    gray_truth = truth.mean(axis=0, dtype=np.float32)
    if len(stack) < 2 or rng.random() < 0.5:
        sigma = float(rng.uniform(0.7, 4.0))
        planes = np.stack([gray_truth, ndimage.gaussian_filter(gray_truth, sigma)])
    else:
        chosen = rng.choice(len(stack), 2, replace=False)
        planes = stack[chosen].mean(axis=1, dtype=np.float32)
    # low-pass the differences: noise is in every plane and in no truth
    errors = np.abs(ndimage.gaussian_filter(planes - gray_truth, (0, 1, 1)))
    error = _patches(errors)[_JUDGED].mean(axis=(2, 3))  # (2, patches)
    patches = _patches(planes)
    clear = np.abs(error[0] - error[1]) / (error.max(axis=0) + 1.0)
    contrast = _patches(gray_truth[None])[0][_JUDGED].std(axis=(1, 2))
    best = np.argsort(-clear * np.minimum(contrast, 6.0))[:_PATCHES_A_CROP]
    gain = float(rng.uniform(0.5, 1.5)) * float(rng.choice([-1.0, 1.0]))
    noise = float(rng.uniform(0.0, 2.5))
    pairs = []
    for number in best:
        sharp = int(error[0, number] > error[1, number])
        pair = patches[[sharp, 1 - sharp], number]
        changed = 128.0 + gain * (pair - 128.0) + rng.normal(0.0, noise, pair.shape)
        values = np.clip(changed / 255.0, 0.0, 1.0).astype(np.float32)
        pairs.append((values[0], values[1]))
    return pairs


def _patches(images: Floats) -> Floats:
    """(N, h, w) cut into (N, patches, 24, 24), without overlap."""
    count, height, width = images.shape
    rows, columns = height // _PATCH_PX, width // _PATCH_PX
    cut = images[:, : rows * _PATCH_PX, : columns * _PATCH_PX]
    cut = cut.reshape(count, rows, _PATCH_PX, columns, _PATCH_PX).swapaxes(2, 3)
    return cut.reshape(count, rows * columns, _PATCH_PX, _PATCH_PX)
