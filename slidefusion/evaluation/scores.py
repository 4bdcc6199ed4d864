"""Measured patches, and what they say together: means, standard errors, margins."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from slidefusion.declarations import options_of
from slidefusion.evaluation.candidates import Candidate

__all__ = [
    "REFERENCE_METRICS",
    "STACK_METRICS",
    "Ablation",
    "Evaluation",
    "Measured",
    "PatchScore",
    "Row",
    "ablations",
    "mean_and_error",
    "summarise",
]

REFERENCE_METRICS = ("ssim", "cc", "qmi")
STACK_METRICS = ("qabf", "spatial_frequency")
"""Without any reference; only measured where there is no truth."""

Planes = tuple[int, ...]


@dataclass(frozen=True)
class PatchScore:
    """One method on one patch."""

    slide: str
    y: int
    """Top of the patch in px."""
    x: int
    """Left of the patch in px."""
    planes: Planes
    """Focus offsets that the method was given."""
    method: str
    values: Mapping[str, float]
    """Metric: value."""


@dataclass(frozen=True)
class Row:
    """One method on all patches."""

    planes: Planes
    method: str
    patches: int
    mean: Mapping[str, float]
    error: Mapping[str, float]
    """Standard error of the mean; NaN when there is one patch."""
    margin: Mapping[str, float]
    """Mean less the mean of the best other method. It is positive for the best method alone, which
    leads the second best by so much. Variants of the same fuser do not count as other methods."""
    seconds: float = math.nan
    """Wall seconds a megapixel of fused slide, reading and writing included."""


@dataclass(frozen=True)
class Ablation:
    """The same fuser without and with the blur mask."""

    planes: Planes
    without: str
    """Label of the fuser without mask."""
    with_mask: str
    """Label of the fuser with mask."""
    difference: Mapping[str, float]
    """Mean over patches of with less without."""
    error: Mapping[str, float]
    """Standard error of the difference."""


@dataclass
class Measured:
    """What was measured, and how."""

    kind: str
    """What results are compared with, in words."""
    exact: bool
    """Whether that is the truth."""
    metrics: tuple[str, ...]
    planes: tuple[Planes, ...]
    patch_px: int
    scores: list[PatchScore] = field(default_factory=list)
    glass: int = 0
    """Patches left out because they show glass only."""
    skipped: list[str] = field(default_factory=list)
    """Which fuser was left out, and why."""
    seconds: dict[tuple[Planes, str], float] = field(default_factory=dict)
    made_by: dict[tuple[Planes, str], dict[str, Any]] = field(default_factory=dict)
    """Software and options of each method as the slides' own provenance states them, checksums of
    weights included."""
    megapixels: float = 0.0
    """Of all slides."""

    @property
    def slides(self) -> int:
        """Slides with a patch that was measured."""
        return len({s.slide for s in self.scores})

    @property
    def patches(self) -> int:
        """Patches that were measured."""
        return len({(s.slide, s.y, s.x) for s in self.scores})


@dataclass(frozen=True)
class Evaluation:
    """What :func:`slidefusion.evaluate` found, and where it is written."""

    folder: Path
    measured: Measured
    rows: tuple[Row, ...]
    ablations: tuple[Ablation, ...]

    @property
    def report(self) -> Path:
        """The HTML page."""
        return self.folder / "report.html"

    def table(self, *planes: int) -> dict[str, Row]:
        """The rows of one set of planes by method, in order: ``table(-1, 0, 1)``."""
        return {row.method: row for row in self.rows if row.planes == planes}


def mean_and_error(groups: Sequence[str], values: Sequence[float]) -> tuple[float, float]:
    """Mean of ``values``, and its standard error.

    Patches of one slide resemble each other, so the error is that of clusters: sums of deviations
    by group vary, not patches. With one group, patches count as independent; with one value the
    error is NaN.

    >>> mean_and_error("aabb", [1, 1, 3, 3])
    (2.0, 1.0)
    >>> mean_and_error("aaaa", [1, 1, 3, 3])[1]  # doctest: +ELLIPSIS
    0.577...
    """
    data = np.asarray(values, np.float64)
    n = len(data)
    mean = float(data.mean()) if n else math.nan
    if n < 2:
        return mean, math.nan
    labels = np.asarray(list(groups))
    names = np.unique(labels)
    deviations = data - mean
    if len(names) > 1:
        deviations = np.array([deviations[labels == name].sum() for name in names])
    m = len(deviations)
    return mean, float(np.sqrt(m / (m - 1) * np.sum(deviations**2)) / n)


def summarise(measured: Measured, fusers: Iterable[Candidate]) -> tuple[Row, ...]:
    """One row a set of planes and method, in the order in which they were measured."""
    family = {candidate.label: candidate.fuser.name for candidate in fusers}
    rows = []
    for planes in measured.planes:
        methods: dict[str, list[PatchScore]] = {}
        for score in measured.scores:
            if score.planes == planes:
                methods.setdefault(score.method, []).append(score)
        summary = {name: _summary(scores, measured.metrics) for name, scores in methods.items()}
        for name, scores in methods.items():
            mean = {metric: pair[0] for metric, pair in summary[name].items()}
            others = [o for o in methods if family.get(o, o) != family.get(name, name)]
            margin = {
                metric: mean[metric] - max(summary[o][metric][0] for o in others)
                if others
                else math.nan
                for metric in measured.metrics
            }
            seconds = measured.seconds.get((planes, name), math.nan)
            rows.append(
                Row(
                    planes,
                    name,
                    len(scores),
                    mean,
                    {metric: pair[1] for metric, pair in summary[name].items()},
                    margin,
                    seconds / measured.megapixels if measured.megapixels else math.nan,
                )
            )
    return tuple(rows)


def ablations(measured: Measured, fusers: Sequence[Candidate]) -> tuple[Ablation, ...]:
    """Every fuser that was measured with and without blur mask, all else being the same, patch by
    patch."""
    found: list[Ablation] = []
    for planes in measured.planes:
        for candidate in fusers:
            if candidate.masked is not True:
                continue
            twin = next(
                (
                    other
                    for other in fusers
                    if other.masked is False and _unmasked(other) == _unmasked(candidate)
                ),
                None,
            )
            if twin is None:
                continue
            with_mask = _by_patch(measured, planes, candidate.label)
            without = _by_patch(measured, planes, twin.label)
            both = [key for key in with_mask if key in without]
            if not both:
                continue
            pairs = {
                metric: mean_and_error(
                    [key[0] for key in both],
                    [with_mask[key][metric] - without[key][metric] for key in both],
                )
                for metric in measured.metrics
            }
            found.append(
                Ablation(
                    planes,
                    twin.label,
                    candidate.label,
                    {metric: pair[0] for metric, pair in pairs.items()},
                    {metric: pair[1] for metric, pair in pairs.items()},
                )
            )
    return tuple(found)


def _unmasked(candidate: Candidate) -> tuple[str, dict[str, Any]]:
    """What fusers have in common that differ in the mask alone."""
    options = options_of(candidate.fuser)
    return candidate.fuser.name, {key: options[key] for key in options if key != "blur_mask"}


def _summary(scores: list[PatchScore], metrics: Sequence[str]) -> dict[str, tuple[float, float]]:
    groups = [score.slide for score in scores]
    return {
        metric: mean_and_error(groups, [score.values[metric] for score in scores])
        for metric in metrics
    }


def _by_patch(measured: Measured, planes: Planes, method: str) -> dict[Any, Mapping[str, float]]:
    return {
        (s.slide, s.y, s.x): s.values
        for s in measured.scores
        if s.planes == planes and s.method == method
    }
