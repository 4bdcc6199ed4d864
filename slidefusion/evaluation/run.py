"""``slidefusion.evaluate``: any fusers on any stacks, as the paper's tables and figures."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from slidefusion.declarations import options_of
from slidefusion.errors import OptionError, UnknownNameError, UsageError, near_match
from slidefusion.evaluation.candidates import Candidate, candidates, reason_to_skip
from slidefusion.evaluation.folder import check, refuse_inputs_inside, staged
from slidefusion.evaluation.held_out import FIRST_SEED, held_out, write_held_out
from slidefusion.evaluation.measuring import measure, pick, survey
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
from slidefusion.geometry import as_whole
from slidefusion.registry import fusers as installed_fusers
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
    sets = _plane_sets(planes, step)
    given = without_truths(_several(stacks))
    _check(given, phantoms, truths, reference, min_content, pictures, patch_px)
    fuse_with, images = _reference(reference)
    images = images if truths is None else _several(truths)
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
        _need_planes(slides, sets)
        if phantoms:
            place = _phantom_folder(keep, cleanup)
            say(f"{phantoms} held-out phantoms, seeds from {first_seed}, in {place}")
            paths = write_held_out(
                place, phantoms, first_seed=first_seed, side_px=max(_PHANTOM_PX, patch_px),
                planes=_PHANTOM_PLANES, client=client,
            )  # fmt: skip
            made = open_slides(paths, None, need_truth=fuse_with is None, beside=slides)
            _need_planes(made, sets)
            slides += made
        _refuse_twins(slides)
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


def _plane_sets(planes: Sequence[Sequence[int]], step: int) -> list[Planes]:
    if step < 1:
        raise OptionError(f"step={step}: must be 1 or more")
    found: list[Planes] = []
    for given in planes:
        whole = [as_whole(offset) for offset in given] if isinstance(given, Iterable) else [None]
        if None in whole:
            raise OptionError(
                f"planes={planes!r}: give sets of focus offsets, which are whole numbers, for "
                "example [(0,), (-1, 0, 1)]"
            )
        offsets = tuple(offset * step for offset in whole if offset is not None)
        if not offsets or len(set(offsets)) != len(offsets):
            raise OptionError(
                f"planes={list(given)}: give focus offsets, none twice, for example (-1, 0, 1)"
            )
        if offsets not in found:
            found.append(offsets)
    if not found:
        raise OptionError("planes is empty: give at least one set, for example [(0,), (-1, 0, 1)]")
    return found


def _check(
    stacks: Sequence[Any],
    phantoms: int,
    truths: Any | None,
    reference: Any | None,
    min_content: float,
    pictures: int,
    patch_px: int,
) -> None:
    if not stacks and phantoms < 1:
        raise UsageError("nothing to measure on: give stacks, or a number of phantoms (--phantoms)")
    if truths is not None and reference is not None:
        raise OptionError("truths and reference were both given: results have one thing to be like")
    if phantoms and reference is not None:
        raise OptionError(
            "phantoms have a truth, so there is no need of a reference: measure real stacks in a "
            "call of their own"
        )
    if as_whole(patch_px) is None:
        raise OptionError(f"patch_px={patch_px!r}: give a whole number of px")
    if phantoms < 0 or pictures < 1 or not 0 <= min_content < 1:
        raise OptionError(
            f"phantoms={phantoms}, pictures={pictures}, min_content={min_content}: phantoms must "
            "be 0 or more, pictures 1 or more, min_content from 0 to below 1"
        )


def _several(given: Any) -> list[Any]:
    several = given if isinstance(given, (list, tuple)) else [given]
    return [os.fspath(one) if isinstance(one, os.PathLike) else one for one in several]


def _need_planes(slides: Sequence[Slide], sets: Sequence[Planes]) -> None:
    for slide in slides:
        for offset in (0, *(offset for planes in sets for offset in planes)):
            slide.index(offset)


def _refuse_twins(slides: Sequence[Slide]) -> None:
    """One slide given twice would look like two that agree, and errors be too small."""
    stores = [slide.stack.store for slide in slides if slide.stack.store is not None]
    twice = next((store for k, store in enumerate(stores) if store in stores[:k]), None)
    if twice is not None:
        raise OptionError(f"{twice} was given twice (perhaps by phantoms= and keep=): give it once")


def _reference(reference: Any | None) -> tuple[str | Fuser | None, list[Any] | None]:
    """The fuser that makes references, or the images given."""
    if reference is None:
        return None, None
    if isinstance(reference, (list, tuple)) and len(reference) == 1:
        reference = reference[0]
    if isinstance(reference, Fuser):
        return reference, None
    if isinstance(reference, str) and not Path(reference).exists() and "://" not in reference:
        installed = installed_fusers()
        known = {p.name for p in installed} | {p.qualified_name for p in installed}
        if reference in known:
            return reference, None
        if not {"/", "\\", "."} & set(reference):
            raise UnknownNameError(
                f"reference {reference!r}: there is no such image, and no such fuser"
                f"{near_match(reference, known)} (installed: {', '.join(sorted(known))})"
            )
    return None, _several(reference)


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
