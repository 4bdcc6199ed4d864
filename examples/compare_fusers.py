"""Several fusers on one stack: how near each comes to the truth, and a picture to judge by.

python compare_fusers.py
python compare_fusers.py --fusers lpp dtcwt cnn focusgan --planes -1 0 1
python compare_fusers.py --stack stack.zarr --side 512   # without a truth: the picture alone
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import numpy as np
import xarray as xr
from PIL import Image, ImageDraw, ImageFont

import slidefusion as sf
from slidefusion.geometry import Window
from slidefusion.phantom import Phantom


def side_by_side(path: str, images: Mapping[str, np.ndarray], gap: int = 6, head: int = 24) -> None:
    """Write images (c, y, x) of 8 bits, RGB or gray, beside each other, their names above them."""
    height, width = next(iter(images.values())).shape[1:]
    sheet = Image.new("RGB", (len(images) * (width + gap) - gap, head + height), "white")
    for k, (name, image) in enumerate(images.items()):
        picture = Image.fromarray(image.transpose(1, 2, 0).squeeze())
        sheet.paste(picture.convert("RGB"), (k * (width + gap), head))
        at = (k * (width + gap) + 2, 2)
        ImageDraw.Draw(sheet).text(at, name, "black", font=ImageFont.load_default(16))
    sheet.save(path)


def main() -> None:
    """Print the table and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--stack", help="OME-Zarr stack of your own, 8 bits: its middle is fused")
    parser.add_argument("--side", type=int, default=400, help="of what is compared in px")
    parser.add_argument("--fusers", nargs="+", default=["lpp", "wt", "dtcwt"])
    parser.add_argument("--planes", nargs="+", type=int, help="focus offsets; all by default")
    parser.add_argument("--out", default="fusers.png", help="picture to write")
    args = parser.parse_args()

    if args.stack:
        truth, stack = None, sf.open_stack(args.stack)
        y, x = (max(0, (stack.sizes[axis] - args.side) // 2) for axis in "yx")
        stack = stack[:, :, y : y + args.side, x : x + args.side].load()
    else:
        phantom = Phantom(args.side, args.side, planes=11, seed=3)
        region = phantom.render(Window(0, 0, args.side, args.side))
        stack, truth = xr.DataArray(region.stack, dims=("z", "c", "y", "x")), region.truth

    images = {
        "middle plane": stack.isel(z=stack.sizes["z"] // 2).values,
        "mean of planes": stack.mean("z").round().astype(stack.dtype).values,
    }
    for name in args.fusers:
        images[name] = sf.fuse(stack, name, planes=args.planes).values
    if truth is not None:
        print(f"{'':<15} {'SSIM':>7} {'CC':>7} {'QMI':>7}")
        for name, image in images.items():
            scores = sf.metrics.compare(image, truth)
            print(f"{name:<15}", *(f"{score:7.4f}" for score in scores.values()))
        images["truth"] = truth

    side_by_side(args.out, images)
    print(f"{args.out}: {', '.join(images)}")


if __name__ == "__main__":
    main()
