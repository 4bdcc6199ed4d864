"""Fuse every slide with every fuser, and measure patch by patch."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from slidefusion import metrics
from slidefusion.errors import ProcessingError, StackError
from slidefusion.evaluation.candidates import MEAN, PLANE_0, Candidate, sample
from slidefusion.evaluation.patches import grid, has_content, worst_place
from slidefusion.evaluation.scores import Measured, PatchScore, Planes
from slidefusion.evaluation.slides import Slide
from slidefusion.geometry import Window
from slidefusion.verbs.fuse import fuse
from slidefusion.wording import counted

__all__ = ["Patch", "measure", "pick", "survey"]

Pixels = npt.NDArray[Any]
_ENLARGED_SHARE = 4
"""The enlarged place is a square of a quarter of the patch's side."""


@dataclass(frozen=True, eq=False)
class Patch:
    """A patch with content, and what it looks like once it was chosen to be shown."""

    slide: int
    """Index of the slide."""
    window: Window
    """Where it lies on the slide."""
    worst: Window
    """Where in the patch plane 0 is furthest from the reference."""
    error: float
    """Mean absolute error of plane 0 there, as a fraction of the range."""
    values: dict[str, float]
    """Metrics of plane 0."""
    white: float | None = None
    """The value that counts as white in pictures; the range of the dtype if None."""
    shown: dict[tuple[Planes, str], Pixels] = field(default_factory=dict)
    """Pictures (C, Y, X) by planes and method; only of patches that are shown."""


def survey(slides: Sequence[Slide], measured: Measured, min_content: float) -> list[Patch]:
    """Find the patches that count, and measure plane 0 on them.

    Raises :class:`~slidefusion.errors.StackError` when a slide is smaller than a patch, or when
    its reference is not finite.
    """
    found: list[Patch] = []
    for k, slide in enumerate(slides):
        *_, height, width = slide.shape

        def look(window: Window, slide: Slide = slide, k: int = k) -> Patch | None:
            truth = slide.truth(window)
            if truth.dtype.kind == "f" and not np.isfinite(truth).all():
                raise StackError(
                    f"{slide.name}: the reference has NaN or infinite values at y {window.y}, x "
                    f"{window.x} (a patch of {window.height} px): nothing can be compared there; "
                    "give a reference that is finite everywhere"
                )
            if not has_content(truth, min_content, slide.white):
                return None
            plane = slide.plane(0, window)
            side = window.height // _ENLARGED_SHARE
            worst, error = worst_place(plane, truth, side, slide.white)
            values = _values(plane, truth, slide, window, measured)
            return Patch(k, window, worst, error, values, slide.white)

        looked = _threaded(look, grid(height, width, measured.patch_px, slide.name))
        found += [patch for patch in looked if patch is not None]
        measured.glass += sum(patch is None for patch in looked)
    return found


def pick(patches: Sequence[Patch], count: int) -> list[Patch]:
    """The ``count`` patches to show: those with the worst place in plane 0, of different slides
    as long as there are any."""
    ranked = sorted(patches, key=lambda patch: -patch.error)
    first: dict[int, Patch] = {}
    for patch in ranked:
        first.setdefault(patch.slide, patch)
    chosen = list(first.values())[:count]
    chosen += [patch for patch in ranked if patch not in chosen][: count - len(chosen)]
    return chosen


def measure(
    slides: Sequence[Slide],
    patches: Sequence[Patch],
    shown: Sequence[Patch],
    usable: dict[Planes, list[Candidate]],
    measured: Measured,
    work: Path,
    client: Any | None,
    say: Callable[[str], None],
) -> None:
    """Fill ``measured.scores`` and the pictures of the patches that are ``shown``.

    Each slide is fused into a store in ``work`` that is deleted once it is measured, so memory
    and disk stay bounded whatever the number of slides and fusers.
    """
    order: dict[tuple[Planes, str], list[PatchScore]] = {}
    warm: set[Any] = set()

    def into(planes: Planes, method: str) -> list[PatchScore]:
        return order.setdefault((planes, method), [])

    for k, slide in enumerate(slides):
        started = time.perf_counter()
        own = [patch for patch in patches if patch.slide == k]
        for planes, fusers in usable.items():
            job = _Job(slide, own, shown, planes, measured, warm)
            into(planes, PLANE_0).extend(
                _score(slide, patch, planes, PLANE_0, patch.values) for patch in own
            )
            job.show_inputs()
            if planes != (0,):
                name = MEAN if len(planes) > 1 else _title(planes[0])
                into(planes, name).extend(job.scores(name, _Mean(slide, planes)))
            for candidate in fusers:
                # Asked for in any case, so that rows keep the order of the fusers.
                scores = into(planes, candidate.label)
                if own:
                    scores.extend(job.fuse_and_score(candidate, work / "fused.zarr", client))
        for patch in own:
            if patch in shown:
                patch.shown[(), "reference"] = slide.truth(patch.window)
        if own:
            measured.megapixels += slide.shape[2] * slide.shape[3] / 1e6
        seconds = time.perf_counter() - started
        seen = counted(len(own), "patch", "patches")
        say(f"  {slide.name}: {seen}, {seconds:.1f} s ({k + 1} of {len(slides)})")
    measured.scores = [score for scores in order.values() for score in scores]


def _title(offset: int) -> str:
    """What the plane at a focus offset is called."""
    return f"plane {offset:+d}" if offset else PLANE_0


@dataclass(frozen=True, eq=False)
class _Job:
    """One slide with one set of planes."""

    slide: Slide
    patches: Sequence[Patch]
    shown: Sequence[Patch]
    planes: Planes
    measured: Measured
    warm: set[Any]
    """What was fused once, untimed: the first time, kernels are compiled and weights loaded."""

    def show_inputs(self) -> None:
        """Keep pictures of the planes."""
        for patch in self.patches:
            if patch in self.shown:
                for offset in (0, *self.planes):
                    pixels = self.slide.plane(offset, patch.window)
                    patch.shown[self.planes, _title(offset)] = pixels

    def fuse_and_score(
        self, candidate: Candidate, out: Path, client: Any | None
    ) -> list[PatchScore]:
        """Fuse the slide into ``out``, measure it, and delete it."""
        options: dict[str, Any] = {"out": out, "client": client, "progress": False}
        key = self.planes, candidate.label
        dtype, channels = self.slide.stack.dtype, self.slide.shape[0]
        try:
            if (*key, dtype, channels) not in self.warm:
                self.warm.add((*key, dtype, channels))
                fuse(sample(len(self.planes), channels, dtype), candidate.fuser, **options)
                shutil.rmtree(out)
            begun = time.perf_counter()
            image = fuse(self.slide.given, candidate.fuser, planes=list(self.planes), **options)
        except ProcessingError as error:  # whose advice is for outputs that stay
            what = f"{self.slide.name}, {candidate.label}: {str(error).partition(';')[0]}"
            raise ProcessingError(f"{what}; nothing of the evaluation is kept") from error
        spent = time.perf_counter() - begun
        self.measured.seconds[key] = self.measured.seconds.get(key, 0.0) + spent
        stated = image.attrs["slidefusion"]
        self.measured.made_by[key] = {part: stated.get(part) for part in ("software", "options")}

        def read(window: Window) -> Pixels:
            return np.asarray(image[(slice(None), *window.slices)])

        scores = self.scores(candidate.label, read)
        shutil.rmtree(out)
        return scores

    def scores(self, method: str, read: Callable[[Window], Pixels]) -> list[PatchScore]:
        """Measure what ``read`` gives for each patch."""

        def one(patch: Patch) -> PatchScore:
            image, truth = read(patch.window), self.slide.truth(patch.window)
            if patch in self.shown:
                patch.shown[self.planes, method] = image
            values = _values(image, truth, self.slide, patch.window, self.measured)
            return _score(self.slide, patch, self.planes, method, values)

        return _threaded(one, self.patches)


@dataclass(frozen=True, eq=False)
class _Mean:
    """The mean of some planes, read patch by patch."""

    slide: Slide
    planes: Planes

    def __call__(self, window: Window) -> Pixels:
        total = np.zeros((self.slide.shape[0], window.height, window.width), np.float64)
        for offset in self.planes:
            total += self.slide.plane(offset, window)
        total /= len(self.planes)
        if self.slide.stack.dtype.kind in "ui":
            np.rint(total, out=total)
        return total.astype(self.slide.stack.dtype)


def _score(
    slide: Slide, patch: Patch, planes: Planes, method: str, values: dict[str, float]
) -> PatchScore:
    return PatchScore(slide.name, patch.window.y, patch.window.x, planes, method, values)


def _values(
    image: Pixels, truth: Pixels, slide: Slide, window: Window, measured: Measured
) -> dict[str, float]:
    values = metrics.compare(image, truth, data_range=slide.white)
    if not measured.exact:
        # The edges of the whole stack, so a method gets no credit for what its planes lack.
        values["qabf"] = metrics.qabf(
            image, [slide.plane(offset, window) for offset in slide.stack.offsets]
        )
        values["spatial_frequency"] = metrics.spatial_frequency(image)
    return values


def _threaded(work: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as threads:
        return list(threads.map(work, items))
