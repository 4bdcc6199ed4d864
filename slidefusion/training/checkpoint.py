"""Checkpoints: everything a run needs to go on as if it had not stopped, without a pickle.

One safetensors file: the tensors of every module and optimiser under ``module/…`` and
``optimiser/…``, the step and the recipe in its header.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import nn
from torch.optim import Optimizer

from slidefusion.errors import OptionError, WeightsError
from slidefusion.files import replace_file

__all__ = ["CHECKPOINT", "checkpoint_in", "read_checkpoint", "write_checkpoint"]

CHECKPOINT = "checkpoint"
"""Name of the file in a run's folder, which no weights may have."""


def checkpoint_in(folder: Path) -> Path:
    """Where the checkpoint of the run in ``folder`` is."""
    return folder / f"{CHECKPOINT}.safetensors"


def write_checkpoint(
    path: Path,
    step: int,
    recipe: str,
    modules: Mapping[str, nn.Module],
    optimisers: Mapping[str, Optimizer],
) -> None:
    """Write a checkpoint so that the file is whole or the previous one."""
    tensors: dict[str, torch.Tensor] = {}
    for name, module in modules.items():
        for key, value in module.state_dict().items():
            tensors[f"module/{name}/{key}"] = value.detach().cpu().contiguous().clone()
    for name, optimiser in optimisers.items():
        for number, state in optimiser.state_dict()["state"].items():
            for key, value in state.items():
                tensors[f"optimiser/{name}/{number}/{key}"] = (
                    torch.as_tensor(value).detach().cpu().contiguous().clone()
                )
    header = {"step": str(step), "recipe": recipe, "digest": _digest(tensors)}
    data = safetensors.torch.save(tensors, header)
    with replace_file(path, durable=True) as partial:
        partial.write_bytes(data)


def _digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """Of the numbers themselves: a run goes on for hours from what a disk may have damaged."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_checkpoint(
    path: Path,
    recipe: str,
    modules: Mapping[str, nn.Module],
    optimisers: Mapping[str, Optimizer],
) -> int:
    """Load a checkpoint into ``modules`` and ``optimisers``; returns the steps it has done.

    Raises
    ------
    OptionError
        It was made with another recipe: names what differs.
    WeightsError
        The file is damaged.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            header = file.metadata()
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, safetensors.SafetensorError) as error:
        raise WeightsError(
            f"{path} is no readable checkpoint ({error}); delete it to start again"
        ) from error
    if not header or not {"recipe", "step"} <= header.keys():
        raise WeightsError(f"{path} is no checkpoint of a training; delete it to start again")
    if header.get("digest") != _digest(tensors):
        raise WeightsError(f"{path} is damaged; delete it to start again")
    _check_recipe(path, header["recipe"], recipe)
    for name, module in modules.items():
        start = f"module/{name}/"
        module.load_state_dict(
            {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
        )
    for name, optimiser in optimisers.items():
        state: dict[int, dict[str, torch.Tensor]] = {}
        start = f"optimiser/{name}/"
        for key, value in tensors.items():
            if key.startswith(start):
                number, field = key.removeprefix(start).split("/", 1)
                state.setdefault(int(number), {})[field] = value
        optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
    return int(header["step"])


def _check_recipe(path: Path, given: str, wanted: str) -> None:
    old, new = json.loads(given), json.loads(wanted)
    differ = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    if differ:
        changes = "; ".join(f"{key}: {old.get(key)!r} then, {new.get(key)!r} now" for key in differ)
        raise OptionError(
            f"{path} was made with other settings ({changes}): continue with the same ones, or "
            "train into another folder"
        )
