"""The loop that every training run goes through: update, average, validate, checkpoint, export."""

from __future__ import annotations

import copy
import csv
import hashlib
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from slidefusion.errors import OptionError
from slidefusion.training.checkpoint import read_checkpoint, write_checkpoint
from slidefusion.training.losses import ssim
from slidefusion.training.recipe import Recipe

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["Learner", "run"]

_LOG_STEPS = 10
VALIDATION_STEP = 2**31
"""Crops of "steps" from here on are for validation: no training step has their numbers."""

Batch = dict[str, Tensor]


class Learner(Protocol):
    """What is trained: networks, their optimisers, and how a batch is made and learnt from."""

    recipe: Recipe
    exported: str
    """The module that is exported, of ``modules``."""
    modules: dict[str, nn.Module]
    optimisers: dict[str, torch.optim.Optimizer]

    def sample(self, step: int, part: int = 0) -> Batch:
        """The batch of a step: a function of the recipe's seed, the step and the process."""

    def update(self, batch: Batch, step: int, fabric: Any) -> dict[str, float]:
        """Update number ``step`` (from 0); returns the losses."""

    def images(self, batch: Batch, network: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs, outputs and truths (N, 3, h, w) in [0, 1]."""


def run(
    learner: Learner,
    folder: Path,
    *,
    validation: Learner | None = None,
    devices: int | str = 1,
    accelerator: str = "auto",
    checkpoint_steps: int = 250,
    stop_after: int | None = None,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
) -> nn.Module:
    """Train ``learner`` to the end of its recipe; returns the network to export.

    ``folder`` holds ``checkpoint.safetensors`` (a run that finds one goes on from it to the same
    result), ``losses.csv``, ``validation.csv`` and TensorBoard's files. ``validation`` samples
    from slides that are not trained on. ``stop_after`` stops at that step, as an interruption
    would.

    Raises
    ------
    OptionError
        The folder has a checkpoint of another recipe.
    """
    recipe = learner.recipe
    fabric = _fabric(recipe, devices, accelerator)
    fabric.launch()
    network = learner.modules[learner.exported]
    average = _Average(network, recipe.average)
    saved = {**learner.modules, "average": average.network}
    checkpoint = folder / "checkpoint.safetensors"
    done = 0
    if checkpoint.exists():
        done = read_checkpoint(checkpoint, recipe.to_json(), saved, learner.optimisers)
    _set_up(fabric, learner, average)
    log = _Log(folder, done) if fabric.is_global_zero else None
    with ThreadPoolExecutor(1, "crops") as ahead:
        coming = ahead.submit(learner.sample, done, fabric.global_rank)
        last = min(recipe.steps, stop_after or recipe.steps)
        for step in range(done, last):
            batch = fabric.to_device(coming.result())
            if step + 1 < last:
                coming = ahead.submit(learner.sample, step + 1, fabric.global_rank)
            # dropout, the only other randomness, is a function of the step too
            torch.manual_seed(_step_seed(recipe.seed, step, fabric.global_rank))
            _set_rates(learner, recipe, step)
            losses = learner.update(batch, step, fabric)
            average.update()
            finished = step + 1 == recipe.steps
            if log and (finished or (step + 1) % _LOG_STEPS == 0):
                log.losses(step + 1, losses)
            if on_step:
                on_step(step + 1, losses)
            if finished or (step + 1) % checkpoint_steps == 0:
                if fabric.is_global_zero:
                    write_checkpoint(
                        checkpoint, step + 1, recipe.to_json(), saved, learner.optimisers
                    )
                if log and validation is not None:
                    log.validate(step + 1, validation, average.network, fabric)
                fabric.barrier()
    if log:
        log.close()
    return average.network


def _fabric(recipe: Recipe, devices: int | str, accelerator: str) -> Fabric:
    try:
        from lightning_fabric import Fabric
    except ImportError as error:
        raise OptionError(
            "training needs more than fusing does: python -m pip install 'slidefusion[train]'"
        ) from error
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    precision = "bf16-mixed" if recipe.precision == "bfloat16" else "32-true"
    return Fabric(accelerator=accelerator, devices=devices, precision=precision)  # type: ignore[arg-type]


def _set_up(fabric: Fabric, learner: Learner, average: _Average) -> None:
    for name, module in learner.modules.items():
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        learner.modules[name], learner.optimisers[name] = fabric.setup(
            module, learner.optimisers[name]
        )
    average.network.to(fabric.device)
    frozen = getattr(learner, "blur_model", None)
    if frozen is not None:
        frozen.to(fabric.device)


def _set_rates(learner: Learner, recipe: Recipe, step: int) -> None:
    for name, optimiser in learner.optimisers.items():
        rate = recipe.discriminator_rate if name == "discriminator" else recipe.learning_rate
        for group in optimiser.param_groups:
            group["lr"] = rate * recipe.rate(step)


def _step_seed(seed: int, step: int, rank: int) -> int:
    text = f"{seed}/{step}/{rank}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:7], "little")


class _Average:
    """An exponential moving average of a network's weights."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.source = network
        self.network = copy.deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self) -> None:
        source = self.source.state_dict()
        for key, value in self.network.state_dict().items():
            new = source[key].to(value.device)
            if value.is_floating_point() and self.decay:
                value.lerp_(new.to(value.dtype), 1.0 - self.decay)
            else:
                value.copy_(new)


class _Log:
    """Curves as CSV, and for TensorBoard where it is installed."""

    def __init__(self, folder: Path, done: int) -> None:
        self.folder = folder
        for name in ("losses.csv", "validation.csv"):
            _forget_after(folder / name, done)
        self.board: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=done + 1)
        except ImportError:
            pass

    def losses(self, step: int, losses: dict[str, float]) -> None:
        self._row("losses.csv", step, losses)

    def validate(self, step: int, learner: Learner, network: nn.Module, fabric: Fabric) -> None:
        values: dict[str, list[float]] = {"mae": []}
        if learner.exported == "generator":  # the other networks make no images
            values |= {"ssim": [], "ssim_input": []}
        images: Sequence[Tensor] = ()
        for number in range(4):
            batch = fabric.to_device(learner.sample(VALIDATION_STEP + number))
            with fabric.autocast():
                images = learner.images(batch, network)
            inputs, outputs, truths = (image.float() for image in images)
            if "ssim" in values:
                values["ssim"].append(float(ssim(outputs, truths)))
                values["ssim_input"].append(float(ssim(inputs, truths)))
            values["mae"].append(float((outputs - truths).abs().mean()))
        means = {name: math.fsum(found) / len(found) for name, found in values.items()}
        self._row("validation.csv", step, means)
        if self.board is not None:
            rows = torch.cat([image[:4].float().cpu().clamp(0, 1) for image in images])
            side = rows.shape[-1]
            grid = rows.reshape(3, -1, 3, side, side).permute(2, 0, 3, 1, 4)
            grid = grid.reshape(3, 3 * side, -1)
            self.board.add_image("input, output, truth", grid, step)

    def close(self) -> None:
        if self.board is not None:
            self.board.close()

    def _row(self, name: str, step: int, values: dict[str, float]) -> None:
        path = self.folder / name
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["step", *values])
            writer.writerow([step, *(repr(value) for value in values.values())])
        if self.board is not None:
            for key, value in values.items():
                self.board.add_scalar(f"{Path(name).stem}/{key}", value, step)


def _forget_after(path: Path, done: int) -> None:
    """Drop the rows of steps that will be done again."""
    if not path.exists():
        return
    lines = path.read_text().splitlines()
    kept = [line for line in lines[1:] if int(line.split(",")[0]) <= done]
    path.write_text("\n".join([lines[0], *kept]) + "\n") if kept else path.unlink()
