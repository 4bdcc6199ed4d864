"""The card of weights: what a run was made of, and what came of it."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slidefusion.training.recipe import Recipe

__all__ = ["card_of_run"]


def card_of_run(
    recipe: Recipe,
    name: str,
    blur: Any,
    start: dict[str, Any] | None,
    stacks: Sequence[Any],
    folder: Path,
    command: str | None,
) -> dict[str, Any]:
    """What :func:`slidefusion.weights.save` writes beside the weights of a finished run.

    ``blur`` are the loaded weights of the blur model, ``start`` what the card says of those that
    the run began with, ``stacks`` the pairs of stack and truth, ``folder`` that of the run.
    """
    versions = {p: importlib.metadata.version(p) for p in ("slidefusion", "torch", "numpy")}
    return {
        "name": name,
        "fuser": recipe.method,
        "planes": recipe.planes if recipe.is_generator else None,
        "blur_model": None if blur is None else blur.card.name,
        "blur_sha256": None if blur is None else blur.card.sha256,
        "started_from": start,
        "trained_on": _origin(stacks),
        "recipe": dataclasses.asdict(recipe),
        "steps": recipe.steps,
        "command": command or "slidefusion.train in Python, with the recipe that is given here",
        "commit": _commit(),
        "versions": versions,
        "metrics": _last_row(folder / "validation.csv"),
        "license": "BSD-3-Clause",
    }


def _origin(pairs: Sequence[Any]) -> str:
    readers = [pair.stack.provenance.get("source", {}).get("reader") for pair in pairs]
    size = sum(pair.stack.shape[2] * pair.stack.shape[3] for pair in pairs) / 1e6
    kind = "phantoms" if all(reader == "phantom" for reader in readers) else "stacks"
    return f"{len(pairs)} {kind}, {size:.1f} megapixels"


def _last_row(path: Path) -> dict[str, float]:
    import csv

    if not path.exists():
        return {}
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        return {}
    step = {"step": int(rows[-1].pop("step"))}
    return step | {key: float(value) for key, value in rows[-1].items()}


def _commit() -> str | None:
    """The commit of the source tree that is running, if it is one.

    An environment may lie in a project of its own, whose git knows nothing of this file.
    """
    here = Path(__file__)
    try:
        _git(here.parent, "ls-files", "--error-unmatch", here.name)
        return _git(here.parent, "rev-parse", "HEAD")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *command: str) -> str:
    found = subprocess.run(
        ["git", *command],
        cwd=folder,
        env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    return found.stdout.strip()
