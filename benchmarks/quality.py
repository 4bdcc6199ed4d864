"""How near each fuser comes to the truth on phantoms, and what it leaks around cells.

    python benchmarks/quality.py                     # 20 phantoms of 640 x 640 px, about 6 min
    python benchmarks/quality.py --varied            # as many other scanners, stains and steps
    python benchmarks/quality.py --seeds 4 --csv scores.csv
    python benchmarks/quality.py --real DATA         # real stacks instead, see quality_real.py

SSIM, CC and QMI compare with the phantom's all-in-focus truth. The *ring error* is the mean
absolute difference from it, in grey levels of 255, on clear background 2 to 20 px outside the
borders of cells, which is where the blur of cells leaks to (``Phantom.cell_mask`` says where there
is any material). The rows ``… max`` are plain selection of the largest magnitude with the fusers'
own options: no window, no vote, no clamping, the low pass from the plane that won the coarsest
level. The rows ``… textbook`` are the same with the mean of the planes' low passes, as most papers
have it. "nearest" is the truth itself, limited at each pixel to the range of the planes: what no
fuser that invents nothing can be better than. The last columns say how much less ring error a fuser
has than each of its two. All run through ``slidefusion.fuse``, those without suffix with their
defaults, as a user has them.
"""

from __future__ import annotations

import argparse
import csv
import statistics
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from quality_real import report_real
from scipy.ndimage import distance_transform_edt

import slidefusion as sf
from slidefusion import metrics
from slidefusion.fuser import Footprint, Fused, Fuser, PlaneRange, Planes
from slidefusion.fusers.dtcwt import Dtcwt
from slidefusion.fusers.lpp import Lpp
from slidefusion.fusers.wt import Wt
from slidefusion.geometry import Window
from slidefusion.phantom import Phantom, PhantomSettings
from slidefusion.transforms import laplacian
from slidefusion.transforms.laplacian import pad_to_period

Pixels = npt.NDArray[np.uint8]
Scores = dict[str, float]

PLANES = 11
RING_PX = (2, 20)
VARIED_SEED = 900_000
"""Seeds of ``--varied`` begin here, far from those of the phantoms that networks are trained on."""
BUILT_IN = ("lpp", "wt", "dtcwt")


@dataclass(frozen=True)
class TextbookLpp:
    """Burt and Adelson's pyramid, each coefficient of each channel from the plane of largest
    magnitude, the mean of the low passes."""

    name: ClassVar[str] = "lpp-textbook"
    planes: ClassVar[PlaneRange] = PlaneRange(1)
    footprint: ClassVar[Footprint] = Footprint(2**16)
    device: ClassVar[str] = "cpu"

    def working_bytes(self, planes: int, channels: int, height: int, width: int) -> int:
        """Six images for each plane."""
        return planes * channels * height * width * 24

    def __call__(self, stack: Planes, /) -> Fused:
        """Fuse ``stack`` (Z, C, Y, X)."""
        levels = Lpp().levels
        height, width = stack.shape[2:]
        pyramids = [laplacian.forward(pad_to_period(p, 2**levels), levels) for p in stack]
        details = [np.stack([pyramid[j] for pyramid in pyramids]) for j in range(levels)]
        chosen = [
            np.take_along_axis(d, np.abs(d).argmax(axis=0)[np.newaxis], axis=0)[0] for d in details
        ]
        low = np.mean([pyramid[-1] for pyramid in pyramids], axis=0)
        image = laplacian.inverse([*chosen, low])[:, :height, :width]
        return Fused(image.round().clip(0, 255).astype(np.uint8))


def fusers() -> dict[str, Fuser]:
    """The fusers of the table by the name of its rows."""
    plain: dict[str, Any] = {"selection": "max", "window": 0, "clamp": False, "background": "fuse"}
    subbands = {"activity": "magnitude", "consistency": 0, **plain}
    found: dict[str, Fuser] = {name: sf.get_fuser(name) for name in BUILT_IN}
    found |= {
        "lpp max": Lpp(**plain),
        "wt max": Wt(**subbands),
        "dtcwt max": Dtcwt(**subbands),
        "lpp textbook": TextbookLpp(),
        "wt textbook": Wt(**subbands, lowpass="mean"),
        "dtcwt textbook": Dtcwt(**subbands, lowpass="mean"),
    }
    if "guided" in {plugin.name for plugin in sf.fusers()}:
        found["guided"] = sf.get_fuser("guided")
    return found


def fused(stack: Pixels, fuser: Fuser) -> Pixels:
    """``stack`` (Z, C, Y, X) fused to (C, Y, X)."""
    image: Pixels = np.asarray(sf.fuse(stack.transpose(1, 0, 2, 3), fuser, progress=False))
    return image


def ring_of(cell_mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Where the background beside cells is: (Y, X)."""
    distance = distance_transform_edt(~cell_mask)
    return (distance >= RING_PX[0]) & (distance <= RING_PX[1])


def score(image: Pixels, truth: Pixels, ring: npt.NDArray[np.bool_]) -> Scores:
    """``image`` (C, Y, X) against ``truth``."""
    error = np.abs(image.astype(np.float32) - truth).mean(axis=0)
    return {**metrics.compare(image, truth), "ring": float(error[ring].mean())}


def measure(seed: int, side: int, varied: bool) -> list[dict[str, Any]]:
    """One row for each method and number of planes."""
    settings = PhantomSettings.varied(VARIED_SEED + seed) if varied else None
    phantom = Phantom(side, side, planes=PLANES, seed=seed, settings=settings)
    scene = phantom.render(Window(0, 0, side, side))
    ring = ring_of(scene.cell_mask)
    if not ring.any():
        ring[:] = True  # only a field that is full, or empty; its ring error is left out below
    singles = [score(plane, scene.truth, ring) for plane in scene.stack]
    rows: list[dict[str, Any]] = []
    for count in (3, PLANES):
        first = phantom.reference - count // 2
        stack = np.ascontiguousarray(scene.stack[first : first + count])
        of_planes = singles[first : first + count]
        methods = {
            "plane 0": singles[phantom.reference],
            "best plane": max(of_planes, key=lambda row: row["ssim"]),
            "mean": score(stack.mean(axis=0).round().astype(np.uint8), scene.truth, ring),
            "nearest": score(
                scene.truth.clip(stack.min(axis=0), stack.max(axis=0)), scene.truth, ring
            ),
        }
        methods |= {
            name: score(fused(stack, fuser), scene.truth, ring) for name, fuser in fusers().items()
        }
        for name, scores in methods.items():
            row = {"seed": seed, "planes": count, "method": name, **scores}
            rows.append(row | ({"ring": float("nan")} if ring.all() else {}))
    return rows


def report(rows: list[dict[str, Any]]) -> None:
    """Means over the seeds, one table for each number of planes."""
    for count in sorted({row["planes"] for row in rows}):
        means: dict[str, Scores] = {}
        names = dict.fromkeys(row["method"] for row in rows)
        for name in names:
            of_method = [r for r in rows if r["planes"] == count and r["method"] == name]
            means[name] = {
                key: float(np.nanmean([row[key] for row in of_method]))
                for key in ("ssim", "cc", "qmi", "ring")
            }
        by_seed = {(r["method"], r["seed"]): r["ssim"] for r in rows if r["planes"] == count}
        seeds = sorted({row["seed"] for row in rows})
        print(f"\n| {count} planes | SSIM | ± | CC | QMI | ring error | under max | textbook |")
        print("|---|---|---|---|---|---|---|---|")
        for name, mean in means.items():
            # The spread of the difference from plane 0: phantoms differ far more than methods.
            gains = [by_seed[name, seed] - by_seed["plane 0", seed] for seed in seeds]
            spread = statistics.stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else 0.0
            cells = [f"{mean['ssim']:.4f}", f"{spread:.4f}", f"{mean['cc']:.4f}"]
            cells += [f"{mean['qmi']:.4f}", f"{mean['ring']:.3f}"]
            for peer in (f"{name} max", f"{name} textbook"):
                cells.append(
                    f"{1 - mean['ring'] / means[peer]['ring']:.0%}" if peer in means else ""
                )
            print(f"| {name} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--size", type=int, default=640, help="side of a phantom in px")
    parser.add_argument("--varied", action="store_true", help="draw settings as for training")
    parser.add_argument("--jobs", type=int, default=2, help="phantoms at a time")
    parser.add_argument("--csv", type=Path, help="write every score here")
    parser.add_argument("--real", type=Path, help="folder of real stacks to measure instead")
    arguments = parser.parse_args()
    if arguments.real:
        report_real(arguments.real, fusers(), fused)
        return
    work = partial(measure, side=arguments.size, varied=arguments.varied)
    with ProcessPoolExecutor(arguments.jobs, get_context("spawn")) as pool:
        rows = [row for some in pool.map(work, range(arguments.seeds)) for row in some]
    if arguments.csv:
        with arguments.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    report(rows)


if __name__ == "__main__":
    main()
