"""How real are the phantoms? The same statistics of real Pap images and of phantoms, side by side.

    python benchmarks/phantom_realism.py DATA [--figures docs/images]

``DATA`` is a folder of real images, of which those that are there are used: ``pap_isbi2015``
(``planes/z*.png``, ``edf_reference.png``), ``pap_edf_isbi2014`` (``*.png``), ``pap_cervix93``
(``s*/z*.png``, ``s*/edf_reference.png``), ``pap_smartscope_colour`` (``*/*.jpg``) and
``cytology_pairs_ecnu`` (``near`` and ``far``). Prints Markdown tables; ``--figures`` also writes
downsampled side-by-side pictures.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from slidefusion.geometry import Window
from slidefusion.phantom import Phantom, PhantomSettings

# The real gray images show cells and nuclei of the size that these pixels give.
GRAY = PhantomSettings(gray=True, mpp_um=0.36)
SMALL_STEP = PhantomSettings(gray=True, mpp_um=0.36, z_step_um=0.65, depth_um=5.0)


def load(path: Path, gray: bool = True) -> np.ndarray:
    """(Y, X) or (Y, X, 3) float values of a picture."""
    return np.asarray(Image.open(path).convert("L" if gray else "RGB"), float)


def optical_density(image: np.ndarray) -> np.ndarray:
    """Decadic, relative to the clear background (the 97th percentile)."""
    return -np.log10(np.clip(image / np.percentile(image, 97), 0.02, 1.0))


def look(images: list[np.ndarray]) -> list[str]:
    """Columns of the first table, averaged over ``images``."""
    rows = []
    for image in images:
        od = optical_density(image)
        smooth = ndimage.gaussian_filter(od, 3)
        material, cytoplasm = smooth > 0.04, (smooth > 0.05) & (smooth < 0.2)
        nuclei = ndimage.binary_erosion(ndimage.gaussian_filter(od, 1.5) > 0.33, iterations=2)
        bands = [
            ndimage.gaussian_filter(od, s) - ndimage.gaussian_filter(od, 2 * s)
            for s in (0.7, 1.4, 2.8)
        ]
        texture = [1000 * np.median(np.abs(band[cytoplasm])) for band in bands]
        grain = [
            1000 * np.median(np.abs(band[nuclei])) if nuclei.any() else np.nan for band in bands[:2]
        ]
        rows.append(
            [
                material.mean(),
                *np.percentile(od[material], [5, 25, 50, 75, 95]),
                *texture,
                *grain,
                slope(od),
            ]
        )
    m = np.nanmean(rows, axis=0)
    return [
        f"{m[0]:.2f}",
        *(f"{v:.3f}" for v in m[1:6]),
        *(f"{v:.1f}" for v in m[6:11]),
        f"{m[11]:.2f}",
    ]


def slope(od: np.ndarray) -> float:
    """Exponent of the power spectrum between 0.02 and 0.2 cycles a px (Hann window)."""
    side = min(od.shape)
    tile = od[:side, :side] - od[:side, :side].mean()
    power = np.abs(np.fft.rfft2(tile * np.hanning(side)[:, None] * np.hanning(side))) ** 2
    f = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side))
    edges = np.geomspace(0.02, 0.2, 12)
    middle = np.sqrt(edges[1:] * edges[:-1])
    mean = [power[(f >= a) & (f < b)].mean() for a, b in pairwise(edges)]
    return float(np.polyfit(np.log(middle), np.log(mean), 1)[0])


def through_focus(stack: np.ndarray) -> tuple[float, list[float]]:
    """Spread (standard deviation, planes) of where 64 px blocks with material are sharpest, and
    their mean gradient energy 1, 2, 4 and 6 planes from there, relative to the peak."""
    od = [ndimage.gaussian_filter(optical_density(plane), 1.0) for plane in stack]
    energy = np.stack([sum(g**2 for g in np.gradient(o)) for o in od])
    z, height, width = energy.shape
    rows, columns = height // 64, width // 64
    blocks = (
        energy[:, : rows * 64, : columns * 64].reshape(z, rows, 64, columns, 64).mean(axis=(2, 4))
    )
    blocks = blocks.reshape(z, -1)
    dense = np.stack(od).mean(axis=0)[: rows * 64, : columns * 64]
    filled = dense.reshape(rows, 64, columns, 64).mean(axis=(1, 3)).ravel() > 0.05
    blocks = blocks[:, filled]
    best = blocks.argmax(axis=0)
    curve = []
    for distance in (1, 2, 4, 6):
        values = [
            blocks[b + sign * distance, n] / blocks[b, n]
            for n, b in enumerate(best)
            for sign in (-1, 1)
            if 0 <= b + sign * distance < z
        ]
        curve.append(float(np.mean(values)) if values else float("nan"))
    return float(best.std()), curve


def phantom(settings: PhantomSettings, side: int, planes: int, seed: int):
    return Phantom(side, side, planes=planes, seed=seed, settings=settings).render(
        Window(0, 0, side, side)
    )


def table(head: list[str], rows: list[list[str]]) -> None:
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def report(data: Path) -> None:
    sharp, stacks = [], []
    edf = sorted((data / "pap_edf_isbi2014").glob("*.png"))
    if edf:
        sharp.append(("ISBI 2014, EDF", [load(p) for p in edf]))
    isbi = sorted((data / "pap_isbi2015/planes").glob("z*.png"))
    if isbi:
        sharp.append(("ISBI 2015, EDF", [load(data / "pap_isbi2015/edf_reference.png")]))
        stacks.append(("ISBI 2015, 20 planes", np.stack([load(p) for p in isbi])))
    for folder in sorted((data / "pap_cervix93").glob("s*")):
        sharp.append(
            (f"Cervix93 {folder.name}, EDF", [load(folder / "edf_reference.png")[:-2, :-2]])
        )
        planes = np.stack([load(p)[:-2, :-2] for p in sorted(folder.glob("z*.png"))])
        stacks.append((f"Cervix93 {folder.name}, 7 planes", planes))
    regions = [phantom(GRAY, 1024, 11, seed) for seed in (0, 1, 2, 3)]
    sharp.append(("phantom, truth", [r.truth[0].astype(float) for r in regions]))
    stacks.append(("phantom, 11 planes, 2.7 um", regions[0].stack[:, 0].astype(float)))
    fine = phantom(SMALL_STEP, 1024, 20, 0).stack[:, 0].astype(float)
    stacks.append(("phantom, 20 planes, 0.65 um", fine))
    print("Texture: median of |difference of Gaussians| (sigma 0.7, 1.4, 2.8 px) x 1000, in OD.\n")
    table(
        [
            "images",
            "covered",
            "OD 5 %",
            "25 %",
            "50 %",
            "75 %",
            "95 %",
            "cytoplasm 0.7",
            "1.4",
            "2.8",
            "nuclei 0.7",
            "1.4",
            "spectrum",
        ],
        [[name, *look(images)] for name, images in sharp],
    )
    rows = []
    for name, stack in stacks:
        spread, curve = through_focus(stack)
        slopes = [slope(optical_density(plane)) for plane in stack]
        rows.append(
            [
                name,
                f"{spread:.1f}",
                *(f"{v:.2f}" for v in curve),
                f"{max(slopes):.2f}",
                f"{min(slopes):.2f}",
            ]
        )
    table(
        [
            "stack",
            "spread of focus, planes",
            "energy at 1",
            "2",
            "4",
            "6 planes",
            "spectrum, sharpest plane",
            "most blurred",
        ],
        rows,
    )


def picture(path: Path, parts: list[np.ndarray], height: int, quality: int = 82) -> None:
    """Parts (Y, X) or (Y, X, 3) side by side, all scaled to one height."""
    scaled = []
    for part in parts:
        image = Image.fromarray(np.clip(part, 0, 255).astype(np.uint8)).convert("RGB")
        scaled.append(
            image.resize((round(image.width * height / image.height), height), Image.LANCZOS)
        )
    sheet = Image.new(
        "RGB", (sum(i.width for i in scaled) + 6 * (len(scaled) - 1), height), "white"
    )
    x = 0
    for image in scaled:
        sheet.paste(image, (x, 0))
        x += image.width + 6
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, quality=quality, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def colour(array: np.ndarray) -> np.ndarray:
    return array.transpose(1, 2, 0)


def figures(data: Path, out: Path) -> None:
    region = phantom(PhantomSettings(), 1024, 11, 3)
    shown = [colour(region.stack[z]) for z in (2, 5, 8)] + [colour(region.truth)]
    picture(out / "phantom-planes.jpg", shown, 480)
    picture(out / "phantom-detail.jpg", [p[330:730, 130:630] for p in shown[1:]], 400, 85)
    gray = phantom(SMALL_STEP, 1024, 20, 3)
    isbi = data / "pap_isbi2015"
    if isbi.exists():
        real = [load(isbi / f"planes/z{z:02d}.png") for z in (3, 9, 15)] + [
            load(isbi / "edf_reference.png")
        ]
        made = [gray.stack[z, 0][:, 256:768] for z in (4, 9, 14)] + [gray.truth[0][:, 256:768]]
        picture(out / "phantom-isbi2015.jpg", real + made, 440)
    if (data / "pap_edf_isbi2014").exists():
        real_sharp = load(data / "pap_edf_isbi2014/EDF000.png")[320:720, 200:700]
        picture(out / "phantom-isbi2014.jpg", [real_sharp, gray.truth[0][300:700, 260:760]], 440)
    scope = data / "pap_smartscope_colour/C/5044.jpg"
    if scope.exists():
        real_colour = load(scope, gray=False)[110:420, 110:420]
        wide = phantom(PhantomSettings(mpp_um=0.7, white=(233, 240, 237), depth_um=3.0), 512, 3, 1)
        picture(
            out / "phantom-smartscope.jpg", [real_colour, colour(wide.truth)[100:410, 100:410]], 440
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of real images")
    parser.add_argument("--figures", type=Path, help="folder for side-by-side pictures")
    options = parser.parse_args()
    if not options.data.is_dir():
        parser.error(f"{options.data} is not a folder")
    report(options.data)
    if options.figures:
        figures(options.data, options.figures)


if __name__ == "__main__":
    main()
