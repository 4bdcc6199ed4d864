"""Training of the blur model: cross-entropy on planes with real and artificial masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from slidefusion.nets import build
from slidefusion.training.degradation import blurred_places, degrade
from slidefusion.training.recipe import Recipe
from slidefusion.training.samples import Crops, augmented

__all__ = ["BlurLearner"]

Batch = dict[str, Tensor]


class BlurLearner:
    """The blur model in training (section 3.3 of the method paper)."""

    exported = "model"
    losses: tuple[str, ...] = ("cross_entropy", "accuracy")

    def __init__(self, recipe: Recipe, crops: Crops) -> None:
        self.recipe = recipe
        self.crops = crops
        model = build("blur_model", **recipe.network)
        self.modules: dict[str, nn.Module] = {"model": model}
        self.optimisers: dict[str, torch.optim.Optimizer] = {
            "model": torch.optim.Adam(model.parameters(), recipe.learning_rate)
        }

    def sample(self, step: int, part: int = 0) -> Batch:
        """The batch of ``step`` for process ``part``: plane (N, 3, h, w), mask (N, h, w)."""
        planes, masks = [], []
        for stack, truth, rng in augmented(self.crops, self.recipe, step, part, stream=2):
            if rng.random() < self.recipe.real_masks:
                plane = stack[rng.integers(len(stack))]
                mask = blurred_places(plane, truth)
            else:
                plane, mask = degrade(truth, rng)
            planes.append(plane)
            masks.append(mask)
        return {
            "plane": torch.from_numpy(np.stack(planes)),
            "mask": torch.from_numpy(np.stack(masks)),
        }

    def update(self, batch: Batch, step: int, fabric: Any) -> dict[str, float]:
        """One update; returns the losses."""
        logits = self.modules["model"](batch["plane"].float() / 255.0).float()
        loss = functional.cross_entropy(logits, batch["mask"].long())
        self.optimisers["model"].zero_grad()
        fabric.backward(loss)
        self.optimisers["model"].step()
        right = (logits.detach().argmax(1) == batch["mask"].long()).float().mean()
        return {"cross_entropy": float(loss.detach()), "accuracy": float(right)}

    @torch.no_grad()
    def images(self, batch: Batch, network: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
        """For validation: planes (N, 3, h, w), predicted and true masks as images (N, 3, h, w)."""
        plane = batch["plane"].float() / 255.0
        probability: Tensor = network(plane).float().softmax(1)[:, 1:]
        mask = batch["mask"].float()[:, None]
        return plane, probability.expand(-1, 3, -1, -1), mask.expand(-1, 3, -1, -1)
