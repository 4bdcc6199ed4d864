"""Each command does what its verb does in Python."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

import slidefusion as sf
from slidefusion.geometry import Window
from slidefusion.phantom import Phantom
from slidefusion.verbs.info import describe

from .conftest import PHYSICAL, Runner, write_tiff

COMMANDS = ("convert", "plan", "fuse", "batch", "fusers", "info", "phantom", "demo")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_examples(cli: Runner, name: str) -> None:
    ended = cli(name, "--help")
    assert (ended.code, ended.err) == (0, "")
    assert f"    slidefusion {name}" in ended.out
    assert name in cli("--help").out


def test_no_arguments_is_help(cli: Runner) -> None:
    assert cli().out == cli("--help").out
    assert cli("--version").out == f"slidefusion {sf.__version__}\n"


def test_fuse_is_fuse(cli: Runner, kept_stack: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    # As two words and as one: the numbers start with a dash.
    for planes in (("--planes", "-1,0,2"), ("--planes=-1,0,2",)):
        ended = cli(
            "fuse", kept_stack, "lpp", "-o", out, *planes, "--crop", 8, 16, 70, 60,
            "--chunks", 32, "-O", "levels=3", "--option", "selection=max", "-O", "clamp=no",
            "--overwrite", "--no-progress",
        )  # fmt: skip
        assert (ended.code, ended.err) == (0, "")
        assert ended.out.startswith(f"{out}: 70 x 60 px, 1 channel, lpp of 3 planes, ")
        slide = sf.open_slide(out)
        expected = sf.fuse(
            kept_stack,
            "lpp",
            planes=[-1, 0, 2],
            crop=(8, 16, 70, 60),
            levels=3,
            selection="max",
            clamp=False,
        )
        np.testing.assert_array_equal(slide.values, expected.values)
        assert slide.attrs["slidefusion"]["options"]["levels"] == 3
        assert slide.attrs["slidefusion"]["planes"] == [-1, 0, 2]


def test_fuse_on_a_cluster(cli: Runner, kept_stack: Path, tmp_path: Path) -> None:
    from distributed import LocalCluster

    settings = {"n_workers": 1, "threads_per_worker": 2, "processes": False}
    with LocalCluster(protocol="tcp", host="127.0.0.1", dashboard_address=":0", **settings) as here:
        ended = cli(
            "fuse", kept_stack, "-o", tmp_path / "far.zarr", "--chunks", 64,
            "--scheduler", here.scheduler_address, "--debug",
        )  # fmt: skip
    assert ended.code == 0 and ended.err.startswith("dashboard: http://")
    assert ended.err.count("\n") == 1
    near = sf.fuse(kept_stack)
    np.testing.assert_array_equal(sf.open_slide(tmp_path / "far.zarr").values, near.values)


def test_convert_is_convert(cli: Runner, tmp_path: Path) -> None:
    planes = np.random.default_rng(0).integers(0, 255, (3, 40, 50), dtype=np.uint8)
    tiff = write_tiff(tmp_path / "slide.ome.tif", planes, **PHYSICAL)
    out = tmp_path / "out.zarr"
    ended = cli("convert", tiff, out, "--z-um=-2,0,3", "--reference", 1, "-O", "series=0")
    assert ended.code == 0, ended.err  # on a busy machine distributed may warn of delays
    assert ended.out.startswith(f"{out}: 3 planes of 40 x 50 px, 1 channel, ")
    stack = sf.open_stack(out)
    np.testing.assert_array_equal(stack.values[0], planes)
    assert stack.z.values.tolist() == [-2, 0, 3]
    assert stack.focus_offset.values.tolist() == [-1, 0, 1]

    files = []
    for k, plane in enumerate(planes):
        files.append(tmp_path / f"z{k}.tif")
        tifffile.imwrite(files[-1], plane)
    many = tmp_path / "many.zarr"
    ended = cli("convert", *files, many, "--pixel-size-um", "0.25,0.5", "--z-step-um", 2)
    assert (ended.code, ended.err) == (0, "")
    stack = sf.open_stack(many)
    np.testing.assert_array_equal(stack.values[0], planes)
    assert float(stack.x[1]) == 0.5 and float(stack.y[1]) == 0.25


def test_fusers(cli: Runner) -> None:
    assert "lpp" in cli("fusers").out
    listed = {entry["name"]: entry for entry in json.loads(cli("fusers", "--json").out)}
    assert listed["lpp"]["distribution"] == "slidefusion"
    text = cli("fusers", "lpp").out
    shown = json.loads(cli("fusers", "slidefusion:lpp", "--json").out)
    assert {option["name"] for option in shown["options"]} == {
        info.name for info in sf.fuser_options("lpp")
    }
    for option in shown["options"]:
        assert option["name"] in text and option["help"] in text


def test_info(cli: Runner, kept_stack: Path, tmp_path: Path) -> None:
    shown = json.loads(cli("info", kept_stack, "--json").out)
    assert shown == describe(kept_stack)
    assert (shown["kind"], shown["complete"], shown["ngff_version"]) == ("stack", True, "0.5")
    assert (shown["axes"], shown["shape"]) == (["c", "z", "y", "x"], [1, 5, 90, 130])
    assert shown["pixel_size_um"] == [0.25, 0.25]
    assert [plane["focus_offset"] for plane in shown["planes"]] == [-2, -1, 0, 1, 2]
    assert np.diff([plane["z_um"] for plane in shown["planes"]]).tolist() == [2.0] * 4
    array = zarr.open_group(kept_stack, mode="r")["0"]
    assert shown["levels"][0]["chunk"] == list(array.chunks)
    assert shown["levels"][0]["shard"] == list(array.shards)
    files = [path for path in kept_stack.rglob("*") if path.is_file()]
    assert shown["disk_files"] == len(files)
    assert shown["disk_bytes"] == sum(path.stat().st_size for path in files)
    text = cli("info", kept_stack).out
    for part in ("complete", "90 x 130 px", "0.25 µm", "uint8", "provenance"):
        assert part in text

    assert cli("fuse", kept_stack, "-o", tmp_path / "fused.zarr").code == 0
    slide = json.loads(cli("info", tmp_path / "fused.zarr", "--json").out)
    assert (slide["kind"], slide["planes"]) == ("slide", [])
    assert [label["name"] for label in slide["labels"]] == ["depth"]
    assert slide["provenance"]["fuser"] == "lpp"
    assert "LABEL depth" in cli("info", tmp_path / "fused.zarr").out


def test_info_of_what_others_wrote(cli: Runner, tmp_path: Path) -> None:
    """An OME-Zarr 0.4 in Zarr v2 with axes t, c, z, y, x in nanometres."""
    scale = {"type": "scale", "scale": [1, 1, 500, 250, 250]}
    axes = [{"name": name, "type": "space", "unit": "nanometer"} for name in "zyx"]
    block = {
        "version": "0.4",
        "axes": [{"name": "t", "type": "time"}, {"name": "c", "type": "channel"}, *axes],
        "datasets": [{"path": "s0", "coordinateTransformations": [scale]}],
    }
    group = zarr.create_group(tmp_path / "old.zarr", zarr_format=2)
    group.attrs["multiscales"] = [block]
    group.create_array("s0", shape=(1, 2, 3, 40, 50), chunks=(1, 1, 1, 20, 20), dtype="uint16")
    shown = json.loads(cli("info", tmp_path / "old.zarr", "--json").out)
    assert (shown["ngff_version"], shown["zarr_format"]) == ("0.4", 2)
    assert shown["pixel_size_um"] == [0.25, 0.25]
    assert [plane["z_um"] for plane in shown["planes"]] == [0.0, 0.5, 1.0]
    assert shown["levels"] == [
        {
            "path": "s0",
            "shape": [1, 2, 3, 40, 50],
            "dtype": "uint16",
            "chunk": [1, 1, 1, 20, 20],
            "shard": None,
        }
    ]
    assert "40 x 50 px" in cli("info", tmp_path / "old.zarr").out


def test_phantom_is_the_phantom(cli: Runner, tmp_path: Path) -> None:
    out = tmp_path / "p.zarr"
    ended = cli(
        "phantom", out, "--size", 530, 300, "--planes", 3, "--z-step-um", 1.5, "--seed", 4,
        "-O", "gray=true", "-O", "density=2",
    )  # fmt: skip
    assert (ended.code, ended.err) == (0, "")
    from slidefusion.phantom import PhantomSettings

    settings = PhantomSettings(gray=True, density=2)
    phantom = Phantom(530, 300, planes=3, z_step_um=1.5, seed=4, settings=settings)
    expected = phantom.render(Window(0, 0, 530, 300))
    stack = sf.open_stack(out)
    np.testing.assert_array_equal(stack.values.swapaxes(0, 1), expected.stack)
    assert stack.z.values.tolist() == [-1.5, 0, 1.5]
    assert stack.attrs["slidefusion"]["source"]["seed"] == 4
    np.testing.assert_array_equal(sf.open_slide(tmp_path / "p-truth.zarr").values, expected.truth)
    depth = sf.open_slide(tmp_path / "p-depth.zarr").values[0]
    np.testing.assert_array_equal(depth, expected.depth_um)
    again = cli("phantom", out, "--size", 530, 300)
    assert again.code == 2 and "--overwrite" in again.error


def test_phantom_goes_on_when_some_outputs_are_whole(cli: Runner, tmp_path: Path) -> None:
    args = ("phantom", tmp_path / "p.zarr", "--size", 100, 90, "--planes", 2)
    assert cli(*args).code == 0
    truth = sf.open_slide(tmp_path / "p-truth.zarr").values
    shutil.rmtree(tmp_path / "p-truth.zarr")
    report = tmp_path / "report.json"
    assert cli(*args, "--verify", "--retries", 0, "--report", report).code == 0
    assert json.loads(report.read_text())["verified"]
    np.testing.assert_array_equal(sf.open_slide(tmp_path / "p-truth.zarr").values, truth)
    shutil.rmtree(tmp_path / "p-truth.zarr")
    assert cli(*args).code == 0
    assert "already complete" in cli(*args).error
    shutil.rmtree(tmp_path / "p-truth.zarr")
    assert "already complete" in cli(*args, "--seed", 1).error


def test_a_terminal_that_knows_ascii_only(kept_stack: Path) -> None:
    ended = subprocess.run(
        [str(shutil.which("slidefusion")), "info", str(kept_stack)],
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert r"\xb5m" in ended.stdout
