"""How much of faint small things is left: particles of known contrast, painted into real pictures.

    python benchmarks/faint_particles.py PICTURE… [--fusers focusgan,lpp,…] [--planes=-1,0,1]

Each picture, sharp all over, gets dark round particles (Gaussians of 1 to 2.2 px, 3 to 12 of 255
deep, 46 px apart), and is defocused as in ``sharp_pictures.py``, with noise of 1.5 of 255, once
with and once without them. What is left of a particle is the difference of the two fused images,
projected onto it: 1 is its whole contrast. Counted are particles that lie within 1 µm of one of the
planes given, so that a plane shows them sharply. Printed are medians for each depth.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from sharp_pictures import PLANES, Defocused

import slidefusion as sf
from slidefusion.cli.evaluate import labelled_fusers

APART_PX, REACH_PX = 46, 12
DEPTHS = (3, 5, 8, 12)
NEAR_UM = 1.0
_OFFSETS = np.arange(-REACH_PX, REACH_PX + 1)


@dataclass(frozen=True)
class Particle:
    """A dark spot."""

    y: int
    x: int
    sigma_px: float
    depth: int

    @property
    def where(self) -> tuple[slice, slice]:
        return tuple(slice(at - REACH_PX, at + REACH_PX + 1) for at in (self.y, self.x))

    @property
    def shape(self) -> npt.NDArray[np.float64]:
        """(y, x)."""
        squares = _OFFSETS[:, None] ** 2 + _OFFSETS**2
        spot: npt.NDArray[np.float64] = self.depth * np.exp(-squares / 2 / self.sigma_px**2)
        return spot


def particles(height: int, width: int, seed: int) -> list[Particle]:
    """On a grid, each moved a little."""
    rng = np.random.default_rng(seed)
    edge = REACH_PX + 8
    return [
        Particle(
            y + int(rng.integers(-3, 4)),
            x + int(rng.integers(-3, 4)),
            float(rng.uniform(1, 2.2)),
            int(rng.choice(DEPTHS)),
        )
        for y in range(edge, height - edge, APART_PX)
        for x in range(edge, width - edge, APART_PX)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument(
        "--fusers", default="focusgan,focusgan:grain=0:label=focusgan grain=0,pix2pix,srgan,lpp"
    )
    parser.add_argument("--planes", default="-1,0,1", help="offsets, as for slidefusion fuse")
    args = parser.parse_args()
    chosen = [PLANES // 2 + int(offset) for offset in args.planes.split(",")]
    left: dict[str, dict[int, list[float]]] = {}
    for seed, path in enumerate(args.pictures):
        picture = np.asarray(Image.open(path).convert("L"))[None].astype(np.float64)
        spots = particles(*picture.shape[1:], seed)
        painted = picture.copy()
        for spot in spots:
            painted[0, *spot.where] -= spot.shape
        without, with_them = Defocused(picture, seed), Defocused(painted, seed)
        planes_um = np.array([without.z_um[z] for z in chosen])
        for name, fuser in labelled_fusers(args.fusers).items():
            one, other = (
                sf.fuse(stack.array[:, chosen], fuser, progress=False).values[0].astype(np.float64)
                for stack in (without, with_them)
            )
            for spot in spots:
                if np.abs(planes_um - without.relief_um[spot.y, spot.x]).min() > NEAR_UM:
                    continue
                shown = (one - other)[spot.where]
                share = float((shown * spot.shape).sum() / (spot.shape**2).sum())
                left.setdefault(name, {}).setdefault(spot.depth, []).append(share)
    print("| contrast that is left | " + " | ".join(f"{depth} of 255" for depth in DEPTHS) + " |")
    print("|---|" + "---|" * len(DEPTHS))
    for name, shares in left.items():
        medians = " | ".join(f"{np.median(shares[depth]):.2f}" for depth in DEPTHS)
        print(f"| {name} | {medians} |")


if __name__ == "__main__":
    main()
