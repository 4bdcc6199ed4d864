"""Writing weights with their card."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slidefusion.errors import WeightsError
from slidefusion.files import replace_file
from slidefusion.weights.card import CARD_SUFFIX, WEIGHTS_SUFFIX, Card, card_of, parse_card
from slidefusion.weights.packs import read_bytes

if TYPE_CHECKING:
    from torch import nn

__all__ = ["check_copy", "copy_to", "save"]


def save(
    path: str | Path, module: nn.Module, card: Mapping[str, Any], dtype: str = "bfloat16"
) -> Path:
    """Write the weights of ``module`` and its card; returns the path of the weights.

    Parameters
    ----------
    path
        ``…/NAME.safetensors``, or without the suffix; the card becomes ``…/NAME.json``.
    module
        A network of ``slidefusion.nets``, whose ``config`` holds its keyword arguments.
    card
        At least ``fuser`` (or ``"blur"``). Filled in where missing: ``name`` (of the file),
        ``network``, ``planes``; always: ``config``, ``parameters``, ``dtype``, ``sha256``.
    dtype
        Of the tensors with two or more axes; vectors (biases, batch norm's statistics) are few and
        stay float32.

    Raises
    ------
    WeightsError
        When the card lacks something, ``module`` is none of the networks, or holds NaN or infinity.
    """
    import safetensors.torch
    import torch

    target = Path(path)
    if target.name.endswith(WEIGHTS_SUFFIX):
        target = target.with_name(target.name.removesuffix(WEIGHTS_SUFFIX))
    weights = target.with_name(target.name + WEIGHTS_SUFFIX)
    kind = getattr(torch, dtype)
    tensors = {
        name: tensor.detach()
        .to("cpu", kind if tensor.is_floating_point() and tensor.ndim > 1 else None)
        .clone(memory_format=torch.contiguous_format)
        for name, tensor in module.state_dict().items()
    }
    data = safetensors.torch.save(
        {n: t.float() if t.is_floating_point() and t.ndim < 2 else t for n, t in tensors.items()}
    )
    lost = [name for name, t in tensors.items() if not bool(torch.isfinite(t).all())]
    if lost:
        raise WeightsError(
            f"{len(lost)} of {len(tensors)} tensors hold NaN or infinity ({lost[0]}, …), and are "
            f"not written to {weights}: the training diverged"
        )
    config = dict(getattr(module, "config", {}))
    facts = {
        "name": target.name,
        "network": _network_name(module),
        "planes": config.get("planes"),
        "blur_model": None,
        **card,
        "config": config,
        "parameters": sum(p.numel() for p in module.parameters()),
        "dtype": dtype,
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    try:
        text = json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise WeightsError(
            f"the card of {weights} is no JSON ({error}): give numbers that are finite, texts, "
            "booleans, None, and lists and dicts of them"
        ) from error
    parse_card(text.encode(), str(weights))
    weights.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(weights, durable=True) as partial:
        partial.write_bytes(data)
    with replace_file(weights.with_name(target.name + CARD_SUFFIX), durable=True) as partial:
        partial.write_bytes(text.encode())
    return weights


def check_copy(card: Card, folder: str | Path) -> Path:
    """Where :func:`copy_to` puts the weights, and raises what that raises, without doing it."""
    target = Path(folder) / f"{card.name}{WEIGHTS_SUFFIX}"
    if target.exists() and hashlib.sha256(target.read_bytes()).hexdigest() != card.sha256:
        raise WeightsError(
            f"{target} holds other weights than {card.where}, of which a copy belongs there: "
            "choose another folder"
        )
    return target


def copy_to(card: Card, folder: str | Path) -> Path:
    """Put weights and their card into ``folder``, unless they are there; returns their path.

    Raises
    ------
    WeightsError
        Other weights of that name are there.
    """
    target = check_copy(card, folder)
    for source, copy in ((card.where, target), (card_of(card.where), Path(card_of(str(target))))):
        data = read_bytes(source)
        if not copy.exists() or copy.read_bytes() != data:
            with replace_file(copy, durable=True) as partial:
                partial.write_bytes(data)
    return target


def _network_name(module: nn.Module) -> str:
    from slidefusion.nets import NETWORKS

    target = f"{type(module).__module__}:{type(module).__qualname__}"
    for name, known in NETWORKS.items():
        if known == target:
            return name
    raise WeightsError(
        f"a {type(module).__name__} is none of slidefusion's networks ({', '.join(NETWORKS)}), so "
        "its weights could not be loaded again"
    )
