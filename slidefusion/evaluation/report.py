"""Everything that an evaluation writes: CSV, figures, ``evaluation.json`` and one HTML page."""

from __future__ import annotations

import base64
import html
import io
import json
import math
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from PIL import Image

from slidefusion.evaluation import figures
from slidefusion.evaluation.candidates import MEAN, PLANE_0
from slidefusion.evaluation.measuring import Patch
from slidefusion.evaluation.scores import Evaluation, Planes
from slidefusion.evaluation.tables import (
    METRIC_NAMES,
    AblationTable,
    Table,
    ablation_table,
    notes,
    planes_text,
    slug,
    tables,
    write_csv,
    write_markdown,
)

__all__ = ["CURVE_PATCHES", "write_report"]

CURVE_PATCHES = 30
"""Patches that the curves show, as in the paper's figures 6 and 8."""

_PNG_LEVEL = 3  # photographs hardly shrink any further, at ten times the time


def write_report(
    evaluation: Evaluation, shown: Sequence[Patch], folder: Path, provenance: Mapping[str, Any]
) -> None:
    """Write it all into ``folder``; ``shown`` are the patches with pictures."""
    write_csv(evaluation, folder)
    write_markdown(evaluation, folder)
    text = json.dumps(_without_nan(provenance), indent=2, default=str, allow_nan=False)
    (folder / "evaluation.json").write_text(text + "\n", encoding="utf-8")
    parts = []
    for planes in evaluation.measured.planes:
        parts += _figures(evaluation, shown, planes, folder)
    page = Template(
        resources.files("slidefusion.evaluation").joinpath("report.html").read_text("utf-8")
    ).substitute(
        notes="".join(_note(note) for note in notes(evaluation)),
        tables="".join(map(_table, tables(evaluation))),
        ablation=_ablation(ablation_table(evaluation)),
        figures="".join(parts),
        provenance=html.escape(text),
    )
    (folder / "report.html").write_text(page, encoding="utf-8")


def _without_nan(value: Any) -> Any:
    """The same with null for NaN and infinities, which JSON does not know."""
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def curve_series(
    evaluation: Evaluation, planes: Planes, count: int
) -> dict[str, dict[str, list[float]]]:
    """``series[metric][method]`` over ``count`` patches drawn at random, always the same ones.

    They are in the order of what the first row (plane 0) scores in the metric, lowest first.
    """
    methods: dict[str, list[Mapping[str, float]]] = {}
    for score in evaluation.measured.scores:
        if score.planes == planes:
            methods.setdefault(score.method, []).append(score.values)
    plane_0, *others = methods
    total = len(methods[plane_0])
    chosen = np.random.default_rng(0).permutation(total)[:count]
    # The fusers in their order, then what they are measured against.
    order = [name for name in others if name != MEAN] + [n for n in others if n == MEAN]
    series = {}
    for metric in evaluation.measured.metrics:
        at = sorted(chosen, key=lambda k: methods[plane_0][k][metric])
        series[metric] = {
            name: [methods[name][k][metric] for k in at] for name in [*order, plane_0]
        }
    return series


def _figures(
    evaluation: Evaluation, shown: Sequence[Patch], planes: Planes, folder: Path
) -> list[str]:
    if not shown:
        return []
    text = planes_text(planes)
    apart = {a.without for a in evaluation.ablations if a.planes == planes}
    rows = [name for name in evaluation.table(*planes) if name not in apart]
    last = {"truth" if evaluation.measured.exact else "reference": ((), "reference")}
    inputs = [key for key in shown[0].shown if key[0] == planes and key[1] not in rows]
    inputs = [(planes, PLANE_0), *(key for key in inputs if key[1] not in apart)]
    columns = {key[1]: key for key in inputs}
    columns |= {name: (planes, name) for name in rows if name not in columns} | last
    name = f"crops_{slug(planes)}.png"
    parts = [f"<h2>Side by side, {text}</h2>"]
    parts.append(
        _crops(
            folder / name, figures.crops(shown, columns),
            "The patches with the worst place of plane 0, and below each that place (red) "
            "enlarged: the square where plane 0 is furthest from what results are compared with.",
        )
    )  # fmt: skip
    for ablation in evaluation.ablations:
        if ablation.planes != planes:
            continue
        both = {m: (planes, m) for m in (ablation.without, ablation.with_mask)}
        picture = figures.crops(shown, {PLANE_0: (planes, PLANE_0)} | both | last)
        parts.append(
            _crops(folder / f"blur_mask_{slug(planes)}.png", picture, "Without and with blur mask.")
        )
    series = curve_series(evaluation, planes, CURVE_PATCHES)
    for metric in series:
        for method in apart:
            series[metric].pop(method, None)
    picture = figures.curves(series, {m: METRIC_NAMES[m] for m in series})
    count = len(next(iter(next(iter(series.values())).values())))
    parts.append(f"<h2>Patch by patch, {text}</h2>")
    picture.save(folder / f"curves_{slug(planes)}.png")
    parts.append(
        f'<figure class="curves"><img src="{_uri(picture, "PNG")}" alt="curves, {text}">'
        f"<figcaption>{count} patches drawn at random, in each chart in the order of what plane 0 "
        "has in that measure: the same place in two charts need not be the same patch.</figcaption>"
        "</figure>"
    )
    return parts


def _crops(path: Path, picture: Image.Image, caption: str) -> str:
    picture.save(path, compress_level=_PNG_LEVEL)
    return (
        f'<figure class="crops"><div class="scroll"><img src="{_uri(picture, "JPEG")}" '
        f'alt="{path.stem}"></div><figcaption>{caption} <code>{path.name}</code></figcaption>'
        "</figure>"
    )


def _uri(picture: Image.Image, kind: str) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **({"quality": 90} if kind == "JPEG" else {}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _note(text: str) -> str:
    kind = ' class="warning"' if "NO TRUTH" in text else ""
    return f"<p{kind}>{html.escape(text)}</p>"


def _table(table: Table) -> str:
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{' class=best' if table.is_best(k, column) else ''}>{html.escape(cell)}</td>"
            for column, cell in enumerate(row)
        )
        + "</tr>"
        for k, row in enumerate(table.rows)
    )
    lines = html.escape("; ".join(table.lines))
    return f"<h2>{html.escape(table.title)}</h2>{_grid(table.head, body)}<p>{lines}.</p>"


def _ablation(table: AblationTable | None) -> str:
    if table is None:
        return ""
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
        for row in table.rows
    )
    return f"<h2>{html.escape(table.title)}</h2>{_grid(table.head, body, 'ablation')}"


def _grid(head: Sequence[str], body: str, kind: str = "") -> str:
    cells = "".join(f"<th>{html.escape(title)}</th>" for title in head)
    return (
        f'<div class="scroll"><table class="{kind}"><thead><tr>{cells}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
