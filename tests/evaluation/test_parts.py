"""The parts: statistics, patches, candidates, held-out phantoms, the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

import slidefusion as sf
from slidefusion.errors import OptionError, UnknownNameError
from slidefusion.evaluation import FIRST_SEED, held_out, write_held_out
from slidefusion.evaluation.candidates import Candidate, candidates
from slidefusion.evaluation.figures import curves, eight_bit
from slidefusion.evaluation.held_out import STAINS
from slidefusion.evaluation.patches import grid, has_content, worst_place, worst_places
from slidefusion.evaluation.scores import Measured, PatchScore, ablations, mean_and_error
from slidefusion.evaluation.slides import open_slides
from slidefusion.evaluation.tables import slug
from slidefusion.geometry import Window
from slidefusion.phantom import PhantomSettings

from ..cli.conftest import Runner, cli
from .conftest import Lighter, make_case

__all__ = ["cli"]  # a fixture


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=12))
def test_the_error_of_independent_patches_is_the_usual_one(values: list[float]) -> None:
    usual = np.std(values, ddof=1) / np.sqrt(len(values))
    for groups in ("a" * len(values), "abcdefghijkl"[: len(values)]):
        mean, error = mean_and_error(groups, values)
        assert mean == pytest.approx(np.mean(values))
        assert error == pytest.approx(usual, abs=1e-12)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=6), st.integers(2, 5))
def test_repeating_a_patch_of_a_slide_does_not_shrink_the_error(
    values: list[float], times: int
) -> None:
    names = "abcdef"[: len(values)]
    once = mean_and_error(names, values)[1]
    repeated = mean_and_error(
        [n for n in names for _ in range(times)], [v for v in values for _ in range(times)]
    )[1]
    assert repeated == pytest.approx(once, abs=1e-12)


def test_fusers_that_differ_in_the_mask_alone_are_compared() -> None:
    """Not those of other weights, which may come first."""
    fusers = {
        "other": Lighter(by=9, blur_mask=False),
        "without": Lighter(blur_mask=False),
        "with": Lighter(),
        "lone": Lighter(by=5),
    }
    measured = Measured("the truth", True, ("ssim",), ((0,),), 64)
    measured.scores = [
        PatchScore("a", 0, 0, (0,), label, {"ssim": value})
        for label, value in zip(fusers, (0.1, 0.5, 0.75, 0.9), strict=True)
    ]
    (found,) = ablations(measured, [Candidate(*pair) for pair in fusers.items()])
    assert (found.without, found.with_mask, found.difference) == ("without", "with", {"ssim": 0.25})


@given(st.integers(32, 200), st.integers(32, 200))
def test_patches_lie_inside_and_apart(height: int, width: int) -> None:
    seen = np.zeros((height, width), int)
    for window in grid(height, width, 32):
        seen[window.slices] += 1
        assert window.size == (32, 32)
    assert seen.max() == 1
    assert seen.sum() == (height // 32) * (width // 32) * 32 * 32


def test_the_worst_place_is_found(rng: np.random.Generator) -> None:
    truth = rng.integers(0, 255, (3, 128, 128), dtype=np.uint8)
    image = truth.astype(int)
    image[:, 40:72, 84:116] -= 50
    place, error = worst_place(np.clip(image, 0, 255).astype(np.uint8), truth, 32)
    assert place == (40, 84, 32, 32)
    assert 0 < error <= 50 / 255


def test_worst_places_are_the_worst_and_apart() -> None:
    error = np.zeros((50, 60), np.float32)
    error[10:14, 20:24] = 5
    error[40:44, 2:6] = 9
    found = worst_places(error, 4, 16, (200, 240), 2)
    assert found == [(Window(160, 8, 16, 16), 9.0), (Window(40, 80, 16, 16), 5.0)]
    assert worst_places(error[:4, :4], 4, 300, (17, 19), 3) == [(Window(0, 0, 17, 17), 0.0)]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_glass_has_no_content_and_a_cell_has(dtype: str, rng: np.random.Generator) -> None:
    top = 1.0 if dtype == "float32" else np.iinfo(dtype).max
    glass = 0.94 + 0.01 * rng.standard_normal((3, 128, 128))
    cell = glass.copy()
    cell[:, 40:80, 40:80] -= 0.15
    values = [np.clip(image * top, 0, top).astype(dtype) for image in (glass, cell)]
    assert [has_content(image, 0.02) for image in values] == [False, True]
    assert eight_bit(values[1]).getpixel((60, 60)) == pytest.approx((201,) * 3, abs=12)


def test_long_labels_of_curves_stay_in_their_places() -> None:
    labels = [f"focusgan:weights=runs/focusgan/focusgan-{k}.safetensors" for k in (1, 2, 3)]
    picture = curves({"m": {label: [0.5, 0.7] for label in labels}}, {"m": "M"})
    legend = np.asarray(picture.convert("L"))[:24]
    places = [legend[:, 60 + 210 * k : 60 + 210 * (k + 1)] for k in range(3)]
    assert all((place[:, 202:206] == 255).all() for place in places)
    texts = [place[:, 32:] for place in places]
    assert (texts[0] != texts[1]).any() and (texts[1] != texts[2]).any()


def test_curves_take_what_metrics_give() -> None:
    picture = curves({"m": {"a": [0.5, 0.7], "b": [0.5, float("nan")]}}, {"m": "M"})
    assert picture.getextrema() != ((255, 255),) * 3
    assert curves({"m": {"a": [0.5]}}, {"m": "M"}).size[0] == picture.size[0]


def test_held_out_settings_lie_outside_of_the_training_draws() -> None:
    drawn = [PhantomSettings.varied(seed) for seed in range(300)]
    for seed in range(FIRST_SEED, FIRST_SEED + 40):
        settings = held_out(seed)
        assert settings == held_out(seed)
        assert settings.density > max(d.density for d in drawn)
        assert settings.clustering > max(d.clustering for d in drawn)
        assert (settings.na, settings.z_step_um, settings.mpp_um) == (0.8, 2.7, 0.243)
        # In hue, the nearest of the training's nuclei is far away.
        hue = hue_of(settings.hematoxylin)
        assert min(np.abs(hue_of(d.hematoxylin) - hue).max() for d in drawn) > 0.04
    stains = {tuple(np.round(held_out(seed).eosin, 1)) for seed in range(8)}
    assert len(stains) >= len(STAINS)
    with pytest.raises(OptionError, match="seed=-1"):
        held_out(-1)


def hue_of(colour: tuple[float, float, float]) -> np.ndarray:
    return np.array(colour) / sum(colour)


def test_names_of_slides_are_unique_over_all() -> None:
    stacks = [make_case(k).stack for k in (1, 2)]
    first = open_slides(stacks[:1], None, need_truth=False)
    more = open_slides(stacks, None, need_truth=False, beside=first)
    names = [slide.name for slide in (*first, *more)]
    assert len(set(names)) == 3, names


def test_held_out_phantoms_stay_once_they_are_there(tmp_path: Path) -> None:
    (path,) = write_held_out(tmp_path, 1, side_px=64, planes=3)
    assert path.name == "1000000.zarr"
    assert zarr.open_group(path, mode="r").attrs["slidefusion"]["source"]["seed"] == FIRST_SEED
    before = (path / "zarr.json").stat().st_mtime_ns
    assert write_held_out(tmp_path, 1, side_px=64, planes=3) == [path]
    assert (path / "zarr.json").stat().st_mtime_ns == before
    with pytest.raises(OptionError, match="phantoms=0"):
        write_held_out(tmp_path, 0)


def test_phantoms_are_made_measured_and_kept(
    cli: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slidefusion.evaluation.run._PHANTOM_PX", 64)
    monkeypatch.setattr("slidefusion.evaluation.run._PHANTOM_PLANES", 3)
    out = tmp_path / "r"
    ended = cli(
        "evaluate", "--phantoms", 1, "--out", out, "--patch", 64, "--keep", tmp_path / "kept",
        "--fusers", "lpp:levels=2,lpp:levels=3:label=deep", "--min-content", 0,
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert "Left out of plane 0: lpp levels=2, deep (gives a single plane back" in ended.err
    assert "1000000: 1 patch, " in ended.err
    lines = ended.out.splitlines()
    row = next(line for line in lines if "deep" in line)
    found = sf.open_slide(tmp_path / "kept" / "1000000-truth.zarr")
    fused = sf.fuse(tmp_path / "kept" / "1000000.zarr", "lpp", planes=[-1, 0, 1], levels=3)
    assert f"{sf.metrics.ssim(fused.values, found.values):.4f}" in row
    assert lines[-1].startswith(f"{out / 'report.html'}, ")

    # The stack that was kept is measured like any other, with the truth found beside it.
    again = cli(
        "evaluate", tmp_path / "kept" / "1000000.zarr", "-o", tmp_path / "again", "--patch", 64,
        "--fusers=lpp:levels=3:label=deep", "--planes=-1,0,1", "--min-content", 0,
    )  # fmt: skip
    assert (
        row.split("│")[1:5]
        == next(line for line in again.out.splitlines() if "deep" in line).split("│")[1:5]
    )


def test_command_line_errors_are_one_line(cli: Runner, tmp_path: Path) -> None:
    out = tmp_path / "r"
    for args, message in (
        (("--fusers", "lpp,lpp"), "two are called 'lpp'"),
        (("--fusers", ","), "names separated by commas"),
        (("--fusers", "lpp:levles=3"), "levels"),
        (("--fusers", "lppp"), "lpp"),
        (("--fusers", "lpp", "--planes", "x"), "--planes"),
        (("--fusers", "lpp"), "nothing to measure on"),
        (("no-such.zarr", "--fusers", "lpp"), "no-such.zarr"),
    ):
        ended = cli("evaluate", "--out", out, *args)
        assert ended.code == 2
        assert message in ended.error
    assert not out.exists()


@pytest.mark.parametrize("label", ["plane 0", "plane +1", "plane -12", "truth", "reference"])
def test_labels_of_other_pictures_are_refused(label: str) -> None:
    with pytest.raises(OptionError, match="a row of its own, or a picture"):
        candidates({label: Lighter()})


def test_a_file_name_of_many_planes_is_short() -> None:
    many = tuple(range(-40, 41))
    assert slug(many).startswith("planes_-40_to_40_") and len(slug(many)) < 60
    assert slug(many) != slug((-40, *range(-38, 41)))


def test_help_has_examples(cli: Runner) -> None:
    ended = cli("evaluate", "--help")
    assert (ended.code, ended.err) == (0, "")
    assert "    slidefusion evaluate --phantoms 30" in ended.out
    assert "evaluate" in cli("--help").out


def test_default_fusers_need_them_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    from slidefusion.evaluation.candidates import DEFAULT_FUSERS

    assert DEFAULT_FUSERS["focusgan without mask"] == ("focusgan", {"blur_mask": False})

    def none(name: str, **_: object) -> None:
        raise UnknownNameError(name)

    monkeypatch.setattr("slidefusion.evaluation.candidates.get_fuser", none)
    with pytest.raises(UnknownNameError, match="focusgan"):
        candidates(None)
    assert [c.label for c in candidates({"mine": Lighter()})] == ["mine"]
