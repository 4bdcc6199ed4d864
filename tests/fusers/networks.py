"""Tiny networks with random weights, saved as the fusers want them; no test needs what ships."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import torch

from slidefusion import weights
from slidefusion.nets import build
from slidefusion.nets.input_ranges import as_text, measure

SMALL: dict[str, dict[str, Any]] = {
    "generator": {"width": 4, "edge_kernel": 3},
    "fusiongan": {"width": 4},
    "pix2pix": {"width": 4, "depth": 4},
    "srgan": {"width": 4, "blocks": 1},
    "blur_model": {"width": 4, "blocks": [1, 1, 1]},
    "focus_classifier": {"width": 4},
}


def folder_of(what: str) -> Path:
    """A folder whose name is known before the tests run, as options of tests hold it.

    One test run has one name, in whatever processes: those of a parallel run collect alike.
    """
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", os.getpid())
    return Path(tempfile.gettempdir()) / f"slidefusion-tiny-{what}-{run}"


def tiny(network: str, seed: int = 0, **config: Any) -> torch.nn.Module:
    """A network of that name in eval mode; a generator's image is near its middle plane."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if network in ("generator", "fusiongan", "pix2pix", "srgan"):
            config = {"residual": True, **config}
        made = build(network, **{**SMALL[network], **config})
        for module in made.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.uniform_(-0.1, 0.1)
                module.running_var.uniform_(0.5, 2)
        with torch.no_grad():
            if hasattr(made, "exit"):
                made.exit.weight.normal_(0, 0.01)
        made.eval()
        if config.get("residual"):
            _scale_residual(made)
    return made


def _scale_residual(network: Any) -> None:
    """Make the image differ from the middle plane by a quarter at most, and no less."""
    planes = network.config["planes"]
    stack = torch.stack(
        [torch.rand(planes, 3, 64, 64), *(torch.full((planes, 3, 64, 64), v) for v in (0, 0.5, 1))]
    )
    with torch.no_grad():
        for _ in range(2):  # the head's tanh is no line
            change = network(stack, stack[:, :, 0]) - stack[:, planes // 2]
            network.exit.weight *= 0.25 / change.abs().max()


def save_tiny(folder: Path, fuser: str, planes: int, **config: Any) -> str:
    """Random weights for a fuser, with a blur model beside them; the path."""
    if fuser == "cnn":
        return str(weights.save(folder / "cnn", tiny("focus_classifier"), {"fuser": "cnn"}))
    network = "generator" if fuser == "focusgan" else fuser
    card: dict[str, Any] = {"fuser": fuser}
    if fuser == "focusgan" and config.get("masks", True):
        card["blur_model"] = "blur"
        weights.save(folder / "blur", tiny("blur_model"), {"fuser": "blur"})
    name = "-".join([fuser, str(planes), *(str(value) for value in config.values())])
    made = tiny(network, planes=planes, **config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        stack = torch.rand(1, planes, 3, 64, 64)
    masks = stack[:, :, 0] if network == "generator" else None
    card["input_ranges"] = as_text(measure(made, lambda: made(stack, masks)))
    return str(weights.save(folder / name, made, card))
