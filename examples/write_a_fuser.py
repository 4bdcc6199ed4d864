"""A fuser of one's own: the mean of the planes, weighted by Brenner's measure of focus.

python write_a_fuser.py     # uses it; needs pytest and hypothesis for the proof below
pytest write_a_fuser.py     # proves that slides may be cut for it, and more

To install one as a plugin, start from plugins/slidefusion-template.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import xarray as xr
from PIL import Image

import slidefusion as sf
from slidefusion.fuser import Footprint, Fused, PlaneRange, Planes, option
from slidefusion.geometry import Window
from slidefusion.phantom import Phantom
from slidefusion.testing import FuserContract


@dataclass(frozen=True)  # an instance is its options: it is recorded, compared, sent to workers
class Brenner:
    """Brenner et al. 1976: a plane is in focus where pixels two apart differ most.

    It leaves rims around cells; docs/fusers.md says how the fusers built in avoid them.
    """

    name = "brenner"
    planes = PlaneRange(1)  # one or more
    device = "cpu"
    radius: int = option(4, "px to each side over which focus is summed", minimum=1, maximum=32)

    @property
    def footprint(self) -> Footprint:
        """The whole reach in px, by which slides are cut; FuserContract finds one too small."""
        return Footprint(halo=self.radius + 1)

    def working_bytes(self, planes: int, channels: int, height: int, width: int) -> int:
        """Most that a call allocates; no more for more planes, since they are read in turn."""
        margin = 2 * self.radius + 4
        return (height + margin) * (width + margin) * (40 * channels + 64)

    def __call__(self, stack: Planes, /) -> Fused:
        """Fuse (Z, C, Y, X) into (C, Y, X)."""
        total, weights = np.zeros(stack.shape[1:]), np.zeros(stack.shape[2:])
        for plane in stack:  # (C, Y, X), read from the store now
            weight = (self.focus(plane) + 1e-5) ** 3  # on clear glass all planes count alike
            total += weight * plane
            weights += weight
        mean = total / weights
        return Fused((mean if stack.dtype.kind == "f" else mean.round()).astype(stack.dtype))

    def focus(self, plane: np.ndarray) -> np.ndarray:
        """(Y, X): squared differences as fractions of the range, averaged around each pixel."""
        white = 1.0 if plane.dtype.kind == "f" else np.iinfo(plane.dtype).max
        gray = np.pad(plane.mean(axis=0) / white, 1, mode="edge")
        found: np.ndarray = (gray[2:, 1:-1] - gray[:-2, 1:-1]) ** 2 + (
            gray[1:-1, 2:] - gray[1:-1, :-2]
        ) ** 2
        side = 2 * self.radius + 1
        for _ in range(2):  # along y, then along x
            padded = np.pad(found, ((self.radius, self.radius), (0, 0)), mode="edge")
            # Shifted copies: the rounding of a running sum depends on where a window begins.
            total = np.zeros_like(found)
            for k in range(side):
                total += padded[k : k + len(found)]
            found = total.T / side
        return found


class TestBrenner(FuserContract):
    """All laws, on random slides and regions; pytest runs what is inherited."""

    fuser_class = Brenner
    options: ClassVar = [{}, {"radius": 1}]


def main() -> None:
    """Fuse a synthetic smear by it, and compare with the middle plane."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=512, help="side of the synthetic smear in px")
    parser.add_argument("--out", default="brenner.png", help="picture to write")
    args = parser.parse_args()
    phantom = Phantom(args.size, args.size, planes=11, seed=3)
    region = phantom.render(Window(0, 0, args.size, args.size))
    stack = xr.DataArray(region.stack, dims=("z", "c", "y", "x"))  # or the path of a stack
    image = sf.fuse(stack, fuser=Brenner(radius=3)).values
    for name, candidate in (("brenner", image), ("middle plane", region.stack[5])):
        print(f"SSIM of {name}: {sf.metrics.ssim(candidate, region.truth):.4f}")
    Image.fromarray(image.transpose(1, 2, 0)).save(args.out)
    print(f"fused into {args.out}")


if __name__ == "__main__":
    main()
