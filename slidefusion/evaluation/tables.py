"""Tables: their titles and cells, and all of them as CSV."""

from __future__ import annotations

import csv
import hashlib
import math
import re
from collections.abc import Sequence
from pathlib import Path

from slidefusion.evaluation.scores import REFERENCE_METRICS, Evaluation, Planes, Row
from slidefusion.wording import counted

__all__ = [
    "METRIC_NAMES",
    "AblationTable",
    "Table",
    "ablation_table",
    "notes",
    "number",
    "planes_text",
    "slug",
    "tables",
    "write_csv",
    "write_markdown",
]

_LONGEST_SLUG = 60

METRIC_NAMES = {
    "ssim": "SSIM",
    "cc": "CC",
    "qmi": "QMI",
    "qabf": "Q_AB/F *",
    "spatial_frequency": "SF *",
}
"""Titles of columns; those with * use no reference."""

_COUNTS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


class Table:
    """One set of planes: a title, and rows of texts with the best of each column marked."""

    def __init__(self, evaluation: Evaluation, planes: Planes, title: str) -> None:
        self.title = title
        self.planes = planes
        measured = evaluation.measured
        self.head = ["method", *(METRIC_NAMES[m] for m in measured.metrics), "s/Mpx"]
        # Without mask has a table of its own.
        apart = {a.without for a in evaluation.ablations if a.planes == planes}
        rows = [row for row in evaluation.table(*planes).values() if row.method not in apart]
        self.rows = [_cells(row, measured.metrics) for row in rows]
        # What uses no reference is not ranked: noise and false edges raise it.
        ranked = [metric for metric in measured.metrics if metric in REFERENCE_METRICS]
        self.best = [_index_of_best(rows, metric) for metric in ranked]
        self.lines = (
            [_first(rows, metric) for metric in ranked]
            if len(rows) > 1
            else [f"{row.method} alone" for row in rows]
        )

    def is_best(self, row: int, column: int) -> bool:
        """Whether the cell holds the highest mean of its column."""
        return 1 <= column <= len(self.best) and self.best[column - 1] == row


class AblationTable:
    """With and without blur mask, for every set of planes."""

    def __init__(self, evaluation: Evaluation, title: str) -> None:
        self.title = title
        measured = evaluation.measured
        self.head = ["planes", "method", *(METRIC_NAMES[m] for m in measured.metrics)]
        self.rows: list[list[str]] = []
        for ablation in evaluation.ablations:
            rows = evaluation.table(*ablation.planes)
            for method in (ablation.without, ablation.with_mask):
                cells = _cells(rows[method], measured.metrics)
                self.rows.append([planes_text(ablation.planes), *cells[:-1]])
            self.rows.append(
                [
                    "",
                    "with less without",
                    *(
                        f"{ablation.difference[m]:+.4f} ± {number(ablation.error[m])}"
                        for m in measured.metrics
                    ),
                ]
            )


def tables(evaluation: Evaluation) -> list[Table]:
    """One table a set of planes, numbered from 1."""
    found = []
    for k, planes in enumerate(evaluation.measured.planes):
        count = len(planes)
        word = _COUNTS[count].capitalize() if count < len(_COUNTS) else str(count)
        title = f"Table {k + 1}. {word} {_planes(planes)} ({_list(planes)})"
        found.append(Table(evaluation, planes, title))
    return found


def ablation_table(evaluation: Evaluation) -> AblationTable | None:
    """The table after those, or None when no fuser was measured both ways."""
    if not evaluation.ablations:
        return None
    number_ = len(evaluation.measured.planes) + 1
    return AblationTable(evaluation, f"Table {number_}. Without and with blur mask")


def notes(evaluation: Evaluation) -> list[str]:
    """What to know when reading the tables, a sentence or two each."""
    measured = evaluation.measured
    found = [
        f"Compared with {measured.kind}"
        + ("." if measured.exact else ": NO TRUTH, an order at best."),
        f"{counted(measured.patches, 'patch', 'patches')} of {measured.patch_px} px from "
        f"{counted(measured.slides, 'slide')}; {measured.glass} more show glass only and are left "
        "out. Mean ± standard error of the mean "
        + (
            "(patches of one slide count as one cluster)."
            if measured.slides > 1
            else "(of one slide its patches count as independent, which they are not)."
        ),
    ]
    if not measured.exact:
        found.append(
            "* no reference is used: Q_AB/F is the share of the edges of all planes of the stack "
            "that a result keeps, also of the faint ones of blurred planes, so a mean scores well; "
            "SF is its spatial frequency in gray values, which noise raises. Neither is ranked."
        )
    return found + measured.skipped


def planes_text(planes: Planes) -> str:
    """Focus offsets as text.

    >>> planes_text((-1, 0, 1)), planes_text((0,))
    ('planes -1, 0, +1', 'plane 0')
    """
    return f"{_planes(planes)} {_list(planes)}"


def _planes(planes: Planes) -> str:
    return "plane" if len(planes) == 1 else "planes"


def slug(planes: Planes) -> str:
    """Focus offsets as a part of a file's name.

    >>> slug((-1, 0, 1))
    'planes_-1_0_1'
    """
    text = "_".join([_planes(planes), *map(str, planes)])
    if len(text) <= _LONGEST_SLUG:
        return text
    # Names of files end at 255 characters; the digest tells such sets apart.
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{_planes(planes)}_{planes[0]}_to_{planes[-1]}_{digest}"


def number(value: float) -> str:
    """Four decimals, or a dash for NaN."""
    return "–" if math.isnan(value) else f"{value:.4f}"


def write_csv(evaluation: Evaluation, folder: Path) -> None:
    """``patches.csv`` (a row a patch and method), ``summary.csv`` and ``blur_mask.csv``."""
    metrics = evaluation.measured.metrics
    with (folder / "patches.csv").open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(["slide", "y", "x", "planes", "method", *metrics])
        for s in evaluation.measured.scores:
            values = (repr(s.values[m]) for m in metrics)
            out.writerow([s.slide, s.y, s.x, _plain(s.planes), s.method, *values])
    with (folder / "summary.csv").open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        columns = [f"{m}{end}" for m in metrics for end in ("", "_se", "_margin")]
        out.writerow(["planes", "method", "patches", *columns, "seconds_per_megapixel"])
        for row in evaluation.rows:
            values = (repr(part[m]) for m in metrics for part in (row.mean, row.error, row.margin))
            out.writerow([_plain(row.planes), row.method, row.patches, *values, repr(row.seconds)])
    if not evaluation.ablations:
        return
    with (folder / "blur_mask.csv").open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        columns = [f"{m}{end}" for m in metrics for end in ("", "_se")]
        out.writerow(["planes", "without", "with", *columns])
        for a in evaluation.ablations:
            values = (repr(part[m]) for m in metrics for part in (a.difference, a.error))
            out.writerow([_plain(a.planes), a.without, a.with_mask, *values])


def write_markdown(evaluation: Evaluation, folder: Path) -> None:
    """``tables.md``: all tables with their notes, to be pasted into a text."""
    parts = []
    for table in tables(evaluation):
        rows = [
            [f"**{c}**" if table.is_best(k, n) else c for n, c in enumerate(row)]
            for k, row in enumerate(table.rows)
        ]
        parts += [f"**{table.title}**", _markdown(table.head, rows), "; ".join(table.lines) + "."]
    last = ablation_table(evaluation)
    if last is not None:
        parts += [f"**{last.title}**", _markdown(last.head, last.rows)]
    lines = (re.sub(r"^\*", r"\\*", note) for note in notes(evaluation))
    text = "\n\n".join([*parts, *lines]) + "\n"
    (folder / "tables.md").write_text(text, encoding="utf-8")


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    escaped = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def _cells(row: Row, metrics: Sequence[str]) -> list[str]:
    return [
        row.method,
        *(f"{number(row.mean[m])} ± {number(row.error[m])}" for m in metrics),
        "" if math.isnan(row.seconds) else f"{row.seconds:.2f}",
    ]


def _first(rows: Sequence[Row], metric: str) -> str:
    known = [row for row in rows if not math.isnan(row.mean[metric])]
    ranked = sorted(known, key=lambda row: -row.mean[metric])
    name = METRIC_NAMES[metric]
    if len(ranked) < 2:
        return f"{name}: nothing to rank"
    best, second = ranked[:2]
    margin = f"{best.mean[metric] - second.mean[metric]:+.4f}"
    if margin == "+0.0000":
        return f"{name}: {best.method} and {second.method} level"
    return f"{name}: {best.method} first, {margin} to {second.method}"


def _index_of_best(rows: Sequence[Row], metric: str) -> int | None:
    """None where no row has a number."""
    known = [k for k, row in enumerate(rows) if not math.isnan(row.mean[metric])]
    return max(known, key=lambda k: rows[k].mean[metric], default=None)


def _list(planes: Planes) -> str:
    return ", ".join(f"{offset:+d}" if offset else "0" for offset in planes)


def _plain(planes: Planes) -> str:
    return ",".join(map(str, planes))
