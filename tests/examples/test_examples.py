"""The scripts in examples/ run as they are, and what they make is right."""

from __future__ import annotations

import csv
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image

import slidefusion as sf
from slidefusion.geometry import Window
from slidefusion.phantom import Phantom, PhantomRegion, PhantomSettings

from ..deploy.test_examples import run

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
SIZE = 512


Example = Callable[..., list[str]]


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Example:
    """Runs a script where we are, in this process; returns the lines that it prints."""

    def run_here(name: str, *args: object) -> list[str]:
        monkeypatch.setattr(sys, "argv", [name, *map(str, args)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        said = capsys.readouterr()
        assert not said.err
        return said.out.splitlines()

    return run_here


def smear(*, gray: bool = False) -> PhantomRegion:
    """The middle plane and the truth of the smear that the scripts make, at the size given here."""
    settings = PhantomSettings(gray=gray)
    phantom = Phantom(SIZE, SIZE, planes=1, seed=3, settings=settings)
    return phantom.render(Window(0, 0, SIZE, SIZE))


def error(image: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Mean absolute difference."""
    return float(np.abs(np.asarray(image, np.float64) - np.asarray(truth, np.float64)).mean())


def picture(path: str) -> np.ndarray:
    """(C, Y, X)."""
    return np.asarray(Image.open(path)).transpose(2, 0, 1)


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_stack_is_converted_fused_and_cropped(example: Example) -> None:
    example("fuse_a_stack.py", "--size", SIZE, "--out", "made")
    stack, slide = sf.open_stack("made/stack.zarr"), sf.open_slide("made/slide.zarr")
    tiffs = [tifffile.imread(f"made/planes/z{z}.tif") for z in range(11)]
    assert np.array_equal(stack.transpose("z", "y", "x", "c"), tiffs)
    truth = smear().truth
    assert error(slide, truth) < 0.7 * error(stack[:, 5], truth)
    # 100 µm about the middle.
    y = np.arange(SIZE) * 0.243
    kept = np.flatnonzero(np.abs(y - y.mean()) <= 50)
    part = np.s_[:, kept[0] : kept[-1] + 1, kept[0] : kept[-1] + 1]
    assert np.array_equal(picture("made/fused.png"), slide.values[part])
    assert np.array_equal(picture("made/middle-plane.png"), stack.values[:, 5][part])


def test_an_array_goes_in_and_an_array_comes_out(example: Example) -> None:
    (said,) = example("fuse_numpy_array.py", "--size", SIZE, "--out", "fused.tif")
    assert said == "(5, 512, 512) uint16 -> (512, 512) uint16, in fused.tif"
    image = tifffile.imread("fused.tif")
    assert image.dtype == np.uint16
    plane, truth = smear(gray=True).stack[0, 0], smear(gray=True).truth[0]
    assert error(image / 257, truth) < 0.8 * error(plane, truth)


def test_fusers_are_compared_with_the_truth(example: Example) -> None:
    said = example("compare_fusers.py", "--side", SIZE, "--out", "fusers.png")
    head, *rows = [re.split(r"\s{2,}|\s(?=\d)", line.strip()) for line in said[:-1]]
    assert head == ["SSIM", "CC", "QMI"]
    scores = {name: [float(score) for score in numbers] for name, *numbers in rows}
    names = [*scores, "truth"]
    assert said[-1] == f"fusers.png: {', '.join(names)}"
    # The columns of the picture, in the order of the table.
    sheet = picture("fusers.png")[:, -SIZE:]
    columns = {name: sheet[..., k * (SIZE + 6) :][..., :SIZE] for k, name in enumerate(names)}
    truth = smear().truth
    assert np.array_equal(columns["truth"], truth)
    for name in ("lpp", "wt", "dtcwt"):
        assert min(scores[name]) > 0 and scores[name] > scores["middle plane"]
        assert error(columns[name], truth) < 0.7 * error(columns["middle plane"], truth)


def test_one_plane_is_restored_and_its_blur_shown(example: Example) -> None:
    side = 384  # one tile of the network
    *_, said = example("one_plane.py", "--size", side, "--out", "made")
    assert said.endswith("one-plane.png, from left to right: plane 0, blur mask, restored, truth")
    plane, mask, restored, truth = np.split(picture("made/one-plane.png"), 4, axis=2)
    assert np.array_equal(truth, smear().truth[:, :side, :side])
    assert np.array_equal(restored, sf.open_slide("made/restored.zarr"))
    assert np.array_equal(mask[:1], sf.open_slide("made/restored.zarr/blur"))
    assert error(restored, truth) < error(plane, truth)
    # Where the plane is far from the truth, the mask is brighter.
    wrong = np.abs(plane.astype(int) - truth).max(axis=0) > 20
    assert mask[0][wrong].mean() > 1.5 * mask[0][~wrong].mean()


def test_a_fuser_of_ones_own_fuses_and_keeps_the_contract(example: Example) -> None:
    example("write_a_fuser.py", "--size", SIZE, "--out", "brenner.png")
    region = smear()
    fused = picture("brenner.png")
    assert error(fused, region.truth) < 0.8 * error(region.stack[0], region.truth)
    proof = run("-m", "pytest", "-p", "no:cacheprovider", EXAMPLES / "write_a_fuser.py")
    assert proof.returncode == 0, proof.stdout


def test_a_second_run_of_many_slides_does_what_is_left(example: Example) -> None:
    said = example("many_slides.py", "--size", SIZE, "--out", "made")
    assert [line.partition(" after")[0] for line in said if " after " in line] == [
        "a-fused.zarr: done",
        "b-fused.zarr: failed",
        "a-fused.zarr: done",
        "b-fused.zarr: done",
    ]
    with Path("made/slides.status.csv").open(newline="") as file:
        states = {Path(row["out"]).name: row for row in csv.DictReader(file)}
    assert {row["state"] for row in states.values()} == {"done"}
    # The first was not made again: its one attempt is still the one of the first run.
    assert states["a-fused.zarr"]["attempts"] == "1"
    expected = sf.fuse(tifffile.imread("made/a.tif").transpose(3, 0, 1, 2)).values
    for name in states:
        assert np.array_equal(sf.open_slide(f"made/{name}"), expected)


def test_a_cluster_of_processes_writes_what_threads_write() -> None:
    ended = run(EXAMPLES / "on_a_cluster.py", "--size", SIZE, "--out", "made")
    assert (ended.returncode, ended.stderr) == (0, "")
    said = ended.stdout.splitlines()
    regions = [int(n) for line in said for n in re.findall(r": (\d+) regions", line)]
    assert sum(regions) == 4
    by_threads, by_processes = Path("made/threads/slide.zarr"), Path("made/processes/slide.zarr")
    names = [
        {path.relative_to(store) for path in store.rglob("*") if path.is_file()}
        for store in (by_threads, by_processes)
    ]
    assert names[0] == names[1]
    assert said[-1] == f"{len(names[0])} files, the same bytes"
    for name in names[0]:
        assert (by_threads / name).read_bytes() == (by_processes / name).read_bytes(), name
    truth = smear().truth
    plane = sf.open_stack("made/smear.zarr")[:, 2]
    assert error(sf.open_slide(by_processes), truth) < 0.8 * error(plane, truth)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_commands_in_docstrings_have_options_that_exist(script: Path) -> None:
    text = script.read_text()
    commands = [line for line in text.split('"""')[1].splitlines() if "python " in line]
    assert commands and all(f"python {script.name}" in line for line in commands)
    used = {option for line in commands for option in re.findall(r"--[a-z-]+", line)}
    assert used <= set(re.findall(r'add_argument\("(--[a-z-]+)"', text))


def test_the_page_lists_the_scripts() -> None:
    listed = re.findall(r"^\| \[`(\w+\.py)`\]", (EXAMPLES / "README.md").read_text(), re.MULTILINE)
    assert sorted(listed) == [path.name for path in SCRIPTS]
