"""An array goes in and an array comes out: no files, as in a notebook or behind a camera.

python fuse_numpy_array.py
python fuse_numpy_array.py --stack field.tif      # (z, y, x), uint8, uint16 or float32
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import tifffile
import xarray as xr

import slidefusion as sf
from slidefusion.geometry import Window
from slidefusion.phantom import Phantom, PhantomSettings


def camera(size: int) -> np.ndarray:
    """A field of view (z, y, x), gray, 16 bits, as a camera would give it."""
    phantom = Phantom(size, size, planes=5, seed=3, settings=PhantomSettings(gray=True))
    planes = phantom.stack(Window(0, 0, size, size))[:, 0]  # (Z, C, Y, X) with one channel
    return planes.astype(np.uint16) * 257


def main() -> None:
    """Fuse an array and save the result as TIFF."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--stack", help="TIFF of your own with axes (z, y, x)")
    parser.add_argument("--size", type=int, default=512, help="side of the synthetic field in px")
    parser.add_argument("--out", type=Path, default=Path("fused.tif"), help="TIFF to write")
    args = parser.parse_args()
    planes = tifffile.imread(args.stack) if args.stack else camera(args.size)

    # A plain array counts as (c, z, y, x). Named axes may come in any order, and c may be missing.
    fused = sf.fuse(xr.DataArray(planes, dims=("z", "y", "x")), "lpp")
    image = fused.values[0]  # (c, y, x) with one channel; .values is what computes it
    tifffile.imwrite(args.out, image)
    print(f"{planes.shape} {planes.dtype} -> {image.shape} {image.dtype}, in {args.out}")


if __name__ == "__main__":
    main()
