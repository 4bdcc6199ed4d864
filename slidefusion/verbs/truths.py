"""Where the truth of a stack lies: beside it, named after it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

__all__ = ["beside", "without_truths"]


def beside(out: str | os.PathLike[str], what: str) -> str:
    """The path next to ``out`` for its truth or depth.

    >>> beside("data/p.zarr", "truth"), beside("p.ome.zarr", "depth")
    ('data/p-truth.zarr', 'p-depth.ome.zarr')
    """
    text = os.fspath(out).rstrip("/")
    for ending in (".ome.zarr", ".zarr"):
        if text.endswith(ending):
            return f"{text.removesuffix(ending)}-{what}{ending}"
    return f"{text}-{what}"


def without_truths(stacks: Iterable[Any]) -> list[Any]:
    """``stacks`` without those that are the truth or depth of another, as ``*.zarr`` names them.

    What is no path or URL stays.

    >>> without_truths(["a-truth.zarr", "a.zarr", "b-truth.zarr"])
    ['a.zarr', 'b-truth.zarr']
    """
    stacks = list(stacks)
    paths = [os.fspath(stack) for stack in stacks if isinstance(stack, str | os.PathLike)]
    others = {beside(path, what) for path in paths for what in ("truth", "depth")}
    return [
        stack
        for stack in stacks
        if not isinstance(stack, str | os.PathLike) or os.fspath(stack).rstrip("/") not in others
    ]
