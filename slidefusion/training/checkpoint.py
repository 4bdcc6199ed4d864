"""Checkpoints: everything a run needs to go on as if it had not stopped, without a pickle.

One safetensors file: the tensors of every module and optimiser under ``module/…`` and
``optimiser/…``, the step and the recipe in its header.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import nn
from torch.optim import Optimizer

from slidefusion.errors import OptionError, OutputError, WeightsError
from slidefusion.files import CANNOT_WRITE, replace_file

__all__ = ["CHECKPOINT", "checkpoint_in", "read_checkpoint", "write_checkpoint", "writing_into"]

CHECKPOINT = "checkpoint"
"""Name of the file in a run's folder, which no weights may have."""


def checkpoint_in(folder: Path) -> Path:
    """Where the checkpoint of the run in ``folder`` is."""
    return folder / f"{CHECKPOINT}.safetensors"


@contextlib.contextmanager
def writing_into(folder: Path) -> Iterator[None]:
    """Errors of writing there say what to do.

    Raises
    ------
    OutputError
        The folder is full, or may not be written to.
    """
    try:
        yield
    except OSError as error:
        where = folder if error.filename is None else Path(error.filename)
        elsewhere = folder not in (where, *where.parents)
        if error.errno not in CANNOT_WRITE or elsewhere:
            raise
        raise OutputError(
            f"{folder} cannot be written to ({error.strerror}): make room, or take another folder; "
            "the run goes on from its last checkpoint"
        ) from error


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
    header = {"step": str(step), "recipe": recipe, "digest": _digest(step, recipe, tensors)}
    data = safetensors.torch.save(tensors, header)
    with replace_file(path, durable=True) as partial:
        partial.write_bytes(data)


def _digest(step: int | str, recipe: str, tensors: Mapping[str, torch.Tensor]) -> str:
    """Of the numbers themselves: a run goes on for hours from what a disk may have damaged."""
    digest = hashlib.sha256(f"{step} {recipe}".encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
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
    if "digest" not in header:
        raise WeightsError(f"{path} is of an earlier version; delete it to start again")
    if header["digest"] != _digest(header["step"], header["recipe"], tensors):
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
    old.setdefault("devices", new.get("devices"))  # earlier versions did not note how many
    differ = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    if differ:
        changes = "; ".join(f"{key}: {old.get(key)!r} then, {new.get(key)!r} now" for key in differ)
        raise OptionError(
            f"{path} was made with other settings ({changes}): continue with the same ones, or "
            "train into another folder"
        )
