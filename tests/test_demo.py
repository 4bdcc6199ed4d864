"""The demo end to end, small; and its parts."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile

import slidefusion as sf
from slidefusion.demo import pictures, run_demo
from slidefusion.demo.folder import DemoFolder
from slidefusion.demo.measure import block_error, measure
from slidefusion.demo.report import write_report
from slidefusion.demo.run import open_results
from slidefusion.errors import OptionError, OutputError, UnknownNameError
from slidefusion.geometry import Window
from slidefusion.phantom import Phantom


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[DemoFolder, list[str]]:
    out = tmp_path_factory.mktemp("demo") / "d"
    lines: list[str] = []
    result = run_demo(out, size=600, planes=5, seed=3, progress=False, say=lines.append)
    assert result.report.is_file()
    return DemoFolder(out), lines


def test_results_are_the_phantom(made: tuple[DemoFolder, list[str]]) -> None:
    folder, _ = made
    expected = Phantom(600, 600, planes=5, seed=3).render(Window(0, 0, 600, 600))
    with tifffile.TiffFile(folder.slide) as file:
        (series,) = file.series
        assert (series.axes, file.is_ome, file.pages[0].is_tiled) == ("ZYXS", True, True)
        np.testing.assert_array_equal(series.asarray().transpose(0, 3, 1, 2), expected.stack)
    stack = sf.open_stack(folder.stack)
    np.testing.assert_array_equal(stack.values.swapaxes(0, 1), expected.stack)
    np.testing.assert_allclose(stack.z.values, [-5.4, -2.7, 0, 2.7, 5.4], atol=1e-9)
    assert float(stack.x[1]) == pytest.approx(0.243)
    np.testing.assert_array_equal(sf.open_slide(folder.truth).values, expected.truth)
    np.testing.assert_array_equal(sf.open_slide(folder.depth).values[0], expected.depth_um)


def test_fused_beats_every_plane_and_scores_are_true(made: tuple[DemoFolder, list[str]]) -> None:
    folder, lines = made
    scores = json.loads(folder.scores.read_text())
    truth = sf.open_slide(folder.truth).values
    fused = sf.open_slide(folder.fused).values
    assert scores["fused"]["ssim"] == pytest.approx(sf.metrics.ssim(fused, truth))
    planes = sf.open_stack(folder.stack).values
    assert scores["planes"]["-1"]["cc"] == pytest.approx(sf.metrics.cc(planes[:, 1], truth))
    mean = np.floor(planes.mean(axis=1) + 0.5).astype(np.uint8)
    assert scores["mean"]["qmi"] == pytest.approx(sf.metrics.qmi(mean, truth))
    others = [*scores["planes"].values(), scores["mean"]]
    for key in ("ssim", "cc", "qmi"):
        assert scores["fused"][key] > max(score[key] for score in others)
    assert list(scores["seconds"]) == ["slide file", "convert", "fuse", "measure", "report"]
    assert str(folder.report) in lines[-1]


def test_the_report_needs_nothing_else(made: tuple[DemoFolder, list[str]]) -> None:
    folder, _ = made
    page = folder.report.read_text("utf-8")
    assert "$" not in page.replace("$schema", "")
    for link in re.findall(r'(?:src|href)="([^"]*)"', page):
        assert link.startswith("data:image/")
    assert "url(" not in page and "@import" not in page
    scores = json.loads(folder.scores.read_text())
    assert page.count(f"{scores['fused']['ssim']:.4f}") >= 2
    assert "prefers-color-scheme: dark" in page
    assert folder.figure.stat().st_size < 400_000


def test_a_large_slide_is_shown_in_part_and_a_fuser_may_give_no_depth(
    made: tuple[DemoFolder, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slidefusion.demo.measure._AREA_PX", 400)
    folder = DemoFolder(tmp_path)
    opened = open_results(made[0])
    assert opened.area == Window(100, 100, 400, 400)
    np.testing.assert_array_equal(
        opened.planes.read(1, Window(5, 6, 70, 80)), opened.planes[1][:, 5:75, 6:86]
    )
    opened = dataclasses.replace(opened, fused_depth_um=None)
    measured = measure(opened)
    assert measured.depth_error_um is None
    monkeypatch.setattr(DemoFolder, "fused", made[0].fused)
    write_report(folder, opened, measured, Phantom(600, 600), {"fuse": 1.0})
    page = folder.report.read_text("utf-8")
    assert "The middle 400 × 400 px" in page and "depth, median error" not in page


def test_again_in_its_own_folder_only(tmp_path: Path) -> None:
    own = tmp_path / "own"
    folder = DemoFolder.begin(own, overwrite=False)
    folder.report.write_text("old")
    (own / "notes.txt").write_text("mine")
    again = DemoFolder.begin(own, overwrite=False)
    assert again == folder and not folder.report.exists()
    assert (own / "notes.txt").read_text() == "mine"

    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "report.html").write_text("mine")
    with pytest.raises(OutputError, match="not made by the demo"):
        DemoFolder.begin(foreign, overwrite=False)
    assert (foreign / "report.html").read_text() == "mine"
    DemoFolder.begin(foreign, overwrite=True)
    assert not (foreign / "report.html").exists()


def test_an_unknown_fuser_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError):
        run_demo(tmp_path / "d", size=256, planes=2, fuser="nonsense")
    assert not (tmp_path / "d").exists()


def test_a_fuser_of_fewer_planes_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"focusgan takes 1 to 3 planes, and the demo's"):
        run_demo(tmp_path / "d", size=256, planes=5, fuser="focusgan")
    assert not (tmp_path / "d").exists()


def test_block_error() -> None:
    truth = np.zeros((3, 9, 10), np.uint8)
    image = truth.copy()
    image[0, 4:8, 4:8] = 30
    found = block_error(image, truth)
    assert found.tolist() == [[0, 0], [0, 10]]


def test_colours() -> None:
    values = np.array([[-1.0, 1.0, np.nan, 5.0]])
    rgb = pictures.coloured(values, -1, 1, "depth")[:, 0].T.tolist()
    assert rgb == [[0x44, 1, 0x54], [0xFD, 0xE7, 0x25], [222, 225, 229], [0xFD, 0xE7, 0x25]]
    assert pictures.colour_bar_css("error").startswith("linear-gradient(to right, #000004")


def test_shrunk_is_the_mean_of_blocks() -> None:
    image = np.arange(3 * 6 * 8, dtype=np.uint8).reshape(3, 6, 8)
    small = pictures.shrunk(image, 4)
    assert small.shape == (3, 3, 4)
    assert small[0, 0, 0] == round(float(image[0, :2, :2].mean()))
    assert pictures.shrunk(image, 100) is image
