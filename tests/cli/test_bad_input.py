"""Whatever is wrong: one line that says what, exit code 2 or 1, nothing that looks whole."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import zarr
from PIL import Image

import slidefusion as sf
from slidefusion.cli import main

from .conftest import PHYSICAL, Runner, write_tiff


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["STACK", "lp"], "no fuser 'lp' is installed; did you mean 'lpp'?"),
        (["STACK", "-O", "levles=4"], "no option 'levles'; did you mean 'levels'?"),
        (["STACK", "-O", "levels=four"], "option levels='four' of fuser 'lpp' must be int"),
        (["STACK", "-O", "levels=99"], "out of range"),
        (["STACK", "-O", "selection=sof"], "did you mean 'soft'?"),
        (["STACK", "-O", "levels"], "give NAME=VALUE"),
        (["STACK", "-O", "levels=3", "-O", "levels=4"], "given twice"),
        (["STACK", "-O", "planes=1"], "no option 'planes'"),
        (["STACK", "--planes=-7,0"], "no plane at focus offset -7; it has -2 to 2"),
        (["STACK", "--planes=one"], "give whole numbers"),
        (["STACK", "--planes=0,0"], "none twice"),
        (["STACK", "--crop", "80", "0", "20", "20"], "does not lie inside the slide of 90 x 130"),
        (["STACK", "--crop", "0", "0", "0", "20"], "does not lie inside"),
        (["STACK", "--chunks", "big"], "give the side of a region in pixels, or auto"),
        (["STACK", "--chunks", "0"], "give the side of a region in pixels"),
        (["STACK", "--device", "gpu"], "is not allowed"),
        (["STACK", "-O", "device=gpu"], "is not allowed"),
        (["STACK", "-O", "device=cpu", "--device", "cuda"], "give one of them"),
        (["STACK", "--client", "somewhere"], "no scheduler's address"),
        (["STACK", "--plane=0"], "--planes"),
        (["nowhere.zarr"], "there is nothing at"),
    ],
)
def test_fuse_refuses(
    cli: Runner, kept_stack: Path, tmp_path: Path, args: list[str], says: str
) -> None:
    out = tmp_path / "out.zarr"
    given = [str(kept_stack) if arg == "STACK" else arg for arg in args]
    ended = cli("fuse", *given, "--out", out)
    assert ended.code == 2
    assert says in ended.error
    assert ended.out == ""
    assert not out.exists()


def test_what_is_no_stack(cli: Runner, kept_stack: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    text = tmp_path / "notes.txt"
    text.write_text("no slide")
    assert "is a file, not a Zarr store" in cli("fuse", text, "-o", out).error
    assert "without Zarr metadata" in cli("fuse", tmp_path, "-o", out).error
    zarr.create_group(tmp_path / "plain.zarr")
    assert "no OME-Zarr image" in cli("fuse", tmp_path / "plain.zarr", "-o", out).error
    assert cli("info", tmp_path / "plain.zarr").code == 2
    assert "is a file" in cli("info", text).error
    fused = tmp_path / "fused.zarr"
    assert cli("fuse", kept_stack, "-o", fused).code == 0
    ended = cli("fuse", fused, "-o", out)
    assert ended.code == 2 and "it has no z" in ended.error
    assert not out.exists()


def test_outputs_that_are_in_the_way(cli: Runner, kept_stack: Path, tmp_path: Path) -> None:
    fused = tmp_path / "fused.zarr"
    assert cli("fuse", kept_stack, "-o", fused).code == 0
    ended = cli("fuse", kept_stack, "-o", fused)
    assert ended.code == 2 and "--overwrite" in ended.error
    assert cli("fuse", kept_stack, "-o", fused, "--overwrite").code == 0
    for out in (kept_stack, kept_stack.parent, kept_stack / "inside.zarr"):
        ended = cli("fuse", kept_stack, "-o", out, "--overwrite")
        assert ended.code == 2 and "the input" in ended.error
    assert sf.open_stack(kept_stack).shape == (1, 5, 90, 130)
    file = tmp_path / "file"
    file.write_text("precious")
    for out in (file, file / "below.zarr"):
        assert cli("fuse", kept_stack, "-o", out, "--overwrite").code == 2
    assert file.read_text() == "precious"
    assert "contain" in cli("convert", kept_stack, kept_stack.parent).error


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["nowhere.tif", "OUT"], "there is no file or folder"),
        (["TIFF"], "needs a source and an output"),
        (["TIFF", "OUT", "--pixel-size-um", "a"], "give numbers separated by commas"),
        (["TIFF", "OUT", "--pixel-size-um", "1,2,3"], "1 or 2 of them"),
        (["TIFF", "OUT", "--pixel-size-um", "-1"], "positive number"),
        (["TIFF", "OUT", "--z-um=0,1"], "there are 3 planes"),
        (["TIFF", "OUT", "--reference", "3"], "planes 0 to 2"),
        (["TIFF", "OUT", "--reader", "tif"], "did you mean 'tiff'?"),
        (["TIFF", "OUT", "-O", "serie=1"], "did you mean 'series'?"),
        (["TIFF", "OUT", "-O", "overwrite=1"], "an argument of convert itself"),
    ],
)
def test_convert_refuses(cli: Runner, tmp_path: Path, args: list[str], says: str) -> None:
    planes = np.zeros((3, 40, 50), np.uint8)
    tiff = write_tiff(tmp_path / "slide.ome.tif", planes, **PHYSICAL)
    out = tmp_path / "out.zarr"
    names = {"TIFF": str(tiff), "OUT": str(out)}
    ended = cli("convert", *(names.get(arg, arg) for arg in args))
    assert ended.code == 2
    assert says in ended.error
    assert not out.exists()


def test_sources_that_cannot_be_converted(cli: Runner, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    silent = write_tiff(tmp_path / "silent.ome.tif", np.zeros((3, 40, 50), np.uint8))
    assert "--pixel-size-um" in cli("convert", silent, out).error
    Image.new("L", (50, 40)).save(tmp_path / "a0.png")
    Image.new("L", (50, 40)).save(tmp_path / "a1.png")
    both = cli("convert", tmp_path / "a0.png", tmp_path / "a1.png", out).error
    assert "--pixel-size-um" in both and "--z-step-um" in both
    doubles = write_tiff(tmp_path / "double.ome.tif", np.zeros((3, 40, 50), np.float64), **PHYSICAL)
    assert "float64" in cli("convert", doubles, out).error
    for name, size in (("z0.png", (50, 40)), ("z1.png", (50, 41))):
        Image.new("L", size).save(tmp_path / name)
    given = (tmp_path / "z0.png", tmp_path / "z1.png", out, "--pixel-size-um", 1, "--z-step-um", 1)
    ended = cli("convert", *given)
    assert ended.code == 2 and "z1.png" in ended.error
    assert not out.exists()


def test_values_that_are_no_numbers_stop_the_run(cli: Runner, tmp_path: Path) -> None:
    planes = np.zeros((3, 40, 50), np.float32)
    planes[1, 5, 6] = np.nan
    stack, out = tmp_path / "stack.zarr", tmp_path / "out.zarr"
    tiff = write_tiff(tmp_path / "nan.ome.tif", planes, **PHYSICAL)
    assert cli("convert", tiff, stack).code == 0
    ended = cli("fuse", stack, "-o", out)
    assert ended.code == 2 and "NaN" in ended.error
    assert json.loads(cli("info", out, "--json").out)["complete"] is False


def test_a_truncated_chunk_is_a_failure(cli: Runner, tmp_path: Path) -> None:
    planes = np.random.default_rng(0).integers(0, 255, (3, 40, 50), dtype=np.uint8)
    stack, out = tmp_path / "stack.zarr", tmp_path / "out.zarr"
    tiff = write_tiff(tmp_path / "slide.ome.tif", planes, **PHYSICAL)
    assert cli("convert", tiff, stack).code == 0
    chunk = next(path for path in sorted((stack / "0" / "c").rglob("*")) if path.is_file())
    chunk.write_bytes(chunk.read_bytes()[:200])
    ended = cli("fuse", stack, "-o", out, "-O", "background=fuse")
    assert ended.code == 1 and "damaged, truncated" in ended.error
    assert "INCOMPLETE" in cli("info", out).out


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--size", "0", "10"], "height=0"),
        (["--planes", "0"], "planes=0"),
        (["--planes", "x"], "'x'"),
        (["--size", "512", "--seed"], "'--seed'"),
        (["--z-step-um", "100"], "z_step_um=100"),
        (["--seed", "-1"], "seed=-1"),
        (["-O", "densty=2"], "did you mean 'density'?"),
        (["-O", "na=high"], "must be float"),
        (["-O", "na=7"], "na=7"),
        (["--z-step-um", "2", "-O", "z_step_um=3"], "are the same: give one of them"),
    ],
)
def test_phantom_refuses(cli: Runner, tmp_path: Path, args: list[str], says: str) -> None:
    ended = cli("phantom", tmp_path / "p.zarr", *args)
    assert ended.code == 2
    assert says in ended.error
    assert not any(tmp_path.iterdir())


def test_no_scheduler_answers(
    cli: Runner, kept_stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slidefusion.cli.shared_options._CONNECT_TIMEOUT", "0.3s")
    out = tmp_path / "out.zarr"
    # A port that this process holds, and nobody listens on.
    import socket

    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{held.getsockname()[1]}"
        ended = cli("fuse", kept_stack, "-o", out, "--client", address)
    assert ended.code == 1
    assert "no Dask scheduler answers at" in ended.error
    assert not out.exists()


@pytest.mark.parametrize(
    ("client", "says"),
    [
        ("tcp://127.0.0.1", "missing port"),
        ("tcp://127.0.0.1:port", "invalid literal"),
        ("tls://127.0.0.1:8786", "TLS expects"),
        ("odd://127.0.0.1:8786", "unknown address scheme"),
        ("127.0.0.1:8786", "no scheduler's address"),
        ("poem.json", "no scheduler file"),
        ("empty.json", "no scheduler file"),
        ("other.json", "no scheduler file"),
    ],
)
def test_what_no_scheduler_can_be_behind(
    cli: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: str, says: str
) -> None:
    """No client of Dask's is made for it, which would try for long and leave tasks behind."""
    import distributed

    monkeypatch.setattr(distributed, "Client", None)
    monkeypatch.chdir(tmp_path)
    Path("poem.json").write_text("roses are red")
    Path("empty.json").touch()
    Path("other.json").write_text('{"id": "Scheduler-1"}')
    ended = cli("verify", "any.zarr", "--client", client)
    assert ended.code == 2 and says in ended.error


def test_what_nobody_expected(
    cli: Runner, kept_stack: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise ZeroDivisionError("never\nm\x1b[31mind µ 細胞 \u202e 👩\u200d🔬")

    monkeypatch.setattr("slidefusion.verbs.fuse.fuse", broken)
    ended = cli("fuse", kept_stack, "-o", tmp_path / "out.zarr")
    assert ended.code == 1
    text = "never m\\x1b[31mind µ 細胞 \\u202e 👩\u200d🔬"
    line = f"error: internal: ZeroDivisionError: {text} (--debug shows where)\n"
    assert ended.err == line
    ended = cli("fuse", kept_stack, "-o", tmp_path / "out.zarr", "--debug")
    assert ended.code == 1
    assert "Traceback" in ended.err and ended.err.endswith(line)


def test_interrupted_in_this_process(
    cli: Runner, kept_stack: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("slidefusion.verbs.fuse.fuse", interrupted)
    ended = cli("fuse", kept_stack, "-o", tmp_path / "out.zarr")
    assert (ended.code, ended.out) == (130, "")
    assert ended.err == "interrupted; run the same command again to continue\n"


@pytest.mark.parametrize("args", [["fusers", "lp"], ["fuse"], ["nonsense"], ["--nonsense"]])
def test_usage(cli: Runner, args: list[str]) -> None:
    ended = cli(*args)
    assert ended.code == 2
    assert ended.error


def test_demo_leaves_other_folders_alone(cli: Runner, tmp_path: Path) -> None:
    (tmp_path / "stack.zarr").write_text("mine")
    ended = cli("demo", tmp_path, "--size", 256, "--planes", 2)
    assert ended.code == 2 and "was not made by the demo" in ended.error
    assert [path.name for path in tmp_path.iterdir()] == ["stack.zarr"]
    assert "is a file" in cli("demo", tmp_path / "stack.zarr").error
    assert "at least" in cli("demo", tmp_path / "new", "--size", 5).error
    assert main(["demo", str(tmp_path / "new"), "--planes", "1"]) == 2
    assert not (tmp_path / "new").exists()
