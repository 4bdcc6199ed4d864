"""Zarr to Zarr: slidefusion against what one would write by hand, in one run.

    python benchmarks/end_to_end.py                        # 10 planes of 8192 x 8192, about 3 min
    python benchmarks/end_to_end.py --size 4096 --repeat 3

The hand-written way is `dask.array.from_zarr`, `overlap`, an OpenCV Laplacian pyramid for each
chunk, trim, `to_zarr`, on Dask's threads: all cores, nothing exotic. Both read the same store and
write all pixels; slidefusion writes the pyramid and the depth map besides. The stack is a phantom
of 2048 x 2048 px, repeated.

With ``--bounds`` each fuser is set beside the two bounds of a pipeline in which reading, fusing
and writing overlap: the same windows fused from memory, and read and written without fusing. "of
slower" is the slower of the two over the time that the pipeline took; "of least" is the same for
what no pipeline can be under on these processors (see `pipeline_bounds.py`). Busy are the processor
seconds of all threads together. Wall times are only right on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from pipeline_bounds import Bounds, measure_bounds, processor_seconds
from repeated_stack import make_stack

LEVELS = 5
DEPTH_PX = 192
CHUNK_PX = 1024
BY_HAND = "dask + OpenCV by hand"


def fuse_by_hand(block: np.ndarray) -> np.ndarray:
    """One chunk (C, Z, Y, X) fused in an OpenCV Laplacian pyramid: (C, Y, X)."""
    import cv2

    best: list[np.ndarray] = []
    activity: list[np.ndarray] = []
    for z in range(block.shape[1]):
        image = np.ascontiguousarray(block[:, z].transpose(1, 2, 0)).astype(np.float32)
        levels = []
        for _ in range(LEVELS):
            smaller = cv2.pyrDown(image)
            levels.append(image - cv2.pyrUp(smaller, dstsize=image.shape[1::-1]))
            image = smaller
        levels.append(image)
        for j, level in enumerate(levels):
            level = level.reshape(*level.shape[:2], -1)
            now = cv2.blur(np.abs(level).sum(2), (3, 3))
            if z == 0:
                best.append(level)
                activity.append(now)
            else:
                better = now > activity[j]
                activity[j][better] = now[better]
                best[j][better] = level[better]
    image = best[-1]
    for level in best[-2::-1]:
        up = cv2.pyrUp(image, dstsize=level.shape[1::-1])
        image = level + up.reshape(level.shape)
    return np.clip(np.rint(image), 0, 255).astype(block.dtype).transpose(2, 0, 1)


def by_hand(source: Path, out: Path) -> None:
    """The hand-written way, zarr to zarr."""
    import dask.array as da

    stack = da.from_zarr(str(source), component="0")
    channels, planes = stack.shape[:2]
    stack = stack.rechunk((channels, planes, CHUNK_PX, CHUNK_PX))
    grown = da.overlap.overlap(stack, {2: DEPTH_PX, 3: DEPTH_PX}, "nearest")
    fused = grown.map_blocks(
        fuse_by_hand, drop_axis=1, dtype=stack.dtype, meta=np.empty((0, 0, 0), stack.dtype)
    )
    trimmed = da.overlap.trim_internal(fused, {1: DEPTH_PX, 2: DEPTH_PX}, boundary="nearest")
    da.to_zarr(trimmed, str(out))


def by_slidefusion(source: Path, out: Path, fuser: str) -> None:
    """The same with slidefusion."""
    import slidefusion as sf

    sf.fuse(source, fuser, out=out, progress=False)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--size", type=int, default=8192, help="side of the slide in px")
    parser.add_argument("--planes", type=int, default=10)
    parser.add_argument("--repeat", type=int, default=1, help="runs of each, in turn")
    parser.add_argument("--fusers", nargs="+", default=["lpp"])
    parser.add_argument("--bounds", action="store_true", help="measure kernel and storage alone")
    parser.add_argument("--no-hand", action="store_true", help="leave the hand-written way out")
    parser.add_argument("--folder", type=Path, help="where to put the stores (default: temporary)")
    arguments = parser.parse_args()

    import cv2

    cv2.setNumThreads(1)  # Dask runs one chunk a core; OpenCV's own threads would only compete
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        source, out = Path(folder) / "stack.zarr", Path(folder) / "out.zarr"
        start = time.perf_counter()
        make_stack(source, arguments.size, arguments.planes)
        made = time.perf_counter() - start
        work = arguments.size**2 * arguments.planes / 1e6
        print(f"{arguments.planes} planes of {arguments.size}^2 RGB = {work:.0f} megapixel-planes")
        print(f"converted in {made:.1f} s\n")
        ways = {} if arguments.no_hand else {BY_HAND: lambda: by_hand(source, out)}
        for fuser in arguments.fusers:
            small = np.zeros((3, 2, 64, 64), np.uint8)
            import slidefusion as sf

            sf.fuse(small, fuser).compute()  # compiles once, as an installed program has
            ways[f"slidefusion {fuser}"] = lambda fuser=fuser: by_slidefusion(source, out, fuser)
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        busy: dict[str, list[float]] = {name: [] for name in ways}
        bounds: dict[str, list[Bounds]] = {name: [] for name in ways}
        for _ in range(arguments.repeat):
            for name, run in ways.items():
                start, used = time.perf_counter(), processor_seconds()
                run()
                seconds[name].append(time.perf_counter() - start)
                busy[name].append(processor_seconds() - used)
                if arguments.bounds and name != BY_HAND:
                    bounds[name].append(measure_bounds(source, name.split()[-1], out))
                shutil.rmtree(out)
        hand = statistics.median(seconds[BY_HAND]) if BY_HAND in seconds else float("nan")
        print(f"{'':24s}{'seconds':>9s}{'busy':>7s}{'MP-planes/s':>13s}{'ratio':>7s}", end="")
        print("   kernel (busy)  storage (busy)  of slower  of least" if arguments.bounds else "")
        for name, taken in seconds.items():
            median = statistics.median(taken)
            print(f"{name:24s}{median:9.1f}{statistics.median(busy[name]):7.1f}", end="")
            print(f"{work / median:13.1f}{hand / median:7.2f}", end="")
            if bounds[name]:
                print(columns_of_bounds(bounds[name], taken), end="")
            print()


def columns_of_bounds(bounds: list[Bounds], taken: list[float]) -> str:
    """The last columns: medians over the rounds, whose runs share the machine's other load."""
    text = ""
    for part in ("kernel", "storage"):
        wall, busy = (
            statistics.median(getattr(getattr(b, part), kind) for b in bounds)
            for kind in ("wall", "busy")
        )
        text += f"{wall:9.1f} ({busy:.1f})"
    for part, width in (("slower", 12), ("least", 10)):
        shares = [getattr(b, part) / s for b, s in zip(bounds, taken, strict=True)]
        text += f"{statistics.median(shares):{width}.0%}"
    return text


if __name__ == "__main__":
    main()
