"""What an evaluation says is what the metrics say of each patch."""

from __future__ import annotations

import csv
import errno
import json
import math
import re
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

import slidefusion as sf
from slidefusion import metrics
from slidefusion.errors import (
    OptionError,
    OutputError,
    ProcessingError,
    StackError,
    UnknownNameError,
    UsageError,
)
from slidefusion.evaluation import Evaluation
from slidefusion.evaluation.slides import load_image
from slidefusion.phantom import Phantom
from slidefusion.training.recipe import compact
from slidefusion.verbs.phantom import write_phantom

from .conftest import Case, Largest, Lighter, SlowAtFirst, Weightless, make_case

THREE = (-1, 0, 1)
WINDOWS = {"stack 1": [(0, 0), (0, 64)], "stack 2": [(0, 0)]}  # the other one is glass


def run(cases: list[Case], out: Path, **given: Any) -> Evaluation:
    options: dict[str, Any] = {
        "fusers": {
            "lighter": Lighter(),
            "unmasked": Lighter(blur_mask=False),
            "largest": Largest(),
        },
        "truths": [case.truth for case in cases],
        "patch_px": 64,
        "pictures": 1,
    }
    stacks = [case.stack for case in cases]
    return sf.evaluate(stacks, out=out, **{**options, **given})


@pytest.fixture(scope="module")
def found(cases: list[Case], tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    return run(cases, tmp_path_factory.mktemp("evaluate") / "results")


def expected(cases: list[Case], method: str, planes: tuple[int, ...]) -> list[dict[str, float]]:
    """Scores of every patch with content, straight from the definitions."""
    scores = []
    for case, corners in zip(cases, WINDOWS.values(), strict=True):
        stack = case.stack[:, [2 + offset for offset in planes]].astype(np.int64)
        middle = case.stack[:, 2].astype(np.int64)
        image = {
            "plane 0": middle,
            "mean of planes": np.rint(stack.mean(axis=1)),
            "lighter": np.minimum(middle + 3, 255),
            "unmasked": np.minimum(middle + 6, 255),
            "largest": stack.max(axis=1),
        }[method].astype(np.uint8)
        for y, x in corners:
            part = np.s_[:, y : y + 64, x : x + 64]
            scores.append(metrics.compare(image[part], case.truth[part]))
    return scores


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


def test_real_stacks_are_measured_against_a_reference_and_say_so(
    cases: list[Case], tmp_path: Path
) -> None:
    found = run(cases[:1], tmp_path / "r", truths=None, reference=Largest(), planes=[(0,)])
    stack = cases[0].stack
    score = found.measured.scores[0]
    part = np.s_[:, :64, :64]
    assert score.method == "plane 0"
    assert score.values["ssim"] == metrics.ssim(stack[:, 2][part], stack.max(axis=1)[part])
    assert score.values["qabf"] == metrics.qabf(
        stack[:, 2][part], [stack[:, z][part] for z in range(5)]
    )
    assert score.values["spatial_frequency"] == metrics.spatial_frequency(stack[:, 2][part])
    page = found.report.read_text()
    assert "the fusion of all planes by largest: NO TRUTH" in page
    assert "no reference is used" in page
    assert "lighter first" in page or "plane 0 first" in page
    assert not re.search(r"(Q_AB/F|SF) \*: \w+ first", page)
    assert not list(found.folder.glob("work-*"))


def test_a_given_image_is_the_reference(cases: list[Case], tmp_path: Path) -> None:
    path = tmp_path / "edf.png"
    turned = Image.Exif()
    turned[0x0112] = 3  # lies upside down in the file
    Image.fromarray(cases[0].truth.transpose(1, 2, 0)[::-1, ::-1]).save(path, exif=turned)
    found = run(cases[:1], tmp_path / "r", truths=None, reference=str(path), planes=[(0,)])
    exact = expected(cases[:1] * 2, "plane 0", (0,))[0]
    assert found.measured.scores[0].values["ssim"] == exact["ssim"]
    assert not found.measured.exact


def test_one_truth_needs_no_list(cases: list[Case], tmp_path: Path) -> None:
    listed = run(cases[:1], tmp_path / "r", planes=[(0,)])
    alone = run(cases[:1], tmp_path / "s", truths=cases[0].truth, planes=[(0,)])
    assert alone.measured.exact
    assert [s.values for s in alone.measured.scores] == [s.values for s in listed.measured.scores]


def test_a_fuser_in_a_list_makes_the_reference(cases: list[Case], tmp_path: Path) -> None:
    found = run(cases[:1], tmp_path / "r", truths=None, reference=["lpp"], planes=[(0,)])
    assert found.measured.kind == "the fusion of all planes by lpp"


def test_weights_for_other_planes_are_left_out(cases: list[Case], tmp_path: Path) -> None:
    fusers = {"own": sf.get_fuser("srgan", weights="srgan-1"), "lighter": Lighter()}
    found = run(cases[:1], tmp_path / "r", fusers=fusers, planes=[(0,), THREE])
    methods = {(s.planes, s.method) for s in found.measured.scores}
    assert ((0,), "own") in methods
    assert (THREE, "own") not in methods
    assert found.measured.skipped == [
        "Left out of planes -1, 0, +1: own (its weights are for another number of planes)."
    ]


def test_missing_weights_end_it_before_any_work(cases: list[Case], tmp_path: Path) -> None:
    with pytest.raises(ProcessingError, match=r"'weightless' failed .*weights are missing"):
        run(cases, tmp_path / "r", fusers=[Lighter(), Weightless()])
    assert not list(tmp_path.iterdir())


def test_a_run_that_fails_leaves_nothing(
    cases: list[Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> float:
        raise RuntimeError("broken midway")

    monkeypatch.setattr("slidefusion.metrics.cc", broken)
    with pytest.raises(RuntimeError, match="broken midway"):
        run(cases, tmp_path / "r")
    assert not list(tmp_path.iterdir())


def test_folders_are_replaced_only_when_asked_and_ours(cases: list[Case], tmp_path: Path) -> None:
    given: dict[str, Any] = {"planes": [(0,)], "fusers": [Lighter()]}
    run(cases[:1], tmp_path / "r", **given)
    with pytest.raises(OutputError, match="--overwrite"):
        run(cases[:1], tmp_path / "r", **given)
    run(cases[:1], tmp_path / "r", overwrite=True, **given)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="not made by an evaluation"):
        run(cases[:1], tmp_path / "mine", overwrite=True, **given)
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_a_12_bit_camera_in_uint16_scores_as_its_8_bit_picture(
    cases: list[Case], tmp_path: Path
) -> None:
    stretch = 4095 / max(int(case.truth.max()) for case in cases)  # its white is its brightest
    wide = [
        Case(*(np.rint(a * stretch).astype(np.uint16) for a in (case.stack, case.truth)))
        for case in cases[:1]
    ]
    narrow = [
        Case(*(np.rint(a * stretch * 255 / 4095).astype(np.uint8) for a in (c.stack, c.truth)))
        for c in cases[:1]
    ]
    given: dict[str, Any] = {"planes": [(0,)], "fusers": [Lighter()]}
    twelve, eight = (
        run(c, tmp_path / str(k), **given).measured.scores[0] for k, c in enumerate((wide, narrow))
    )
    for metric in ("ssim", "cc", "qmi"):
        assert twelve.values[metric] == pytest.approx(eight.values[metric], abs=0.02)


@pytest.mark.parametrize("what", ["stack", "truth", "reference", "keep"])
def test_nothing_that_is_used_may_lie_in_the_folder_that_is_replaced(
    cases: list[Case], tmp_path: Path, what: str
) -> None:
    out = tmp_path / "results"
    run(cases[:1], out, planes=[(0,)], fusers=["lpp"])
    (out / "mine").mkdir()
    stack = out / "mine" / "s.zarr"
    write_phantom(Phantom(64, 64, planes=3, seed=1), stack, progress=False)
    picture = out / "mine" / "truth.png"
    Image.fromarray(cases[0].truth.transpose(1, 2, 0)).save(picture)
    given: dict[str, Any] = {"planes": [(0,)], "fusers": ["lpp"], "overwrite": True, "patch_px": 64}
    if what == "stack":
        stacks: list[Any] = [stack]
    else:
        stacks = [] if what == "keep" else [cases[0].stack]
        more = {"truth": {"truths": [picture]}, "reference": {"reference": str(picture)}}
        given |= more.get(what, {"phantoms": 1, "keep": out / "mine" / "held"})
    with pytest.raises(OutputError, match=r"contains the input .*choose an output elsewhere"):
        sf.evaluate(stacks, out=out, **given)
    assert picture.is_file() and stack.is_dir()


def test_16_bit_pictures_are_not_clipped(cases: list[Case], tmp_path: Path) -> None:
    """As the truth of a uint16 stack they are exact; of a uint8 stack they are refused."""
    stack = cases[0].stack[:1].astype(np.uint16) * 16
    truth = cases[0].truth[:1].astype(np.uint16) * 16
    options: dict[str, Any] = {"fusers": ["lpp"], "planes": [(0,)], "patch_px": 64}
    exact = sf.evaluate([stack], truths=[truth], out=tmp_path / "exact", **options)
    for name in ("truth.png", "truth.tif"):
        path = tmp_path / name
        Image.fromarray(truth[0]).save(path)
        found = sf.evaluate([stack], truths=[path], out=tmp_path / f"{name} results", **options)
        assert found.rows[0].mean == exact.rows[0].mean
        with pytest.raises(StackError, match=r"\(1, 70, 140\) of uint16"):
            sf.evaluate([cases[0].stack[:1]], truths=[path], out=tmp_path / "r", **options)


def test_a_label_may_hold_a_bar(cases: list[Case], tmp_path: Path) -> None:
    found = run(cases[:1], tmp_path / "r", planes=[(0,)], fusers={"a|b": Lighter()})
    assert "| a\\|b |" in (found.report.parent / "tables.md").read_text()


def test_a_link_is_refused_before_anything_is_measured(cases: list[Case], tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(OutputError, match="is a link"):
        run(cases[:1], tmp_path / "link", planes=[(0,)], fusers=[Weightless()])


def test_the_working_folder_may_be_the_output(
    cases: list[Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    run(cases[:1], Path(), planes=[(0,)], fusers=[Lighter()])
    text = (tmp_path / "here" / "evaluation.json").read_text()

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    assert json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"truths": None}, UsageError, "--reference dtcwt"),
        ({"truths": [np.zeros((3, 70, 140), np.uint8)]}, UsageError, "2 stacks and 1 image "),
        ({"truths": [np.zeros((3, 70, 99), np.uint8)] * 2}, StackError, r"\(3, 70, 99\)"),
        ({"truths": ["no-such.png"] * 2}, UnknownNameError, "no-such.png"),
        ({"reference": "dtcwt"}, OptionError, "both given"),
        ({"truths": None, "reference": "dctwt"}, UnknownNameError, "did you mean 'dtcwt'"),
        ({"truths": None, "reference": "dtcwt", "phantoms": 1}, OptionError, "no need of"),
        ({"planes": [(0, 0)]}, OptionError, "none twice"),
        ({"planes": []}, OptionError, "at least one set"),
        ({"planes": (-1, 0, 1)}, OptionError, r"give sets of focus offsets"),
        ({"planes": [(0.5,)]}, OptionError, "which are whole numbers"),
        ({"planes": [(-3, 0, 3)]}, UnknownNameError, "no plane -3"),
        ({"step": 0}, OptionError, "step=0"),
        ({"patch_px": 128}, StackError, "70 x 140"),
        ({"min_content": 0.9}, UsageError, "glass only"),
        ({"min_content": 1.5}, OptionError, "min_content=1.5"),
        ({"pictures": 0}, OptionError, "pictures=0"),
        ({"fusers": []}, OptionError, "at least one"),
        ({"fusers": [Lighter(), Lighter(by=5)]}, OptionError, "two fusers are called 'lighter'"),
        ({"fusers": ["no-such-fuser"]}, UnknownNameError, "no-such-fuser"),
        ({"fusers": {"plane 0": "lpp"}}, OptionError, "cannot be called 'plane 0'"),
        ({"fusers": {"mean of planes": "lpp"}}, OptionError, "a row of its own"),
        ({"fusers": {"lpp\nfine": "lpp"}}, OptionError, "a text of one line"),
        ({"fusers": {1: "lpp"}}, OptionError, "a text of one line"),
        ({"patch_px": 32.5}, OptionError, r"patch_px=32.5: give a whole number"),
    ],
)
def test_what_cannot_be_done(
    cases: list[Case],
    tmp_path: Path,
    given: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        run(cases, tmp_path / "r", **given)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", [sf.evaluate, sf.train])
def test_a_url_is_no_folder(verb: Any, cases: list[Case], tmp_path: Path) -> None:
    given = compact("srgan") if verb is sf.train else [cases[0].stack]
    more = {"stacks": [tmp_path / "a.zarr"]} if verb is sf.train else {"truths": [cases[0].truth]}
    with pytest.raises(OutputError, match="s3://bucket/r is a URL"):
        verb(given, out="s3://bucket/r", **more)


def test_a_slide_given_twice_is_refused(tmp_path: Path) -> None:
    phantom = Phantom(128, 128, planes=3, seed=3)
    write_phantom(phantom, tmp_path / "a.zarr", progress=False)
    given = [tmp_path / "a.zarr", tmp_path / "a.zarr"]
    with pytest.raises(OptionError, match=r"a\.zarr was given twice"):
        sf.evaluate(given, ["lpp"], out=tmp_path / "r", patch_px=64)
    assert not (tmp_path / "r").exists()


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


def test_a_full_disk_is_one_error_and_nothing_stays(
    cases: list[Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("slidefusion.evaluation.report.write_csv", full)
    with pytest.raises(OutputError, match=r"No space left .*nothing of it is kept: make room"):
        run(cases[:1], tmp_path / "r")
    assert not list(tmp_path.iterdir())


def test_the_truth_of_another_stack_is_refused(cases: list[Case], tmp_path: Path) -> None:
    turned = np.ascontiguousarray(cases[0].truth[:, ::-1, ::-1])
    with pytest.raises(StackError, match="the image to compare with does not show what stack 1"):
        run(cases[:1], tmp_path / "r", truths=[turned])
    assert not list(tmp_path.iterdir())


def test_a_reference_with_a_hole_is_refused(cases: list[Case], tmp_path: Path) -> None:
    truth = (cases[1].truth / 255).astype(np.float32)
    truth[0, 3, 5] = np.nan
    stack = (cases[1].stack / 255).astype(np.float32)
    with pytest.raises(StackError, match="NaN or infinite values at y 0, x 0"):
        sf.evaluate([stack], truths=[truth], out=tmp_path / "r", fusers=["lpp"], patch_px=64)


def test_truths_that_are_named_with_their_stacks_are_no_stacks(tmp_path: Path) -> None:
    write_phantom(Phantom(96, 96, planes=3, seed=1), tmp_path / "a.zarr", progress=False)
    everything = sorted(tmp_path.glob("*.zarr"))
    assert [path.name for path in everything] == ["a-depth.zarr", "a-truth.zarr", "a.zarr"]
    one = {"fusers": ["lpp"], "planes": [(-1, 0, 1)], "patch_px": 64, "min_content": 0.0}
    found = sf.evaluate(everything, out=tmp_path / "r", **one)
    assert {score.slide for score in found.measured.scores} == {"a"}


def test_nothing_to_measure_on(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--phantoms"):
        sf.evaluate(out=tmp_path / "r", fusers=["lpp"])


def test_one_patch_has_no_standard_error(cases: list[Case], tmp_path: Path) -> None:
    found = run(cases[1:], tmp_path / "r", planes=[(0,)])
    assert math.isnan(found.table(0)["plane 0"].error["ssim"])
    assert "±" in found.report.read_text()


def test_an_opened_stack_in_the_folder_that_is_replaced(cases: list[Case], tmp_path: Path) -> None:
    out = tmp_path / "results"
    run(cases[:1], out, planes=[(0,)], fusers=["lpp"])
    write_phantom(Phantom(64, 64, planes=3, seed=1), out / "s.zarr", progress=False)
    opened = sf.open_stack(out / "s.zarr")
    with pytest.raises(OutputError, match="contains the input"):
        sf.evaluate([opened], truths=[np.zeros((3, 64, 64), np.uint8)], out=out, overwrite=True)
    assert (out / "s.zarr").is_dir()


def test_pictures_of_other_modes(cases: list[Case], tmp_path: Path) -> None:
    rgb = cases[0].truth.transpose(1, 2, 0)
    cmyk = tmp_path / "cmyk.tif"
    Image.fromarray(rgb).convert("CMYK").save(cmyk)
    exact = np.asarray(Image.open(cmyk).convert("RGB")).transpose(2, 0, 1)
    assert np.array_equal(load_image(cmyk, 3), exact)
    big = tmp_path / "big.tif"
    sixteen = cases[0].truth[0].astype(np.uint16) * 100
    tifffile.imwrite(big, sixteen, byteorder=">")
    assert np.array_equal(load_image(big, 1)[0], sixteen) and load_image(big, 1).dtype.isnative
    colour = tmp_path / "colour.png"
    pixels = np.ascontiguousarray(rgb).astype(np.uint16) * 100
    colour.write_bytes(imagecodecs.png_encode(pixels))
    assert np.array_equal(load_image(colour, 3), pixels.transpose(2, 0, 1))
    narrow = tmp_path / "narrow.png"
    Image.fromarray(rgb[:1]).save(narrow)
    assert load_image(narrow, 3).shape == (3, 1, rgb.shape[1])
    colour.write_bytes(colour.read_bytes()[:200])
    deep = tmp_path / "deep.tif"
    tifffile.imwrite(deep, sixteen.astype(np.float32))
    several = tmp_path / "several.tif"
    tifffile.imwrite(several, np.stack([sixteen, sixteen]), photometric="minisblack")
    for path, message in (
        (colour, "no picture that can be read"),
        (deep, "pixels of 32 bits"),
        (several, "holds 2 pictures where one is expected"),
    ):
        with pytest.raises(UsageError, match=message):
            load_image(path, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_turned_tiff_is_turned_once(orientation: int, dtype: str, tmp_path: Path) -> None:
    stored = np.arange(12, dtype=dtype).reshape(3, 4) * 20
    path = tmp_path / "turned.tif"
    tag = (274, "H", 1, orientation, True)
    tifffile.imwrite(path, stored, photometric="minisblack", compression="zlib", extratags=[tag])
    upright = {
        1: stored, 2: stored[:, ::-1], 3: stored[::-1, ::-1], 4: stored[::-1], 5: stored.T,
        6: stored.T[:, ::-1], 7: stored.T[::-1, ::-1], 8: stored.T[::-1],
    }[orientation]  # fmt: skip
    assert np.array_equal(load_image(path, 1), upright[None])


def test_any_path_is_a_path(cases: list[Case], tmp_path: Path) -> None:
    class Place:
        def __init__(self, path: Path) -> None:
            self.path = path

        def __fspath__(self) -> str:
            return str(self.path)

    truth = tmp_path / "truth.png"
    Image.fromarray(cases[0].truth.transpose(1, 2, 0)).save(truth)
    phantom = tmp_path / "a.zarr"
    write_phantom(Phantom(64, 64, planes=3), phantom, progress=False)
    given: dict[str, Any] = {"planes": [(0,)], "fusers": [Lighter()], "min_content": 0}
    found = run(cases[:1], tmp_path / "r", truths=Place(truth), **given)
    assert found.measured.patches == 2
    sf.evaluate(Place(phantom), out=Place(tmp_path / "s"), patch_px=64, **given)
