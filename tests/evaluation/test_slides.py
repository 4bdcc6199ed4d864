"""Slides, and what they are compared with: truths, pictures, other fusers' results."""

from __future__ import annotations

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
    StackError,
    UsageError,
)
from slidefusion.evaluation.slides import load_image
from slidefusion.phantom import Phantom
from slidefusion.verbs.phantom import write_phantom

from .conftest import Case, Largest, Lighter, expected, run


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
