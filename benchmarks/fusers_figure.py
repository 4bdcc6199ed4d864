"""The pictures of docs/fusers.md: ``python benchmarks/fusers_figure.py docs/images``.

One phantom by each fuser, beside a plane and the truth; and its clear background alone, with the
contrast raised, where halos show.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from quality import fused, fusers

from slidefusion.geometry import Window
from slidefusion.phantom import Phantom

Pixels = npt.NDArray[np.uint8]

SIDE = 640
CROP = Window(150, 150, 220, 300)
ZOOM = 2
COLUMNS = 4


def raised(image: Pixels) -> Pixels:
    """The 40 grey levels below white, spread over all."""
    spread = (image.astype(np.float32) - 205) * (255 / 40)
    return spread.clip(0, 255).astype(np.uint8)


def save(path: Path, named: dict[str, Pixels]) -> None:
    """Images (C, Y, X) with their names in a grid."""
    height, width = CROP.height * ZOOM, CROP.width * ZOOM
    rows = -(-len(named) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (width + 4), rows * (height + 22)), "white")
    for k, (name, image) in enumerate(named.items()):
        x, y = k % COLUMNS * (width + 4), k // COLUMNS * (height + 22)
        tile = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
        sheet.paste(tile.resize((width, height), Image.Resampling.BICUBIC), (x, y + 20))
        ImageDraw.Draw(sheet).text((x + 2, y + 2), name, fill="black", font_size=15)
    sheet.save(path, quality=80, optimize=True)


def main() -> None:
    folder = Path(sys.argv[1])
    phantom = Phantom(SIDE, SIDE, planes=11, seed=0)
    scene = phantom.render(Window(0, 0, SIDE, SIDE))
    methods = fusers()
    wanted = ["lpp", "wt", "dtcwt", "guided", "lpp textbook", "dtcwt textbook"]
    shown = {"plane 0 of 11": scene.stack[phantom.reference]}
    shown |= {name: fused(scene.stack, methods[name]) for name in wanted if name in methods}
    shown["truth"] = scene.truth
    crops = {name: image[(slice(None), *CROP.slices)] for name, image in shown.items()}
    save(folder / "fusers-field.jpg", crops)
    save(folder / "fusers-halo.jpg", {name: raised(crop) for name, crop in crops.items()})


if __name__ == "__main__":
    main()
