"""Planes that lie as single TIFFs become a stack, and the stack one sharp slide.

python fuse_a_stack.py
python fuse_a_stack.py --planes 'scan/z*.tif' --pixel-size-um 0.25 --z-step-um 1.5
"""

from __future__ import annotations

import argparse
from pathlib import Path

import tifffile
import xarray as xr
from PIL import Image

import slidefusion as sf
from slidefusion.geometry import Window
from slidefusion.phantom import Phantom


def make_planes(folder: Path, size: int) -> str:
    """Write z0.tif, z1.tif … as a scanner might; returns the glob that finds them."""
    folder.mkdir(parents=True, exist_ok=True)
    phantom = Phantom(size, size, planes=11, seed=3)
    for z, plane in enumerate(phantom.stack(Window(0, 0, size, size))):  # (C, Y, X)
        tifffile.imwrite(folder / f"z{z}.tif", plane.transpose(1, 2, 0), photometric="rgb")
    return str(folder / "z*.tif")


def save(path: Path, image: xr.DataArray) -> None:
    """Write an image (c, y, x), RGB or gray, as PNG. Its pixels are computed or read here."""
    Image.fromarray(image.transpose("y", "x", "c").values.squeeze()).save(path)


def main() -> None:
    """Convert, fuse, and save one crop of the middle plane and of the fused slide."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--planes", help="glob, folder or multi-plane file of your own")
    parser.add_argument("--pixel-size-um", type=float, help="where the files do not state it")
    parser.add_argument("--z-step-um", type=float, help="distance of the planes, likewise")
    parser.add_argument("--size", type=int, default=1024, help="side of the synthetic smear in px")
    parser.add_argument("--out", type=Path, default=Path("fused-stack"), help="folder to write to")
    parser.add_argument("--overwrite", action="store_true", help="make the results anew")
    args = parser.parse_args()
    if args.planes is None:
        args.planes = make_planes(args.out / "planes", args.size)
        args.pixel_size_um, args.z_step_um = 0.243, 2.7

    # An interrupted call continues when it is repeated; overwrite starts anew.
    stack = sf.convert(
        args.planes,
        args.out / "stack.zarr",
        pixel_size_um=args.pixel_size_um,
        z_step_um=args.z_step_um,
        overwrite=args.overwrite,
    )
    slide = sf.fuse(stack, "lpp", out=args.out / "slide.zarr", overwrite=args.overwrite)
    print(f"{args.out / 'slide.zarr'}: {dict(slide.sizes)}, {slide.dtype}")

    # Both are xarray.DataArrays with coordinates in µm. No pixel is read before save() asks for it,
    # and then only the chunks under the crop: on a slide of 100 000 px this takes no longer.
    y, x = float(slide.y.mean()), float(slide.x.mean())
    crop = {"y": slice(y - 50, y + 50), "x": slice(x - 50, x + 50)}
    middle = sf.open_stack(stack).swap_dims(z="focus_offset").sel(focus_offset=0)
    save(args.out / "middle-plane.png", middle.sel(crop))
    save(args.out / "fused.png", slide.sel(crop))
    print(f"{args.out / 'middle-plane.png'} and fused.png: the same 100 µm of both")


if __name__ == "__main__":
    main()
