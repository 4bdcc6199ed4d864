"""Checkpoints: everything a run needs to go on as if it had not stopped, without a pickle.

One safetensors file: the tensors of every module and optimiser under ``module/…`` and
``optimiser/…``, the step and the recipe in its header.
"""

from __future__ import annotations

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

__all__ = ["read_checkpoint", "write_checkpoint"]


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
    with replace_file(path) as partial:
        safetensors.torch.save_file(tensors, partial, {"step": str(step), "recipe": recipe})


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
