"""A training corpus: many small phantoms, each with settings of its own, and their truth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from slidefusion.errors import OptionError
from slidefusion.phantom import Phantom, PhantomSettings
from slidefusion.verbs.phantom import ensure_phantom

__all__ = ["phantom_paths", "write_corpus"]

_SAY_EVERY = 20


def phantom_paths(folder: str | Path, count: int, *, first_seed: int = 100_000) -> list[Path]:
    """The stacks that :func:`write_corpus` writes with the same arguments, in order.

    >>> [path.name for path in phantom_paths("corpus", 2)]
    ['100000.zarr', '100001.zarr']
    """
    return [Path(folder) / f"{seed:06d}.zarr" for seed in range(first_seed, first_seed + count)]


def write_corpus(
    folder: str | Path,
    count: int,
    *,
    side_px: int = 1024,
    planes: int = 7,
    first_seed: int = 100_000,
    step: int = 1,
    say: Callable[[str], None] | None = None,
    **settings: Any,
) -> list[Path]:
    """Write ``count`` phantoms (C, Z, Y, X) of ``side_px`` x ``side_px`` with their truths.

    Stain, scanner, z step, pixel size, depth, density, noise and compression vary from phantom to
    phantom (:meth:`PhantomSettings.varied`); ``settings`` fixes some. Phantoms that are already
    there stay, so an interrupted call continues, and ``step`` shares the work: processes that
    start at ``first_seed`` + 0 … ``step`` - 1 with the same ``step`` write disjoint seeds.
    ``say`` is called with a line now and then.

    Raises
    ------
    OptionError
        A number is too small, or a setting is unknown or out of its range.

    >>> write_corpus("corpus", 400)  # doctest: +SKIP
    """
    if min(count, side_px, planes, step) < 1:
        raise OptionError(
            f"corpus of {count} phantoms of {side_px} px, {planes} planes, step {step}: "
            "each must be at least 1"
        )
    settings.setdefault("gray", False)  # gray is an augmentation: a colour phantom gives both
    paths = phantom_paths(folder, count, first_seed=first_seed)[::step]
    Path(folder).mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(paths):
        if say is not None and number % _SAY_EVERY == 0:
            say(f"phantoms: {number} of {len(paths)} are in {folder}")
        seed = int(path.stem)
        drawn = PhantomSettings.varied(seed, **settings)
        phantom = Phantom(side_px, side_px, planes=planes, seed=seed, settings=drawn)
        ensure_phantom(phantom, path)
    return paths
