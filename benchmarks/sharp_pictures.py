"""Sharp pictures of real cells, defocused as a phantom is: real texture, and exact truth.

    python benchmarks/sharp_pictures.py PICTURE… --out FOLDER [--fusers focusgan,lpp,…]

Phantoms have an exact truth, but their cells are drawn; real stacks have real cells, but no truth.
This lies between: each picture, sharp all over, is laid on a smooth random relief (4 µm standard
deviation) and seen at five focal planes 2.7 µm apart through the phantom's optics (NA 0.8, 0.243 µm
a pixel: geometrical defocus, softened, as in ``slidefusion/phantom/psf.py``; what diffraction takes
is in the picture already), with noise of 1.5 of 255. The picture itself is the truth. It is flat,
so what the real thing has of overlapping layers is missing.

Everything is measured by ``slidefusion evaluate``: plane 0 alone, and planes -1, 0 and +1.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.special import j1

import slidefusion as sf
from slidefusion.cli.evaluate import labelled_fusers
from slidefusion.geometry import Size, Window
from slidefusion.phantom import PhantomSettings
from slidefusion.phantom.psf import blur_radius_px

PLANES, STEP_UM = 5, 2.7
RELIEF_UM, RELIEF_PX = 4.0, 60
"""Standard deviation of the relief, and of the filter that makes it smooth."""
NOISE = 1.5
_PAD_PX = 96

Pixels = npt.NDArray[np.float64]


class Defocused:
    """A picture (C, Y, X) of 0 to 255 as a stack that converts as a reader does."""

    name = "defocused"
    pixel_size_um = (PhantomSettings().mpp_um,) * 2
    z_um = tuple(STEP_UM * (z - PLANES // 2) for z in range(PLANES))

    def __init__(self, picture: npt.NDArray[Any], seed: int) -> None:
        rng = np.random.default_rng(seed)
        relief = gaussian_filter(rng.normal(size=picture.shape[1:]), RELIEF_PX, mode="wrap")
        relief *= RELIEF_UM / relief.std()
        self.relief_um = relief
        layers = _Layers(picture.astype(np.float64))
        planes = np.stack([layers.seen(np.abs(relief - z)) for z in self.z_um], axis=1)
        planes += rng.normal(0, NOISE, planes.shape)
        self.array = np.clip(np.rint(planes), 0, 255).astype(np.uint8)
        self.shape, self.dtype = self.array.shape, self.array.dtype
        self.tile = Size(*self.shape[2:])
        self.is_rgb = len(picture) == 3
        self.channel_names = ("red", "green", "blue") if self.is_rgb else ("gray",)
        self.provenance: dict[str, Any] = {"source": "a picture, defocused", "seed": seed}

    def read(self, z: int, window: Window) -> npt.NDArray[np.uint8]:
        part: npt.NDArray[np.uint8] = self.array[(slice(None), z, *window.slices)]
        return part

    def close(self) -> None:
        pass


class _Layers:
    """A picture (C, Y, X) as it is from whole micrometres away, each made when it is asked for."""

    def __init__(self, picture: Pixels) -> None:
        self.picture = picture
        padded = np.pad(picture, ((0, 0), *[(_PAD_PX, _PAD_PX)] * 2), mode="reflect")
        self.shape = padded.shape[1:]
        self.spectrum = np.fft.rfft2(padded)
        rows, columns = np.fft.fftfreq(self.shape[0]), np.fft.rfftfreq(self.shape[1])
        self.frequency = np.hypot(rows[:, None], columns[None, :])
        self.made: dict[int, Pixels] = {0: picture}

    def at(self, away_um: int) -> Pixels:
        if away_um not in self.made:
            settings = PhantomSettings()
            radius = blur_radius_px(settings, away_um)
            x = 2 * math.pi * radius * self.frequency
            x[0, 0] = 1e-9
            transfer = 2 * j1(x) / x
            softened = 2 * (math.pi * settings.softness * radius * self.frequency) ** 2
            seen = np.fft.irfft2(self.spectrum * transfer * np.exp(-softened), self.shape)
            self.made[away_um] = seen[:, _PAD_PX:-_PAD_PX, _PAD_PX:-_PAD_PX]
        return self.made[away_um]

    def seen(self, away_um: Pixels) -> Pixels:
        """Each pixel from as far as ``away_um`` (Y, X) says, between the layers beside that."""
        below = np.floor(away_um).astype(int)
        above = away_um - below
        result = np.zeros_like(self.picture)
        for layer in range(int(below.max()) + 2):
            weight = np.where(below == layer, 1 - above, 0) + np.where(below + 1 == layer, above, 0)
            if weight.any():
                result += gaussian_filter(weight, 3) * self.at(layer)
        return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument("--fusers", help="as for slidefusion evaluate; all by default")
    args = parser.parse_args()
    args.out.mkdir(parents=True)
    stacks, truths = [], []
    for seed, path in enumerate(args.pictures):
        image = Image.open(path)
        pixels = np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"))
        picture = np.atleast_3d(pixels).transpose(2, 0, 1)
        stacks.append(args.out / f"{path.stem}.zarr")
        sf.convert(Defocused(picture, seed), stacks[-1], progress=False)
        truths.append(picture)
    fusers = labelled_fusers(args.fusers) if args.fusers else None
    found = sf.evaluate(stacks, fusers, truths=truths, out=args.out / "results", say=print)
    print((found.report.parent / "tables.md").read_text())


if __name__ == "__main__":
    main()
