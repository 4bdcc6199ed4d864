"""Curves of a training run, as CSV and for TensorBoard."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from slidefusion.files import replace_file
from slidefusion.training.losses import ssim

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from slidefusion.training.trainer import Learner

__all__ = ["VALIDATION_STEP", "Curves", "steps_in"]

VALIDATION_STEP = 2**31
"""Crops of "steps" from here on are for validation: no training step has their numbers."""


class Curves:
    """Curves as CSV, and for TensorBoard."""

    def __init__(self, folder: Path, done: int, losses: Sequence[str]) -> None:
        self.folder = folder
        for name in ("losses.csv", "validation.csv"):
            _forget_after(folder / name, done)
        self.columns = ["step", *losses]
        """Of the losses: those of all updates, of which the first may not have some."""
        found = _whole_lines(folder / "losses.csv")
        if found and found[0].strip().split(",") != self.columns:
            # Earlier versions named the columns of the first row, which later rows did not have.
            (folder / "losses.csv").replace(folder / "losses-before.csv")
        from torch.utils.tensorboard import SummaryWriter

        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=done + 1)

    def losses(self, step: int, losses: dict[str, float]) -> None:
        self._row("losses.csv", self.columns, step, losses)

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
        self._row("validation.csv", ["step", *means], step, means)
        rows = torch.cat([image[:4].float().cpu().clamp(0, 1) for image in images])
        side = rows.shape[-1]
        grid = rows.reshape(3, -1, 3, side, side).permute(2, 0, 3, 1, 4)
        grid = grid.reshape(3, 3 * side, -1)
        self.board.add_image("input, output, truth", grid, step)

    def close(self) -> None:
        self.board.close()

    def _row(self, name: str, columns: list[str], step: int, values: dict[str, float]) -> None:
        path = self.folder / name
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, columns)  # an empty cell where there is no value
            if new:
                writer.writeheader()
            writer.writerow({"step": step, **{key: repr(value) for key, value in values.items()}})
        for key, value in values.items():
            self.board.add_scalar(f"{Path(name).stem}/{key}", value, step)


def _forget_after(path: Path, done: int) -> None:
    """Drop the rows of steps that will be done again."""
    if not path.exists():
        return
    lines = _whole_lines(path)
    head, rows = lines[:1], lines[1:]
    kept = [row for row in rows if int(row.split(",")[0]) <= done]
    if not kept:
        path.unlink()
        return
    with replace_file(path) as partial, partial.open("w", newline="") as file:
        file.writelines(head + kept)


def steps_in(table: Path) -> list[int]:
    """The steps that a table has rows of; none if it is not there."""
    return [int(row.partition(",")[0]) for row in _whole_lines(table)[1:]]


def _whole_lines(table: Path) -> list[str]:
    """Its lines, line ends as they are, but for one that was being written when the disk was full
    or the run was killed."""
    if not table.exists():
        return []
    with table.open(newline="") as file:
        return [line for line in file if line.endswith("\n")]
