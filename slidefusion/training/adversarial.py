"""Training of a generator against its discriminator: the paper's Algorithm 1."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from slidefusion.nets import build
from slidefusion.nets.inference import for_inference
from slidefusion.training.losses import content_loss, discriminator_loss, fooling_loss
from slidefusion.training.recipe import Recipe
from slidefusion.training.samples import Crops, augmented

__all__ = ["AdversarialLearner"]

Batch = dict[str, Tensor]


class AdversarialLearner:
    """``focusgan``, ``fusiongan``, ``pix2pix`` or ``srgan`` in training.

    ``blur_model`` is the frozen blur model whose masks condition the generator; None for networks
    without masks. In each update the discriminator learns from the truth and the generated images,
    then the generator from the truth and the discriminator.
    """

    exported = "generator"

    def __init__(self, recipe: Recipe, crops: Crops, blur_model: nn.Module | None) -> None:
        self.recipe = recipe
        self.crops = crops
        self.losses: tuple[str, ...] = ("content",)
        if recipe.adversarial:
            self.losses += ("adversarial", "discriminator")
        self.blur_model = (
            None
            if blur_model is None
            else for_inference(blur_model, getattr(torch, recipe.precision))
        )
        config: dict[str, Any] = {"planes": recipe.planes, **recipe.network}
        if recipe.kind.masked:
            config["masks"] = blur_model is not None
        self.modules: dict[str, nn.Module] = {"generator": build(recipe.kind.network, **config)}
        if recipe.adversarial:
            assert recipe.kind.discriminator is not None
            judge = dict(recipe.discriminator)
            if recipe.kind.conditioned:
                judge["condition"] = 3 * recipe.planes
            self.modules["discriminator"] = build(recipe.kind.discriminator, **judge)
        self.optimisers: dict[str, torch.optim.Optimizer] = {
            "generator": torch.optim.Adam(
                self.modules["generator"].parameters(), recipe.learning_rate
            )
        }
        if recipe.adversarial:
            self.optimisers["discriminator"] = torch.optim.Adam(
                self.modules["discriminator"].parameters(), recipe.discriminator_rate
            )

    def sample(self, step: int, part: int = 0) -> Batch:
        """The batch of ``step`` for process ``part``: stack (N, Z, 3, h, w), truth (N, 3, h, w)."""
        batch = list(augmented(self.crops, self.recipe, step, part, stream=1))
        return {
            "stack": torch.from_numpy(np.stack([planes for planes, _, _ in batch])),
            "truth": torch.from_numpy(np.stack([truth for _, truth, _ in batch])),
        }

    def update(self, batch: Batch, step: int, fabric: Any) -> dict[str, float]:
        """One update of both networks; returns their losses."""
        stack = batch["stack"].float() / 255.0
        truth = batch["truth"].float() / 255.0
        masks = self.masks(stack)
        generator, recipe = self.modules["generator"], self.recipe
        generated = generator(stack, masks)
        losses: dict[str, float] = {}
        judged = recipe.adversarial and step >= recipe.warm_up
        if judged:
            discriminator = self.modules["discriminator"]
            optimiser = self.optimisers["discriminator"]
            optimiser.zero_grad()
            condition = stack.flatten(1, 2) if recipe.kind.conditioned else None
            loss = discriminator_loss(
                discriminator(truth, condition).float(),
                discriminator(generated.detach(), condition).float(),
            )
            fabric.backward(loss)
            optimiser.step()
            losses["discriminator"] = float(loss.detach())
        content = content_loss(generated.float(), truth, recipe.ssim_weight)
        total = content
        if judged:
            discriminator.requires_grad_(False)
            fooling = fooling_loss(discriminator(generated, condition).float())
            total = content + recipe.adversarial_weight * fooling
            losses["adversarial"] = float(fooling.detach())
        self.optimisers["generator"].zero_grad()
        fabric.backward(total)
        if recipe.clip:
            fabric.clip_gradients(
                generator,
                self.optimisers["generator"],
                max_norm=recipe.clip,
                error_if_nonfinite=False,
            )
        self.optimisers["generator"].step()
        if judged:
            discriminator.requires_grad_(True)
        losses["content"] = float(content.detach())
        return losses

    @torch.no_grad()
    def masks(self, stack: Tensor) -> Tensor | None:
        """Blur masks (N, Z, h, w) of a stack (N, Z, 3, h, w), or None without a blur model."""
        if self.blur_model is None:
            return None
        probability: Tensor = self.blur_model.blurred(stack.flatten(0, 1))  # type: ignore[operator]
        return probability.reshape(*stack.shape[:2], *stack.shape[3:])

    @torch.no_grad()
    def images(self, batch: Batch, network: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
        """For validation: middle planes, generated images and truths, (N, 3, h, w) in [0, 1]."""
        stack = batch["stack"].float() / 255.0
        generated: Tensor = network(stack, self.masks(stack))
        return stack[:, stack.shape[1] // 2], generated.float(), batch["truth"].float() / 255.0
