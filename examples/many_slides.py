"""Many slides from one table: a broken one stops no other, and a second run does what is left.

python many_slides.py                           # two synthetic slides, one of them broken
python many_slides.py --manifest slides.csv     # as on the command line: slidefusion batch
"""

from __future__ import annotations

import argparse
from pathlib import Path

import tifffile

import slidefusion as sf
from slidefusion.geometry import Window
from slidefusion.phantom import Phantom

# One slide a row. `slidefusion batch --help` names all columns; the fuser's options are some, too.
TABLE = """\
source,mpp,z_step,planes
a.tif,0.25,2.7,-1 0 1
b.tif,0.25,2.7,-1 0 1
"""


def make_slide(path: Path, size: int) -> None:
    """Write a synthetic smear of three planes as one TIFF."""
    planes = Phantom(size, size, planes=3, seed=3).stack(Window(0, 0, size, size))
    pixels = planes.transpose(0, 2, 3, 1)  # (Z, C, Y, X) to (Z, Y, X, C)
    tifffile.imwrite(path, pixels, photometric="rgb", metadata={"axes": "ZYXS"})


def fuse_all(manifest: Path, out: Path, overwrite: bool) -> None:
    """Fuse what is not done yet, and print what became of each row."""
    for slide in sf.batch(manifest, out_dir=out, overwrite=overwrite):
        print(f"{Path(slide.out).name}: {slide.state} after {slide.attempts} attempt(s)")
        if slide.state == "failed":
            print(f"    {slide.error}")


def main() -> None:
    """Run the table; then, unless it is your own, mend the broken slide and run it again."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--manifest", type=Path, help="CSV of your own with a column 'source'")
    parser.add_argument("--size", type=int, default=512, help="side of the synthetic slides in px")
    parser.add_argument("--out", type=Path, default=Path("many-slides"), help="folder to write to")
    parser.add_argument("--overwrite", action="store_true", help="make anew what has changed")
    args = parser.parse_args()
    if args.manifest:
        fuse_all(args.manifest, args.out, args.overwrite)
        return
    args.out.mkdir(parents=True, exist_ok=True)
    manifest, broken = args.out / "slides.csv", args.out / "b.tif"
    manifest.write_text(TABLE)
    make_slide(args.out / "a.tif", args.size)
    broken.write_bytes((args.out / "a.tif").read_bytes()[:100_000])  # a copy that broke off
    fuse_all(manifest, args.out, args.overwrite)

    print("b.tif is copied again")
    broken.write_bytes((args.out / "a.tif").read_bytes())
    fuse_all(manifest, args.out, args.overwrite)  # a-fused.zarr is not made a second time
    print(f"{manifest.with_suffix('.status.csv')} holds the same as a table")


if __name__ == "__main__":
    main()
