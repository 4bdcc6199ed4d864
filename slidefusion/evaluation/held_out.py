"""Phantoms that no training has seen: other seeds, and other settings than training draws."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from slidefusion.errors import OptionError
from slidefusion.phantom import Phantom, PhantomSettings
from slidefusion.verbs.phantom import ensure_phantom

__all__ = ["FIRST_SEED", "STAINS", "held_out", "write_held_out"]

FIRST_SEED = 1_000_000
"""Seeds from here on are for measuring; training corpora begin at 100 000."""

STAINS: dict[str, dict[str, tuple[float, float, float]]] = {
    "giemsa": {
        "hematoxylin": (0.70, 1.00, 0.32),
        "light_green": (1.00, 0.62, 0.10),
        "eosin": (0.08, 0.80, 0.85),
        "orange": (0.45, 0.90, 0.30),
    },
    "blue": {
        "hematoxylin": (1.00, 0.68, 0.22),
        "light_green": (0.78, 0.80, 0.30),
        "eosin": (0.50, 0.95, 0.30),
        "orange": (0.70, 0.70, 0.70),
    },
}
"""Optical densities of red, green and blue, in the roles that the Papanicolaou stains have.

``giemsa``: purple nuclei, pure blue and brick-red cytoplasm, as in a Romanowsky stain. ``blue``:
blue nuclei over lilac and gray cytoplasm, as where hematoxylin dominates. Training jitters each
density of the Papanicolaou stains by a sigma of 0.07 or 0.08; here every stain has at least one
that differs by three sigma or more (before its own jitter of 0.02), and the nuclei have two."""


def held_out(seed: int) -> PhantomSettings:
    """Settings outside of what :meth:`PhantomSettings.varied` draws for training.

    Another stain (:data:`STAINS`, in turn), more cells (density 2.2 to 2.6, clustering 2.1 to 2.5;
    training ends at 2.16 and 2.0), and blue and red cytoplasm mixed. The optics are the paper's:
    20x, NA 0.8, 0.243 um a pixel, planes 2.7 um apart, neither sharpened nor compressed.

    Raises :class:`OptionError` for a negative seed.

    >>> held_out(1_000_000).z_step_um, held_out(1_000_000).density > 2.16
    (2.7, True)
    """
    if seed < 0:
        raise OptionError(f"seed={seed}: must be 0 or more")
    rng = np.random.default_rng([0x4E1D, seed])
    stain = STAINS[sorted(STAINS)[seed % len(STAINS)]]
    jittered = {
        name: tuple(float(np.clip(v + rng.uniform(-0.02, 0.02), 0.03, 1.3)) for v in colour)
        for name, colour in stain.items()
    }
    drawn: dict[str, Any] = {
        "mpp_um": 0.243,
        "na": 0.8,
        "z_step_um": 2.7,
        "density": float(rng.uniform(2.2, 2.6)),
        "clustering": float(rng.uniform(2.1, 2.5)),
        "depth_um": float(rng.uniform(8.0, 12.0)),
        "pink": float(rng.uniform(0.35, 0.60)),
        "cytoplasm_density": float(rng.uniform(0.065, 0.095)),
        "nucleus_density": float(rng.uniform(0.22, 0.34)),
        "white": tuple(float(v) for v in rng.uniform(228.0, 246.0, 3)),
        "full_well": float(rng.uniform(9_000.0, 20_000.0)),
        **jittered,
    }
    return PhantomSettings(**drawn)


def write_held_out(
    folder: str | Path,
    count: int,
    *,
    first_seed: int = FIRST_SEED,
    side_px: int = 1024,
    planes: int = 11,
    client: Any | None = None,
) -> list[Path]:
    """Write ``count`` held-out phantoms (C, Z, Y, X) into ``folder``, their truths beside them.

    They are named by their seeds. One that is there already, complete and with these settings,
    stays as it is, so an interrupted call continues.

    Raises
    ------
    OptionError
        A number is out of range.
    OutputError
        Something else bears the name of one of them.

    >>> write_held_out("held-out", 30)[0].name  # doctest: +SKIP
    '1000000.zarr'
    """
    if count < 1:
        raise OptionError(f"phantoms={count}: must be 1 or more")
    Path(folder).mkdir(parents=True, exist_ok=True)
    paths = []
    for seed in range(first_seed, first_seed + count):
        path = Path(folder) / f"{seed:07d}.zarr"
        phantom = Phantom(side_px, side_px, planes=planes, seed=seed, settings=held_out(seed))
        ensure_phantom(phantom, path, client=client)
        paths.append(path)
    return paths
