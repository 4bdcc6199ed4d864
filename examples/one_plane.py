"""A learned fuser makes a single plane sharp, and says where it was blurred.

python one_plane.py
python one_plane.py --stack stack.zarr

The pixels of a generator were never measured: read the result beside the plane that it was made of.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

import slidefusion as sf
from slidefusion.phantom import Phantom
from slidefusion.verbs.phantom import write_phantom


def main() -> None:
    """Restore plane 0, and show it with the blur mask and the result."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--stack", help="OME-Zarr stack of your own, RGB, 8 bits")
    parser.add_argument("--size", type=int, default=512, help="side of the synthetic smear in px")
    parser.add_argument("--out", type=Path, default=Path("one-plane"), help="folder to write to")
    parser.add_argument("--overwrite", action="store_true", help="make the results anew")
    args = parser.parse_args()
    stack, truth = args.stack, None
    if stack is None:
        phantom = Phantom(args.size, args.size, planes=3, seed=3)
        stack, truth, _ = write_phantom(phantom, args.out / "smear.zarr", overwrite=args.overwrite)

    # planes=[0] reads the reference plane only. keep_masks writes the blur mask that the generator
    # was given beside the slide, as an image of its own: 255 where the plane is surely blurred.
    slide = sf.fuse(
        stack,
        "focusgan",
        planes=[0],
        keep_masks=True,
        out=args.out / "restored.zarr",
        overwrite=args.overwrite,
    )
    mask = sf.open_slide(args.out / "restored.zarr/blur")  # (c, y, x), a channel for each plane
    plane = sf.open_stack(stack).swap_dims(z="focus_offset").sel(focus_offset=0)

    columns = [plane, mask.isel(c=[0, 0, 0]), slide]
    names = ["plane 0", "blur mask", "restored"]
    if truth is not None:
        columns.append(sf.open_slide(truth))
        names.append("truth")
        for name, image in (("plane 0", plane), ("restored", slide)):
            print(f"SSIM of {name}: {sf.metrics.ssim(image.values, columns[-1].values):.4f}")
    # At most 128 µm of each are read.
    part = {"y": slice(0, 128), "x": slice(0, 128)}
    row = np.concatenate([image.sel(part).values for image in columns], axis=2)
    Image.fromarray(row.transpose(1, 2, 0)).save(args.out / "one-plane.png")
    print(f"{args.out / 'one-plane.png'}, from left to right: {', '.join(names)}")


if __name__ == "__main__":
    main()
