"""Real stacks, few planes: every method against plane 0, with references that are no truth.

    python benchmarks/real_tables.py --data FOLDER [--fusers focusgan,lpp,…] [--pictures FOLDER]

FOLDER holds what it finds of (``quality_real.py`` says how the Pap stacks and lytro are laid out):

- ``pap_isbi2015``, ``pap_cervix93/s*``: Pap stacks. One plane in (the middle one, and the one
  nearest to the reference), or three, 2 to 4 steps apart around it; and each plane by itself, in a
  column a stack. References: the fused image that came with the stack, and the fusion of all its
  planes by ``dtcwt``.
- ``cytology_pairs_ecnu/near/*.png``, and ``far/*.png`` of the same names: two photographs of each
  field at different focus, aligned here. The more blurred one goes in; references: the other one,
  and the fusion of both by ``dtcwt``.
- ``pap_smartscope/s*/plane*.png``, with ``edf_reference.png``: Pap fields through a phone on a
  microscope, a bright disc on black, five planes that are nearly all sharp: how much harm is done
  where there is little to do. The middle plane, or the middle three; references: the fused image
  that came with them, and the fusion of all planes by ``dtcwt``; the mean of all fields.
- ``lytro``: pairs of photographs with published results: SSIM to the published ``cnn``, and Q_AB/F.

Each cell is SSIM / CC over the whole image; *first* counts the cases in which a method has the
highest SSIM. ``--pictures`` writes the places where plane 0 is furthest from the reference, side by
side, for judging by eye; ``--csv FILE`` writes every value.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from quality_real import load, lytro_pairs, pap_stacks

import slidefusion as sf
from slidefusion import metrics
from slidefusion.cli.evaluate import labelled_fusers
from slidefusion.evaluation.candidates import Candidate, candidates, reason_to_skip
from slidefusion.evaluation.figures import crops
from slidefusion.evaluation.measuring import Patch
from slidefusion.evaluation.patches import worst_place
from slidefusion.fuser import Fuser

Pixels = npt.NDArray[np.uint8]
_STEPS = (2, 3, 4)
_PATCH_PX = 384
_BORDER_PX = 8
"""Left out around an image that was shifted to its partner."""


@dataclass
class Case:
    """Planes that go in, and what the result is compared with."""

    column: str
    """Of the table; cases of one column are averaged."""
    name: str
    planes: Pixels
    """(Z, C, Y, X), the plane that counts as plane 0 in the middle."""
    references: dict[str, Pixels]
    """(C, Y, X) by name."""
    results: dict[str, Pixels] = field(default_factory=dict)

    @property
    def plane_0(self) -> Pixels:
        """(C, Y, X)."""
        return self.planes[len(self.planes) // 2]


def fuse(planes: Pixels, fuser: str | Fuser) -> Pixels:
    """(Z, C, Y, X) to (C, Y, X)."""
    image: Pixels = sf.fuse(planes.swapaxes(0, 1), fuser, progress=False).values
    return image


def pap_cases(data: Path, count: int) -> list[Case]:
    """One plane or three of each Pap stack, around its middle and its best plane."""
    cases = []
    for name, (stack, given) in pap_stacks(data).items():
        fused = fuse(stack, "dtcwt")
        best = int(np.argmax([metrics.ssim(plane, given) for plane in stack]))
        for where, centre in {"middle": len(stack) // 2, "best": best}.items():
            for step in _STEPS if count > 1 else (0,):
                reach = step * (count // 2)
                if not reach <= centre < len(stack) - reach:
                    continue
                column = f"{name} {where} z{centre}" + (f" ±{step}" if step else "")
                planes = stack[centre - reach : centre + reach + 1 : step or 1]
                cases.append(Case(column, column, planes, references(given, fused, planes)))
    return cases


def each_plane(data: Path) -> list[Case]:
    """One plane after the other of each Pap stack, however far out of focus."""
    cases = []
    for name, (stack, given) in pap_stacks(data).items():
        fused = fuse(stack, "dtcwt")
        cases += [
            Case(name, f"{name} z{z}", plane[None], references(given, fused, plane[None]))
            for z, plane in enumerate(stack)
        ]
    return cases


def references(given: Pixels, fused: Pixels, planes: Pixels) -> dict[str, Pixels]:
    """What a fusion of ``planes`` is compared with.

    The planes of a scan lie up to 0.7 px beside each other, and so do a plane and the given image,
    which punishes what is sharp. With one plane that can be undone, by moving the image.
    """
    found = {"EDF given": given, "dtcwt of all planes": fused}
    if len(planes) == 1:
        found = {"EDF given, moved onto the plane": aligned(given, planes[0]), **found}
    return found


def phone_cases(data: Path, count: int) -> list[Case]:
    """The middle plane or planes of each field."""
    cases = []
    for folder in sorted((data / "pap_smartscope").glob("s*")):
        stack = np.stack([load(path, "L") for path in sorted(folder.glob("plane*.png"))])
        given = load(folder / "edf_reference.png", "L")
        first = len(stack) // 2 - count // 2
        references = {"EDF given": given, "dtcwt of all planes": fuse(stack, "dtcwt")}
        planes = stack[first : first + count]
        cases.append(Case("phone", f"phone {folder.name}", planes, references))
    return cases


def ecnu_cases(data: Path) -> list[Case]:
    """The more blurred view of each field, with the other one as a reference."""
    cases = []
    for path in sorted((data / "cytology_pairs_ecnu" / "near").glob("*.png")):
        near = load(path, "RGB")
        far = aligned(load(path.parents[1] / "far" / path.name, "RGB"), near)
        inner = np.s_[:, _BORDER_PX:-_BORDER_PX, _BORDER_PX:-_BORDER_PX]
        views = sorted((near[inner], far[inner]), key=detail)
        pair = np.stack(views)
        references = {"the other view": views[1], "dtcwt of both": fuse(pair, "dtcwt")}
        cases.append(Case("ECNU", f"ecnu {path.stem}", pair[:1], references))
    return cases


def detail(image: Pixels) -> float:
    """How much an image holds between 2 and 4 px: less noise than in the finest differences."""
    from scipy.ndimage import gaussian_filter

    gray = image.mean(axis=0)
    return float((gaussian_filter(gray, 1.5) - gaussian_filter(gray, 3.0)).std())


def aligned(image: Pixels, other: Pixels) -> Pixels:
    """``image`` moved by the whole and part pixels that bring it upon ``other``.

    Correlates structure of some pixels, as the finest is the camera's noise, which stays in place.
    """
    from scipy.ndimage import gaussian_filter, shift
    from skimage.registration import phase_cross_correlation

    def coarse(pixels: Pixels) -> npt.NDArray[np.float64]:
        gray = pixels.mean(axis=0)
        band: npt.NDArray[np.float64] = gaussian_filter(gray, 2.5) - gaussian_filter(gray, 20.0)
        return band

    moved, *_ = phase_cross_correlation(
        coarse(other), coarse(image), upsample_factor=20, normalization=None
    )
    result = shift(image.astype(np.float32), (0, *moved), order=3, mode="nearest")
    return np.clip(np.rint(result), 0, 255).astype(np.uint8)


def measure(cases: Sequence[Case], fusers: Sequence[Candidate]) -> list[str]:
    """Fuse every case; returns the methods in order."""
    count = len(cases[0].planes)
    usable = [
        candidate
        for candidate in fusers
        if reason_to_skip(candidate, count, cases[0].planes.shape[1], np.dtype(np.uint8)) is None
    ]
    for case in cases:
        case.results["plane 0"] = case.plane_0
        if count > 1:
            case.results["mean of planes"] = np.rint(case.planes.mean(axis=0)).astype(np.uint8)
        for candidate in usable:
            case.results[candidate.label] = fuse(case.planes, candidate.fuser)
    return list(cases[0].results)


def report(
    title: str, cases: Sequence[Case], methods: Sequence[str], rows: list[list[object]]
) -> None:
    """Print a table a reference, and keep every value in ``rows``."""
    columns = list(dict.fromkeys(case.column for case in cases))
    for reference in cases[0].references:
        scores = {
            (case.name, method): (
                metrics.ssim(case.results[method], case.references[reference]),
                metrics.cc(case.results[method], case.references[reference]),
            )
            for case in cases
            for method in methods
        }
        rows += [
            [title, reference, case.column, case.name, method, *scores[case.name, method]]
            for case in cases
            for method in methods
        ]
        print(f"\n{title}, compared with {reference} (no truth)\n")
        print(f"| SSIM / CC | {' | '.join(columns)} | mean | above plane 0 | first |")
        print("|---|" + "---|" * (len(columns) + 3))
        first = [max(methods, key=lambda m, c=case: scores[c.name, m][0]) for case in cases]
        for method in methods:
            cells = []
            for column in columns:
                values = [scores[c.name, method] for c in cases if c.column == column]
                cells.append("{:.4f} / {:.4f}".format(*np.mean(values, axis=0)))
            mean = np.mean([scores[case.name, method] for case in cases], axis=0)
            above = sum(
                all(np.greater(scores[case.name, method], scores[case.name, "plane 0"]))
                for case in cases
            )
            cells += ["{:.4f} / {:.4f}".format(*mean), f"{above} of {len(cases)}"]
            cells.append(str(first.count(method)))
            print(f"| {method} | {' | '.join(cells)} |")


def show(cases: Sequence[Case], methods: Sequence[str], folder: Path) -> None:
    """Write a picture a case: its worst patch, and in it the worst place enlarged."""
    folder.mkdir(parents=True, exist_ok=True)
    for case in cases:
        reference = list(case.references.values())[-1]
        patch_at, _ = worst_place(case.plane_0, reference, _PATCH_PX)
        cut = (slice(None), *patch_at.slices)
        place, error = worst_place(case.plane_0[cut], reference[cut], _PATCH_PX // 4)
        patch = Patch(0, patch_at, place, error, {})
        middle = len(case.planes) // 2
        inputs = {f"plane {z - middle:+d}": plane for z, plane in enumerate(case.planes)}
        inputs.pop("plane +0")
        images = {"plane 0": case.plane_0, **inputs}
        images |= {method: case.results[method] for method in methods}
        images |= case.references
        keys = {name: ((), name) for name in images}
        patch.shown.update({keys[name]: image[cut] for name, image in images.items()})
        crops([patch], keys).save(
            folder / f"{case.name.replace(' ±', '-step').replace(' ', '-')}.png", compress_level=3
        )


def report_lytro(data: Path, fusers: Sequence[Candidate]) -> None:
    """Print how near each fuser comes to the published cnn, and both by Q_AB/F."""
    pairs = lytro_pairs(data)
    usable = [c for c in fusers if 2 in c.fuser.planes]
    if not pairs or not usable:
        return
    published = [metrics.qabf(result["cnn"], pair) for pair, result in pairs]
    print(f"\nlytro, {len(pairs)} pairs; Q_AB/F of the published cnn {np.mean(published):.4f}\n")
    print(
        "| fuser | SSIM to the published cnn, mean | lowest | Q_AB/F | less the published cnn's |"
    )
    print("|---|---|---|---|---|")
    for candidate in usable:
        results = [fuse(pair, candidate.fuser) for pair, _ in pairs]
        ssim = [
            metrics.ssim(image, result["cnn"])
            for image, (_, result) in zip(results, pairs, strict=True)
        ]
        edges = [metrics.qabf(image, pair) for image, (pair, _) in zip(results, pairs, strict=True)]
        print(
            f"| {candidate.label} | {np.mean(ssim):.4f} | {min(ssim):.4f} | {np.mean(edges):.4f} | "
            f"{np.mean(edges) - np.mean(published):+.4f} |"
        )


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of real images")
    parser.add_argument("--fusers", help="as for slidefusion evaluate; those of the paper if unset")
    parser.add_argument("--pictures", type=Path, help="folder for pictures side by side")
    parser.add_argument("--csv", type=Path, help="file for every value")
    parser.add_argument("--pairs", type=int, help="measure only this many ECNU pairs")
    arguments = parser.parse_args()
    chosen = labelled_fusers(arguments.fusers) if arguments.fusers else None
    fusers = candidates(chosen)
    rows: list[list[object]] = []
    groups = {
        "Pap, one plane": pap_cases(arguments.data, 1),
        "Pap, each plane alone": each_plane(arguments.data),
        "Pap, three planes": pap_cases(arguments.data, 3),
        "Phone, one plane": phone_cases(arguments.data, 1),
        "Phone, three planes": phone_cases(arguments.data, 3),
        "Pairs, one plane": ecnu_cases(arguments.data)[: arguments.pairs],
    }
    for title, cases in groups.items():
        if cases:
            methods = measure(cases, fusers)
            report(title, cases, methods, rows)
            if arguments.pictures:
                show(
                    cases,
                    methods,
                    arguments.pictures / title.lower().replace(", ", "-").replace(" ", "-"),
                )
    report_lytro(arguments.data, fusers)
    if arguments.csv:
        with arguments.csv.open("w", newline="", encoding="utf-8") as file:
            out = csv.writer(file)
            out.writerow(["table", "reference", "column", "case", "method", "ssim", "cc"])
            out.writerows(rows)


if __name__ == "__main__":
    main()
