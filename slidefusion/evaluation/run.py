"""``slidefusion.evaluate``: any fusers on any stacks, as the paper's tables and figures."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from slidefusion.declarations import options_of
from slidefusion.errors import UsageError
from slidefusion.evaluation.candidates import Candidate, candidates, reason_to_skip
from slidefusion.evaluation.folder import check, refuse_inputs_inside, staged
from slidefusion.evaluation.held_out import FIRST_SEED, held_out, write_held_out
from slidefusion.evaluation.measuring import measure, pick, survey
from slidefusion.evaluation.request import (
    check_numbers,
    need_planes,
    plane_sets,
    reference_of,
    refuse_twins,
    several,
)
from slidefusion.evaluation.scores import (
    REFERENCE_METRICS,
    STACK_METRICS,
    Evaluation,
    Measured,
    Planes,
    ablations,
    summarise,
)
from slidefusion.evaluation.slides import Slide, fused_reference, open_slides
from slidefusion.evaluation.tables import planes_text
from slidefusion.files import local_folder
from slidefusion.fuser import Fuser
from slidefusion.run_options import check_flags
from slidefusion.verbs.truths import without_truths

__all__ = ["evaluate"]

_PHANTOM_PX = 1024
_PHANTOM_PLANES = 11


def evaluate(
    stacks: Any = (),
    fusers: Sequence[str | Fuser] | Mapping[str, str | Fuser] | None = None,
    *,
    out: str | Path,
    phantoms: int = 0,
    first_seed: int = FIRST_SEED,
    keep: str | Path | None = None,
    truths: Any | None = None,
    reference: Any | None = None,
    planes: Sequence[Sequence[int]] = ((0,), (-1, 0, 1)),
    step: int = 1,
    patch_px: int = 512,
    min_content: float = 0.02,
    pictures: int = 3,
    overwrite: bool = False,
    client: Any | None = None,
    say: Callable[[str], None] | None = None,
) -> Evaluation:
    """Measure fusers on stacks with a truth, and write tables, figures and a report.

    Every slide is fused whole by every fuser; SSIM, CC and QMI (:mod:`slidefusion.metrics`) are
    taken over patches on a grid. Plane 0 itself and, for several planes, their mean are measured
    as well. Real stacks have no truth: with a ``reference``, results are compared with that
    instead, and measures without any reference are added; tables and report say so.

    Parameters
    ----------
    stacks
        Path or URL of a stack, or several; or what else :func:`slidefusion.fuse` takes. A truth or
        depth that lies beside a stack which is named, too, as ``*.zarr`` names it, is left out.
    fusers
        Names of installed fusers or fuser objects; or a mapping of labels to them. By default the
        methods that the paper compares.
    out
        Folder to make: ``report.html``, ``patches.csv``, ``summary.csv``, ``tables.md``,
        ``evaluation.json`` and figures, and ``blur_mask.csv`` where a fuser was measured with and
        without blur mask. It appears when everything is there.
    phantoms, first_seed
        Number of held-out phantoms (1024 x 1024 px, 11 planes) to make and measure, too, and the
        seed of the first: :func:`slidefusion.evaluation.held_out`.
    keep
        Folder for the phantoms; they stay, and are used again. Deleted at the end by default.
    truths
        The truth of each stack: an OME-Zarr image, a picture, or an array (c, y, x). By default
        ``NAME-truth.zarr`` beside ``NAME.zarr``.
    reference
        For stacks without truth: the name of a fuser (or a fuser), whose fusion of all planes is
        compared with; or an image for each stack, as in ``truths``.
    planes
        Sets of focus offsets to fuse. A fuser that does not take as many planes, or whose weights
        do not, is left out.
    step
        Planes to go for an offset of 1: with 3, (-1, 0, 1) are the planes -3, 0 and 3.
    patch_px
        Side of a patch in px.
    min_content
        A patch whose truth varies less is glass and left out: standard deviation of its gray
        values as a fraction of the range.
    pictures
        Number of patches to show side by side.
    overwrite
        Replace the folder of an earlier evaluation.
    client
        A ``dask.distributed.Client``; by default the active one (see :func:`slidefusion.fuse`), or
        this machine's threads.
    say
        Called with each line of what happens; nothing is printed by default.

    Returns
    -------
    Evaluation
        ``rows`` (means, errors, margins), ``table(-1, 0, 1)``, ``ablations``, ``measured.scores``
        and ``report``.

    Raises
    ------
    UsageError
        What was asked cannot be done (its subclasses say what); nothing was written.
    ProcessingError
        A slide could not be fused; nothing is left of the run.

    >>> import slidefusion as sf
    >>> sf.evaluate(phantoms=30, fusers=["lpp", "dtcwt"], out="results")  # doctest: +SKIP
    """
    check_flags(overwrite=overwrite)
    folder = local_folder(out)
    check(folder, overwrite=overwrite)
    chosen = candidates(fusers)
    sets = plane_sets(planes, step)
    given = without_truths(several(stacks))
    check_numbers(given, phantoms, truths, reference, min_content, pictures, patch_px, first_seed)
    patch_px, first_seed = int(patch_px), int(first_seed)  # as JSON has them
    fuse_with, images = reference_of(reference)
    images = images if truths is None else several(truths)
    refuse_inputs_inside(folder, [*given, *(images or ()), keep])
    say = say or (lambda _: None)

    with contextlib.ExitStack() as cleanup:
        slides = open_slides(given, images, need_truth=fuse_with is None)
        refuse_inputs_inside(folder, [slide.stack.store for slide in slides])
        usable: dict[Planes, list[Candidate]] = {}
        skipped: list[str] = []
        channels = slides[0].shape[0] if slides else 3
        dtype: Any = slides[0].stack.dtype if slides else np.dtype("uint8")
        for offsets in sets:
            usable[offsets], lines = _usable(chosen, offsets, channels, dtype)
            skipped += lines
        for line in skipped:
            say(line)
        need_planes(slides, sets)
        if phantoms:
            place = _phantom_folder(keep, cleanup)
            say(f"{phantoms} held-out phantoms, seeds from {first_seed}, in {place}")
            paths = write_held_out(
                place, phantoms, first_seed=first_seed, side_px=max(_PHANTOM_PX, patch_px),
                planes=_PHANTOM_PLANES, client=client,
            )  # fmt: skip
            made = open_slides(paths, None, need_truth=fuse_with is None, beside=slides)
            need_planes(made, sets)
            slides += made
        refuse_twins(slides)
        work = cleanup.enter_context(staged(folder, overwrite=overwrite))
        with _scratch(work) as scratch:
            if fuse_with is not None:
                say(f"references: all planes fused by {_fuser_name(fuse_with)}")
                slides = [
                    fused_reference(slide, fuse_with, scratch / f"reference{k}.zarr", client)
                    for k, slide in enumerate(slides)
                ]
            measured = Measured(
                _kind(fuse_with, reference),
                reference is None,
                REFERENCE_METRICS,
                tuple(sets),
                patch_px,
                skipped=skipped,
            )
            if not measured.exact:
                measured.metrics += STACK_METRICS
            patches = survey(slides, measured, min_content)
            if not patches:
                raise UsageError(
                    f"all {measured.glass} patches show glass only (min_content={min_content}): "
                    "there is nothing to measure; lower min_content"
                )
            shown = pick(patches, pictures)
            measure(slides, patches, shown, usable, measured, scratch, client, say)
        result = Evaluation(
            folder, measured, summarise(measured, chosen), ablations(measured, chosen)
        )
        from slidefusion.evaluation.report import write_report

        seeds = range(first_seed, first_seed + phantoms)
        write_report(result, shown, work, _provenance(result, chosen, slides, seeds))
    return result


def _usable(
    chosen: Sequence[Candidate], planes: Planes, channels: int, dtype: Any
) -> tuple[list[Candidate], list[str]]:
    """Those that can take the planes, and a line for each reason to leave others out."""
    usable: list[Candidate] = []
    out: dict[str, list[str]] = {}
    for candidate in chosen:
        reason = reason_to_skip(candidate, len(planes), channels, dtype)
        if reason is None:
            usable.append(candidate)
        else:
            out.setdefault(reason, []).append(candidate.label)
    lines = [
        f"Left out of {planes_text(planes)}: {', '.join(labels)} ({reason})."
        for reason, labels in out.items()
    ]
    return usable, lines


def _kind(fuse_with: str | Fuser | None, reference: Any | None) -> str:
    if fuse_with is not None:
        return f"the fusion of all planes by {_fuser_name(fuse_with)}"
    return "a fused image that was given" if reference is not None else "the truth"


def _fuser_name(fuser: str | Fuser) -> str:
    return fuser if isinstance(fuser, str) else fuser.name


def _phantom_folder(keep: str | Path | None, cleanup: contextlib.ExitStack) -> Path:
    if keep is not None:
        return Path(keep).expanduser()
    return Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="slidefusion-")))


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A folder inside, on the same disk, that is gone at the end."""
    with tempfile.TemporaryDirectory(prefix="work-", dir=folder) as name:
        yield Path(name)


def _provenance(
    result: Evaluation, chosen: Sequence[Candidate], slides: Sequence[Slide], seeds: range
) -> dict[str, Any]:
    measured = result.measured
    return {
        "software": {"slidefusion": importlib.metadata.version("slidefusion")},
        "compared_with": measured.kind,
        "exact": measured.exact,
        "planes": [list(planes) for planes in measured.planes],
        "patch_px": measured.patch_px,
        "patches": measured.patches,
        "glass": measured.glass,
        "skipped": measured.skipped,
        "fusers": {
            candidate.label: {"name": candidate.fuser.name, "options": options_of(candidate.fuser)}
            for candidate in chosen
        },
        "made_by": [
            {"planes": list(planes), "method": method, **stated}
            for (planes, method), stated in measured.made_by.items()
        ],
        "slides": [slide.name for slide in slides],
        "held_out": {str(seed): held_out(seed).to_dict() for seed in seeds},
        "rows": [dataclasses.asdict(row) for row in result.rows],
        "ablations": [dataclasses.asdict(ablation) for ablation in result.ablations],
    }
