"""The part of `quality.py` about real stacks: against another program's fusion, and Q_AB/F.

The folder holds what it finds of:

- ``pap_isbi2015/planes/z*.png`` and ``pap_cervix93/*/z*.png``, each with ``edf_reference.png``
  beside it or above: Pap smears with a fused image by another program (no truth, but a common
  yardstick: a fused image should be nearer to it than every single plane);
- ``lytro/source/lytro_01_A.jpg``, ``…_B.jpg`` and ``lytro/published/c_01_dsift.tif``,
  ``…_cnn.tif``: the multi-focus field's common photographs, two planes each, with published
  results (Liu, Liu & Wang 2015; Liu et al. 2017), compared by Q_AB/F.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from slidefusion import metrics
from slidefusion.fuser import Fuser

Pixels = npt.NDArray[np.uint8]
Fuse = Callable[[Pixels, Fuser], Pixels]


def load(path: Path, mode: str) -> Pixels:
    """(C, Y, X)."""
    pixels = np.asarray(Image.open(path).convert(mode))
    return np.atleast_3d(pixels).transpose(2, 0, 1)


def pap_stacks(data: Path) -> dict[str, tuple[Pixels, Pixels]]:
    """Name: stack (Z, C, Y, X) and the reference (C, Y, X); without Cervix93's black border."""
    found = {}
    for folder in [data / "pap_isbi2015", *sorted((data / "pap_cervix93").glob("s*"))]:
        mode, end = ("L", None) if folder.name == "pap_isbi2015" else ("RGB", -2)
        planes = sorted(folder.glob("z*.png")) or sorted(folder.glob("planes/z*.png"))
        if planes:
            stack = np.stack([load(path, mode)[:, :end, :end] for path in planes])
            found[folder.name] = stack, load(folder / "edf_reference.png", mode)[:, :end, :end]
    return found


def lytro_pairs(data: Path) -> list[tuple[Pixels, dict[str, Pixels]]]:
    """Pairs (2, C, Y, X), each with the published results (C, Y, X) by name."""
    pairs = []
    for first in sorted((data / "lytro" / "source").glob("*_A.jpg")):
        number = first.stem.split("_")[1]
        stack = np.stack(
            [load(first, "RGB"), load(first.with_name(f"lytro_{number}_B.jpg"), "RGB")]
        )
        published = {
            name: load(data / "lytro" / "published" / f"c_{number}_{name}.tif", "RGB")
            for name in ("dsift", "cnn")
        }
        pairs.append((stack, published))
    return pairs


def report_real(data: Path, fusers: dict[str, Fuser], fuse: Fuse) -> None:
    """Print both tables."""
    stacks = pap_stacks(data)
    if stacks:
        print("| SSIM to the EDF given | " + " | ".join(stacks) + " |")
        print("|---|" + "---|" * len(stacks))
        best = [
            max(metrics.ssim(plane, reference) for plane in stack)
            for stack, reference in stacks.values()
        ]
        print("| best plane | " + " | ".join(f"{value:.4f}" for value in best) + " |")
        for name, fuser in fusers.items():
            values = [
                metrics.ssim(fuse(stack, fuser), reference) for stack, reference in stacks.values()
            ]
            print(f"| {name} | " + " | ".join(f"{value:.4f}" for value in values) + " |")
    pairs = lytro_pairs(data)
    if not pairs:
        return
    print("\n| Q_AB/F | mean | pairs better than dsift |")
    print("|---|---|---|")
    scores = {
        name: [metrics.qabf(published[name], pair) for pair, published in pairs]
        for name in pairs[0][1]
    }
    for name, fuser in fusers.items():
        scores[name] = [metrics.qabf(fuse(pair, fuser), pair) for pair, _ in pairs]
    for name, values in scores.items():
        wins = sum(ours > theirs for ours, theirs in zip(values, scores["dsift"], strict=True))
        print(f"| {name} | {np.mean(values):.4f} | {wins} of {len(pairs)} |")
