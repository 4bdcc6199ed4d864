"""What an evaluation says is what the metrics say of each patch."""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import slidefusion as sf
from slidefusion import metrics
from slidefusion.evaluation import Evaluation

from .conftest import (
    THREE,
    WINDOWS,
    Case,
    Largest,
    Lighter,
    SlowAtFirst,
    expected,
    make_case,
    run,
)


@pytest.fixture(scope="module")
def found(cases: list[Case], tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    return run(cases, tmp_path_factory.mktemp("evaluate") / "results")


@pytest.mark.parametrize("planes", [(0,), THREE])
def test_every_patch_has_the_metrics_values(
    found: Evaluation, cases: list[Case], planes: tuple[int, ...]
) -> None:
    methods = ["plane 0", "lighter", "unmasked"]
    if planes == THREE:
        methods = ["plane 0", "mean of planes", "lighter", "unmasked", "largest"]
    assert list(found.table(*planes)) == methods
    for method, row in found.table(*planes).items():
        scores = expected(cases, method, planes)
        own = [s for s in found.measured.scores if (s.planes, s.method) == (planes, method)]
        assert [(s.slide, s.y, s.x) for s in own] == [
            (name, *corner) for name, corners in WINDOWS.items() for corner in corners
        ]
        assert [dict(s.values) for s in own] == scores
        assert row.patches == 3
        for metric in ("ssim", "cc", "qmi"):
            assert row.mean[metric] == pytest.approx(np.mean([s[metric] for s in scores]))


def test_margins_leave_out_variants_of_the_same_fuser(found: Evaluation) -> None:
    table = found.table(*THREE)
    mean = {name: row.mean["ssim"] for name, row in table.items()}
    best = max(mean["plane 0"], mean["mean of planes"], mean["largest"])
    assert table["lighter"].margin["ssim"] == pytest.approx(mean["lighter"] - best)
    best = max(value for name, value in mean.items() if name != "largest")
    assert table["largest"].margin["ssim"] == pytest.approx(mean["largest"] - best)


def test_the_blur_mask_table_is_the_paired_difference(found: Evaluation) -> None:
    assert [(a.planes, a.without, a.with_mask) for a in found.ablations] == [
        ((0,), "unmasked", "lighter"),
        (THREE, "unmasked", "lighter"),
    ]
    table = found.table(0)
    for metric, difference in found.ablations[0].difference.items():
        assert difference == pytest.approx(
            table["lighter"].mean[metric] - table["unmasked"].mean[metric]
        )


def test_what_is_left_out_is_said(found: Evaluation) -> None:
    assert found.measured.skipped == ["Left out of plane 0: largest (takes 2 or more planes)."]
    assert (found.measured.glass, found.measured.patches) == (1, 3)


def test_slides_of_glass_alone_are_not_counted(tmp_path: Path) -> None:
    cases = [make_case(1), make_case(2)]
    cases[1].truth[:] = 240
    found = run(
        [cases[0], Case(np.full_like(cases[1].stack, 240), cases[1].truth)],
        tmp_path / "r",
        planes=[(0,)],
        fusers=[Lighter()],
    )
    assert found.measured.slides == 1


def test_csv(found: Evaluation) -> None:
    with (found.folder / "patches.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 3 + 3 * 5
    for row, score in zip(rows, found.measured.scores, strict=True):
        assert (row["slide"], int(row["y"]), int(row["x"])) == (score.slide, score.y, score.x)
        assert tuple(map(int, row["planes"].split(","))) == score.planes
        assert {m: float(row[m]) for m in ("ssim", "cc", "qmi")} == score.values
    with (found.folder / "summary.csv").open() as file:
        summary = list(csv.DictReader(file))
    for line, row in zip(summary, found.rows, strict=True):
        assert (line["method"], int(line["patches"])) == (row.method, row.patches)
        assert float(line["ssim"]) == row.mean["ssim"]
        assert float(line["qmi_se"]) == row.error["qmi"]
        assert float(line["cc_margin"]) == row.margin["cc"]
    with (found.folder / "blur_mask.csv").open() as file:
        assert [line["with"] for line in csv.DictReader(file)] == ["lighter", "lighter"]


def test_report_stands_alone(found: Evaluation) -> None:
    page = found.report.read_text()
    assert "$" not in re.sub(r"base64,[^\"]*", "", page)
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    for title in (
        "Table 1. One plane (0)",
        "Table 2. Three planes (-1, 0, +1)",
        "Table 3. Without and with blur mask",
        "3 patches of 64 px from 2 slides; 1 more",
        "largest (takes 2 or more planes)",
    ):
        assert title in page, title
    mean, error = found.table(0)["lighter"].mean, found.table(0)["lighter"].error
    assert f"{mean['ssim']:.4f} ± {error['ssim']:.4f}" in page
    assert "NO TRUTH" not in page
    table = (found.folder / "tables.md").read_text()
    assert "| method | SSIM | CC | QMI | s/Mpx |\n| --- |" in table
    assert re.search(
        rf"\| largest \| \**{found.table(*THREE)['largest'].mean['ssim']:.4f} ±", table
    )
    provenance = json.loads((found.folder / "evaluation.json").read_text())
    assert provenance["fusers"]["unmasked"]["options"] == {"by": 3, "blur_mask": False}
    assert [made["method"] for made in provenance["made_by"]] == [
        "lighter", "unmasked", "lighter", "unmasked", "largest",
    ]  # fmt: skip
    assert provenance["made_by"][1]["options"] == {"by": 3, "blur_mask": False}


def test_figures_show_each_method(found: Evaluation) -> None:
    names = sorted(path.name for path in found.folder.glob("*.png"))
    assert names == sorted(
        f"{kind}_{planes}.png"
        for kind in ("blur_mask", "crops", "curves")
        for planes in ("plane_0", "planes_-1_0_1")
    )
    widths = {}
    for path in found.folder.glob("*.png"):
        with Image.open(path) as picture:
            widths[path.name] = (picture.width + 6) / (2 * 64 + 6)
    # Inputs, methods without the unmasked twin, truth.
    assert widths["crops_plane_0.png"] == 1 + 1 + 1
    assert widths["crops_planes_-1_0_1.png"] == 3 + 3 + 1
    assert widths["blur_mask_plane_0.png"] == 4


def test_step_spreads_the_planes(cases: list[Case], tmp_path: Path) -> None:
    found = run(cases, tmp_path / "r", step=2, planes=[THREE])
    assert found.measured.planes == ((-2, 0, 2),)
    image = cases[0].stack.max(
        axis=1, where=np.array([1, 0, 1, 0, 1], bool)[:, None, None], initial=0
    )
    score = next(s for s in found.measured.scores if s.method == "largest")
    assert score.values["cc"] == metrics.cc(image[:, :64, :64], cases[0].truth[:, :64, :64])


def test_weights_for_other_planes_are_left_out(cases: list[Case], tmp_path: Path) -> None:
    fusers = {"own": sf.get_fuser("srgan", weights="srgan-1"), "lighter": Lighter()}
    found = run(cases[:1], tmp_path / "r", fusers=fusers, planes=[(0,), THREE])
    methods = {(s.planes, s.method) for s in found.measured.scores}
    assert ((0,), "own") in methods
    assert (THREE, "own") not in methods
    assert found.measured.skipped == [
        "Left out of planes -1, 0, +1: own (its weights are for another number of planes)."
    ]


def test_a_label_may_hold_a_bar(cases: list[Case], tmp_path: Path) -> None:
    found = run(cases[:1], tmp_path / "r", planes=[(0,)], fusers={"a|b": Lighter()})
    assert "| a\\|b |" in (found.report.parent / "tables.md").read_text()


def test_another_plane_than_the_middle_one_is_measured_itself(
    cases: list[Case], tmp_path: Path
) -> None:
    found = run(cases[:1], tmp_path / "r", planes=[(2,)], fusers=["lpp", Lighter()])
    table = found.table(2)
    assert list(table) == ["plane 0", "plane +2", "lighter"]
    case = cases[0]
    corners = (np.s_[:, y : y + 64, x : x + 64] for y, x in WINDOWS["stack 1"])
    scores = [metrics.ssim(case.stack[:, 4][at], case.truth[at]) for at in corners]
    assert table["plane +2"].mean["ssim"] == pytest.approx(np.mean(scores))
    assert "lpp (gives a single plane back as it is" in (tmp_path / "r/tables.md").read_text()


def test_nothing_is_first_among_equals_or_without_numbers(
    cases: list[Case], tmp_path: Path
) -> None:
    """A truth of one value has no correlation with anything."""
    flat = np.full_like(cases[0].truth, 200)
    same: dict[str, Any] = {"planes": [THREE], "fusers": {"a": Largest(), "b": Largest()}}
    run(cases[:1], tmp_path / "r", truths=[cases[0].stack[:, 1:4].max(axis=1)], **same)
    assert "SSIM: a and b level" in (tmp_path / "r/tables.md").read_text()
    run(cases[:1], tmp_path / "s", truths=[flat], min_content=0, **same)
    text = (tmp_path / "s/tables.md").read_text()
    assert "CC: nothing to rank" in text and "**–" not in text


def test_the_first_use_of_a_fuser_is_not_timed(cases: list[Case], tmp_path: Path) -> None:
    found = run(cases[:1], tmp_path / "r", planes=[(0,)], fusers={"slow": SlowAtFirst()})
    assert found.measured.seconds[(0,), "slow"] < SlowAtFirst.seconds


def test_one_patch_has_no_standard_error(cases: list[Case], tmp_path: Path) -> None:
    found = run(cases[1:], tmp_path / "r", planes=[(0,)])
    assert math.isnan(found.table(0)["plane 0"].error["ssim"])
    assert "±" in found.report.read_text()
