"""The loop that every training run goes through: update, average, validate, checkpoint, export."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from slidefusion.errors import ProcessingError
from slidefusion.training.average import WeightAverage
from slidefusion.training.checkpoint import (
    checkpoint_in,
    read_checkpoint,
    write_checkpoint,
    writing_into,
)
from slidefusion.training.curves import Curves, steps_in
from slidefusion.training.devices import count_devices, in_processes
from slidefusion.training.recipe import Recipe

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["Learner", "run"]

_LOG_STEPS = 10
_CHECKPOINT_SECONDS = 120.0
"""A run that is ended loses no more than this, however long its updates take."""
_SAMPLERS = {"cpu": 1, "cuda": 8}
"""Threads that make the next batches; a GPU learns from one faster than a thread makes one."""
Batch = dict[str, Tensor]


class Learner(Protocol):
    """What is trained: networks, their optimisers, and how a batch is made and learnt from."""

    recipe: Recipe
    exported: str
    """The module that is exported, of ``modules``."""
    modules: dict[str, nn.Module]
    optimisers: dict[str, torch.optim.Optimizer]
    losses: tuple[str, ...]
    """Names of all that ``update`` may return."""

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
    inputs: Mapping[str, str | None] | None = None,
    validation: Learner | None = None,
    devices: int | str = 1,
    accelerator: str = "cpu",
    checkpoint_steps: int = 250,
    stop_after: int | None = None,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
) -> nn.Module:
    """Train ``learner`` to the end of its recipe; returns the network to export.

    ``folder`` holds ``checkpoint.safetensors`` (a run that finds one goes on from it to the same
    result), ``losses.csv``, ``validation.csv`` and TensorBoard's files. ``inputs`` names what the
    run learns from beside its recipe; one that goes on must have the same. ``validation`` samples
    from slides that are not trained on. ``stop_after`` stops at that step, as an interruption
    would.

    With several ``devices`` each is run by a process of its own, on the next ``batch`` crops of the
    step, and the gradients are averaged: N devices with a batch of B learn what one does with a
    batch of N x B, but for batch normalisation, which sees B crops. Curves, validation and
    checkpoints are the first process's; ``on_step`` is called in this one.

    Raises
    ------
    OptionError
        The folder has a checkpoint of another recipe or inputs, or there are not so many devices.
    ProcessingError
        The training diverged, or one of several processes failed.
    """
    recipe = learner.recipe
    count = count_devices(devices, accelerator)
    average = WeightAverage(
        learner.modules[learner.exported], recipe.average, recipe.moved, trained=bool(recipe.start)
    )
    settings = json.dumps({**json.loads(recipe.to_json()), **(inputs or {})}, sort_keys=True)
    job = _Run(learner, average, validation, folder, checkpoint_steps, stop_after, settings)
    if job.checkpoint.exists():
        job.done = read_checkpoint(job.checkpoint, settings, job.saved, learner.optimisers)
    told = on_step or (lambda step, losses: None)
    if count == 1:
        _train(job, _fabric(recipe, 1, accelerator), told)
    elif job.done < job.last or job.unvalidated:
        state = in_processes(count, _train_part, (job, count, accelerator), told)
        average.network.load_state_dict(state)
    return average.network


@dataclass
class _Run:
    """A run as it begins, and goes on from its checkpoint."""

    learner: Learner
    average: WeightAverage
    validation: Learner | None
    folder: Path
    checkpoint_steps: int
    stop_after: int | None
    settings: str
    """Of recipe and inputs, as JSON: what a checkpoint must have been made with."""
    done: int = 0

    @property
    def last(self) -> int:
        """The step to stop at."""
        return min(self.learner.recipe.steps, self.stop_after or self.learner.recipe.steps)

    @property
    def checkpoint(self) -> Path:
        return checkpoint_in(self.folder)

    @property
    def unvalidated(self) -> bool:
        """Whether it was ended between a checkpoint and the validation that belongs to it."""
        due = self.validation is not None and self.done > 0 and self.validates_after(self.done)
        return due and self.done not in steps_in(self.folder / "validation.csv")

    def validates_after(self, step: int) -> bool:
        return step == self.learner.recipe.steps or step % self.checkpoint_steps == 0

    @property
    def saved(self) -> dict[str, nn.Module]:
        return {**self.learner.modules, "average": self.average.network}


def _train_part(given: tuple[_Run, int, str], report: Callable[..., None]) -> dict[str, Tensor]:
    """One of several processes; returns the averaged weights."""
    job, count, accelerator = given
    _train(job, _fabric(job.learner.recipe, count, accelerator), report)
    torch.distributed.destroy_process_group()
    return {name: value.cpu() for name, value in job.average.network.state_dict().items()}


def _train(job: _Run, fabric: Fabric, on_step: Callable[[int, dict[str, float]], None]) -> None:
    with writing_into(job.folder):
        _train_on(job, fabric, on_step)


def _train_on(job: _Run, fabric: Fabric, on_step: Callable[[int, dict[str, float]], None]) -> None:
    learner, average, validation = job.learner, job.average, job.validation
    recipe, done, saved = learner.recipe, job.done, job.saved
    fabric.launch()
    torch.backends.cudnn.benchmark = True  # all batches have the same shape
    _set_up(fabric, job)
    log = Curves(job.folder, done, learner.losses) if fabric.is_global_zero else None
    if log and validation is not None and job.unvalidated:
        log.validate(done, validation, average.network, fabric)
    fabric.barrier()
    threads = _SAMPLERS[fabric.device.type]
    written = time.monotonic()
    with ThreadPoolExecutor(threads, "crops") as samplers:

        def sample(step: int) -> Future[Batch]:
            return samplers.submit(learner.sample, step, fabric.global_rank)

        for step, sampled in _ahead(range(done, job.last), sample, threads):
            batch = fabric.to_device(sampled)
            # dropout, the only other randomness, is a function of the step too
            torch.manual_seed(_step_seed(recipe.seed, step, fabric.global_rank))
            _set_rates(learner, recipe, step)
            losses = _mean_of_all(learner.update(batch, step, fabric), fabric)
            _check_finite(step + 1, losses)
            average.update(step)
            finished = step + 1 == recipe.steps
            if finished:
                average.finish()
            if log and (finished or (step + 1) % _LOG_STEPS == 0):
                log.losses(step + 1, losses)
            on_step(step + 1, losses)
            validates = job.validates_after(step + 1)
            if log and (validates or time.monotonic() - written > _CHECKPOINT_SECONDS):
                write_checkpoint(job.checkpoint, step + 1, job.settings, saved, learner.optimisers)
                written = time.monotonic()
            if validates:
                if log and validation is not None:
                    log.validate(step + 1, validation, average.network, fabric)
                    written = time.monotonic()  # as long as that may have taken
                fabric.barrier()
    if log:
        log.close()


def _check_finite(step: int, losses: dict[str, float]) -> None:
    """A run that diverged ends at once, before it writes over its last good checkpoint."""
    lost = [f"{name} {value}" for name, value in losses.items() if not math.isfinite(value)]
    if lost:
        raise ProcessingError(
            f"training diverged at update {step} (loss: {', '.join(lost)}): train into another "
            "folder with a smaller learning_rate, or with clip"
        )


def _ahead(
    steps: range, sample: Callable[[int], Future[Batch]], ahead: int
) -> Iterator[tuple[int, Batch]]:
    """Each step with its batch, while so many of the next ones are being made."""
    coming: deque[tuple[int, Future[Batch]]] = deque()
    for step in steps:
        coming.append((step, sample(step)))
        if len(coming) > ahead:
            done, batch = coming.popleft()
            yield done, batch.result()
    for done, batch in coming:
        yield done, batch.result()


def _mean_of_all(losses: dict[str, float], fabric: Fabric) -> dict[str, float]:
    """The losses over the crops of all processes."""
    if fabric.world_size == 1:
        return losses
    values = torch.tensor(list(losses.values()), dtype=torch.float64, device=fabric.device)
    means = fabric.all_reduce(values, reduce_op="mean")
    assert isinstance(means, Tensor)
    return dict(zip(losses, means.tolist(), strict=True))


def _fabric(recipe: Recipe, count: int, accelerator: str) -> Fabric:
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # no "Using bfloat16 …"
    return Fabric(
        accelerator=accelerator,
        devices=count,
        strategy="ddp" if count > 1 else "auto",
        precision="bf16-mixed" if recipe.precision == "bfloat16" else "32-true",
        # Whatever cluster this may be on (a Slurm job says how many tasks it has), the processes
        # are ours.
        plugins=[LightningEnvironment()],
    )


def _set_up(fabric: Fabric, job: _Run) -> None:
    learner, average = job.learner, job.average
    for name, module in learner.modules.items():
        optimiser = learner.optimisers[name]
        module.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimiser.load_state_dict(optimiser.state_dict())  # a checkpoint's, to where weights are
        learner.modules[name], learner.optimisers[name] = fabric.setup(module, optimiser)
    average.network.to(fabric.device)
    frozen = getattr(learner, "blur_model", None)
    if frozen is not None:
        frozen.to(fabric.device)
        if job.validation is not None:  # on the same device, so the same
            job.validation.blur_model = frozen  # type: ignore[attr-defined]


def _set_rates(learner: Learner, recipe: Recipe, step: int) -> None:
    for name, optimiser in learner.optimisers.items():
        rate = recipe.discriminator_rate if name == "discriminator" else recipe.learning_rate
        for group in optimiser.param_groups:
            group["lr"] = rate * recipe.rate(step)


def _step_seed(seed: int, step: int, rank: int) -> int:
    text = f"{seed}/{step}/{rank}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:7], "little")
