"""Many slides from one manifest, with real files, and with real processes where they are killed."""

from __future__ import annotations

import contextlib
import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import tifffile
import zarr

import slidefusion as sf
from slidefusion import memory
from slidefusion.batch.manifest import read_manifest
from slidefusion.batch.slide import _continue
from slidefusion.errors import (
    OptionError,
    OutputError,
    ProcessingError,
    StackError,
    UnknownNameError,
)
from slidefusion.readers.tiff import TiffReader

UM = {
    "PhysicalSizeX": 0.25,
    "PhysicalSizeXUnit": "µm",
    "PhysicalSizeY": 0.25,
    "PhysicalSizeYUnit": "µm",
    "PhysicalSizeZ": 2.0,
    "PhysicalSizeZUnit": "µm",
}
ROOT = str(Path(__file__).parents[2])

Files = dict[str, bytes]


def slide(path: Path, seed: int, side: int = 96) -> Path:
    """An OME-TIFF of 3 planes, in strips."""
    planes = np.random.default_rng(seed).integers(0, 255, (3, side, side), dtype=np.uint8)
    tifffile.imwrite(path, planes, ome=True, rowsperstrip=16, metadata={"axes": "ZYX", **UM})
    return path


def write(folder: Path, columns: str, *rows: str) -> Path:
    path = folder / "slides.csv"
    path.write_text("\n".join([columns, *rows]) + "\n")
    return path


def files_below(folder: Path) -> Files:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def changed_at(folder: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in folder.rglob("*")}


def states(manifest: Path) -> list[str]:
    with manifest.with_name("slides.status.csv").open(newline="") as file:
        return [record["state"] for record in csv.DictReader(file)]


@pytest.fixture
def five(tmp_path: Path) -> Path:
    """A manifest of five slides, one with options of its own."""
    (tmp_path / "in").mkdir()
    for number in range(5):
        slide(tmp_path / "in" / f"s{number}.ome.tif", number)
    rows = [f"in/s{number}.ome.tif,,," for number in range(4)]
    return write(tmp_path, "source,planes,levels,out", *rows, 'in/s4.ome.tif,"-1,0",2,own/x.zarr')


def run(manifest: Path, **more: Any) -> list[Any]:
    return sf.batch(manifest, out_dir=manifest.parent / "out", progress=False, **more)


def test_each_row_is_its_own_call(five: Path, tmp_path: Path) -> None:
    seen = []
    found = run(five, on_slide=seen.append)
    assert [status.state for status in found] == ["done"] * 5 == states(five)
    assert sorted(s.out for s in seen) == sorted(s.out for s in found)
    out = tmp_path / "out"
    assert sorted(p.name for p in out.iterdir()) == ["own"] + [f"s{k}-fused.zarr" for k in range(4)]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "in", "out", "slides.csv", "slides.status.csv",
    ]  # fmt: skip
    for number in (0, 4):
        stack = sf.convert(
            tmp_path / "in" / f"s{number}.ome.tif", tmp_path / f"s{number}.zarr", progress=False
        )
        options: dict[str, Any] = {"planes": [-1, 0], "levels": 2} if number == 4 else {}
        expected = sf.fuse(stack, "lpp", **options)
        np.testing.assert_array_equal(sf.open_slide(found[number].out).values, expected.values)
    assert (found[4].attempts, found[4].line) == (1, 6)


def test_a_second_run_does_nothing(five: Path, tmp_path: Path) -> None:
    run(five)
    before = changed_at(tmp_path / "out")
    began: list[Any] = []
    assert [s.state for s in run(five, on_slide=began.append)] == ["done"] * 5
    assert not began
    assert changed_at(tmp_path / "out") == before


def test_one_bad_slide_among_five(five: Path, tmp_path: Path) -> None:
    bad = tmp_path / "in" / "s2.ome.tif"
    whole = bad.read_bytes()
    bad.write_bytes(whole[: len(whole) * 2 // 3])
    found = run(five, retries=0)
    assert [s.state for s in found] == ["done", "done", "failed", "done", "done"]
    assert "s2.ome.tif" in found[2].error
    assert not (tmp_path / "out" / "s2-fused.zarr").exists()
    before = changed_at(tmp_path / "out" / "s1-fused.zarr")
    again = run(five, retries=0)
    assert (again[2].state, again[2].attempts, again[1].attempts) == ("failed", 2, 1)
    bad.write_bytes(whole)  # mended: a new digest, and nothing of the old attempt is used
    mended = run(five)
    assert [s.state for s in mended] == ["done"] * 5 and mended[2].error == ""
    assert changed_at(tmp_path / "out" / "s1-fused.zarr") == before
    assert not list((tmp_path / "out").glob("*batch-stack*"))


@pytest.mark.parametrize("version", [2, 3])
def test_an_array_without_a_group_is_refused_as_convert_does(tmp_path: Path, version: int) -> None:
    data = np.zeros((1, 3, 40, 50), np.uint8)
    zarr.create_array(str(tmp_path / "a.zarr"), data=data, zarr_format=version)
    with pytest.raises(StackError, match="is a Zarr array") as told:
        sf.convert(tmp_path / "a.zarr", tmp_path / "stack.zarr", progress=False)
    manifest = write(tmp_path, "source", "a.zarr")
    (row,) = read_manifest(manifest, None, "lpp")
    assert row.stack is None
    (found,) = run(manifest)
    assert found.state == "failed" and str(told.value) in found.error
    # It counts as a store that nothing is written into.
    inside = write(tmp_path, "source,out", "a.zarr,a.zarr/fused.zarr")
    with pytest.raises(OptionError, match="lies inside"):
        read_manifest(inside, None, "lpp")


def test_changed_rows(five: Path, tmp_path: Path) -> None:
    run(five)
    write(
        tmp_path, "source,planes,levels,out", "in/s0.ome.tif,,3,", "in/s1.ome.tif,,,",
        "in/s2.ome.tif,,,", "in/s3.ome.tif,,,", 'in/s4.ome.tif,"-1,0",2,own/x.zarr',
    )  # fmt: skip
    before = changed_at(tmp_path / "out")
    found = run(five)
    assert [s.state for s in found] == ["failed"] + ["done"] * 4
    assert "made with other settings" in found[0].error and "--overwrite" in found[0].error
    assert changed_at(tmp_path / "out") == before
    found = run(five, overwrite=True)
    assert [s.state for s in found] == ["done"] * 5
    assert sf.open_slide(found[0].out).attrs["slidefusion"]["options"]["levels"] == 3
    after = changed_at(tmp_path / "out")
    assert {k: v for k, v in after.items() if "s0" not in k and "s" in Path(k).name} == {
        k: v for k, v in before.items() if "s0" not in k and "s" in Path(k).name
    }


def test_outputs_that_it_did_not_make(five: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "s0-fused.zarr"
    stack = sf.convert(tmp_path / "in" / "s1.ome.tif", tmp_path / "k.zarr", progress=False)
    sf.fuse(stack, out=out, progress=False)
    before = files_below(out)
    found = run(five)
    assert found[0].state == "failed" and "exists, and is finished" in found[0].error
    assert files_below(out) == before
    assert [s.state for s in run(five, overwrite=True)] == ["done"] * 5
    assert files_below(out) != before


def test_a_slide_that_is_gone_is_made_again(five: Path, tmp_path: Path) -> None:
    run(five)
    out = tmp_path / "out" / "s3-fused.zarr"
    before = files_below(out)
    shutil.rmtree(out)
    assert [s.state for s in run(five)] == ["done"] * 5
    assert files_below(out) == before


def test_kept_stacks_globs_and_stacks_as_sources(tmp_path: Path) -> None:
    for z in range(3):
        name = tmp_path / "planes" / f"z{z}.tif"
        name.parent.mkdir(exist_ok=True)
        tifffile.imwrite(name, np.full((40, 50), z, np.uint8))
    stack = sf.convert(slide(tmp_path / "a.ome.tif", 1), tmp_path / "ready.zarr", progress=False)
    manifest = write(
        tmp_path, "source;stack;mpp;z-step;fuser", "planes/z*.tif;kept/p.zarr;0.5 0.25;1.5;wt",
        "ready.zarr;;;;", "",
    )  # fmt: skip
    found = sf.batch(manifest, progress=False)
    assert [s.state for s in found] == ["done", "done"], [s.error for s in found]
    assert [Path(s.out).name for s in found] == ["planes-fused.zarr", "ready-fused.zarr"]
    kept = sf.open_stack(tmp_path / "kept" / "p.zarr")
    assert kept.z.values.tolist() == [0, 1.5, 3] and float(kept.y[1]) == 0.5
    made = sf.open_slide(found[0].out).attrs["slidefusion"]
    assert made["fuser"] == "wt"
    assert sf.open_slide(found[1].out).attrs["slidefusion"]["source"]["store"] == stack
    assert not list(tmp_path.glob("*batch-stack*"))


@pytest.mark.parametrize(
    ("columns", "rows", "says"),
    [
        ("source,fuser", ["in/s0.ome.tif,lp", "in/s1.ome.tif,"], "line 2: .*did you mean 'lpp'"),
        ("source,levles", ["in/s0.ome.tif,3"], "unknown column 'levles'; did you mean 'levels'"),
        ("sources", ["in/s0.ome.tif"], "no column 'source'"),
        ("source,levels", ["in/s0.ome.tif,99"], "line 2: .*out of range"),
        ("source,levels", ["in/s0.ome.tif,four"], "must be int"),
        ("source,fuser,wavelet", ["in/s0.ome.tif,wt,", "in/s1.ome.tif,lpp,db2"], "line 3: wavelet"),
        ("source,planes", ["in/s0.ome.tif,x"], "line 2: planes='x': give focus offsets"),
        ("source,mpp", ["in/s0.ome.tif,"], None),
        ("source,mpp,pixel_size_um", ["in/s0.ome.tif,1,1"], "column 'mpp' twice"),
        ("source,out", ["in/s0.ome.tif,a.zarr", "in/s1.ome.tif,a.zarr"], "line 3: it writes .*2"),
        (
            "source,out",
            ["in/s0.ome.tif,a.zarr", "in/s1.ome.tif,./y/../a.zarr"],
            "line 3: it writes",
        ),
        ("source,out", ["in/s0.ome.tif,in/../in/s1.ome.tif", "in/s1.ome.tif,"], "is the source of"),
        ("source,out", ["in/s0.ome.tif,in/s1.ome.tif", "in/../in/s1.ome.tif,"], "is the source of"),
        ("source,out", ["in/../in/s0.ome.tif,in/s0.ome.tif"], "is the source of"),
        ("source;mpp", ["in/s0.ome.tif;1,5 1,5"], "line 2: mpp="),
        ("source,mpp", ["in/s0.ome.tif,-1"], "line 2: mpp='-1': give µm a pixel, positive"),
        ("source;mpp", ["in/s0.ome.tif;0,25"], "line 2: mpp='0,25'"),
        ("source;mpp", ["in/s0.ome.tif;1,5"], "line 2: mpp='1,5'"),
        ("source;z_step", ["in/s0.ome.tif;0"], "line 2: z_step='0': give a positive distance"),
        ("source;align", ["in/s0.ome.tif;2"], "line 2: align='2': give yes or no"),
        ("source,reference", ["in/s0.ome.tif,-1"], "line 2: reference='-1'"),
        ("source,chunk_px", ["in/s0.ome.tif,0"], "line 2: chunk_px='0'"),
        ("source", ["in/s0.ome.tif", "in/s0.ome.tif"], "line 3: it writes .*as does line 2"),
        ("source,out,stack", ["in/s0.ome.tif,a.zarr,a.zarr"], "as does itself"),
        ("source,out", ["in/s0.ome.tif,in"], "line 2: .*contains the source of line 2"),
        ("source,out", ["in/s0.ome.tif,in/s1.ome.tif", "in/s1.ome.tif,"], "is the source of"),
        ("source,out", ["in/s0.ome.tif,a", "in/s1.ome.tif,a/b"], "line 3: .*lies inside"),
        ("source", ["in/no.tif", "in/s0.ome.tif", "in/*.svs"], "2 problems .*line 2: .*; line 4"),
        ("source,planes", ["in/s0.ome.tif,-1,0"], "put quotes around"),
        ("source,out", [",a.zarr"], "source is empty"),
        ("source", [], "no row"),
    ],
)
def test_what_is_refused_before_anything_is_begun(
    five: Path, tmp_path: Path, columns: str, rows: list[str], says: str | None
) -> None:
    manifest = write(tmp_path, columns, *rows)
    if says is None:
        assert len(read_manifest(manifest, None, "lpp")) == len(rows)
        return
    with pytest.raises(OptionError, match=says):
        sf.batch(manifest, progress=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "slides.csv"]


def test_missing_sources_can_be_left_for_later(five: Path, tmp_path: Path) -> None:
    path = tmp_path / "in" / "s1.ome.tif"
    path.rename(tmp_path / "later.tif")
    with pytest.raises(OptionError, match=r"line 3: there is nothing at the source .*s1"):
        run(five)
    found = run(five, keep_going=True)
    assert [s.state for s in found] == ["done", "failed", "done", "done", "done"]
    assert "there is nothing at" in found[1].error
    (tmp_path / "later.tif").rename(path)
    assert [s.state for s in run(five)] == ["done"] * 5
    shutil.rmtree(tmp_path / "in")  # what is done needs its source no more
    assert [s.state for s in run(five)] == ["done"] * 5


def test_manifests_and_tables_that_are_none(five: Path, tmp_path: Path) -> None:
    for what in (None, b"slides.csv", []):
        with pytest.raises(OptionError, match="is no manifest: give the path"):
            sf.batch(what)  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="no manifest"):
        sf.batch(tmp_path / "nowhere.csv")
    wrong: Any
    for wrong in (0, "2", 1.5, float("nan")):
        with pytest.raises(OptionError, match=r"at_once=.* whole number"):
            sf.batch(five, at_once=wrong)
    wrong = 5
    with pytest.raises(OptionError, match="5 is no place for a store"):
        sf.batch(five, out_dir=wrong)
    (tmp_path / "slides.status.csv").write_text("poem\nroses are red\n")
    with pytest.raises(OutputError, match="no table of states"):
        run(five)
    assert not (tmp_path / "out").exists()


def test_slides_at_once_share_the_memory(five: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def noting(*args: Any, **more: Any) -> Any:
        seen.append(memory.available_bytes())
        return sf.fuse(*args, **more)

    monkeypatch.setattr(sys.modules["slidefusion.batch.slide"], "fuse", noting)
    whole = memory.available_bytes()
    assert [s.state for s in run(five, at_once=4)] == ["done"] * 5
    assert seen == [whole // 4] * 5 and memory.available_bytes() == whole


def test_a_full_disk_stops_the_batch(
    five: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = []

    def full(*args: Any, **kwargs: Any) -> None:
        begun.append(args)
        raise ProcessingError("cannot write") from OSError(28, "No space left on device")

    monkeypatch.setattr(sys.modules["slidefusion.batch.slide"], "convert", full)
    with pytest.raises(
        ProcessingError, match="4 slides not begun, which would be written to the same disk"
    ):
        run(five)
    assert len(begun) == 1
    monkeypatch.undo()
    assert [s.state for s in run(five)] == ["done"] * 5


BATCH = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run with nohup or &
import slidefusion as sf
from slidefusion.readers import tiff
real = tiff.TiffReader.read
def slow(self, z, window):
    time.sleep(float(sys.argv[2]))
    return real(self, z, window)
tiff.TiffReader.read = slow
found = sf.batch(sys.argv[1], out_dir=sys.argv[3], progress=False, at_once=int(sys.argv[4]))
sys.exit([s.state for s in found].count("failed"))
"""


LONGEST_S = 60
"""Until a process that does not go on counts as hanging."""


@contextlib.contextmanager
def started(manifest: Path, pause_s: float, at_once: int = 1) -> Iterator[subprocess.Popen[str]]:
    """The batch in a process of its own, which does not outlive the test."""
    out = str(manifest.parent / "out")
    process = subprocess.Popen(
        [sys.executable, "-c", BATCH, str(manifest), str(pause_s), out, str(at_once)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(process: subprocess.Popen[str], manifest: Path, state: str, count: int) -> None:
    deadline = time.monotonic() + LONGEST_S
    table = manifest.with_name("slides.status.csv")
    while not table.exists() or states(manifest).count(state) < count:
        assert time.monotonic() < deadline, states(manifest) if table.exists() else "not begun"
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def test_killed_and_run_again(five: Path, tmp_path: Path) -> None:
    run(five)
    undisturbed = files_below(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "slides.status.csv").unlink()
    for done, at_once in ((1, 1), (3, 2)):
        with started(five, 0.15, at_once) as process:
            wait_for(process, five, "done", done)
        assert states(five).count("done") < 5
    assert [s.state for s in run(five)] == ["done"] * 5
    assert files_below(tmp_path / "out") == undisturbed
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "in", "out", "slides.csv", "slides.status.csv",
    ]  # fmt: skip


def test_ctrl_c_ends_all_that_is_in_work(five: Path, tmp_path: Path) -> None:
    with started(five, 0.3, 2) as process:
        wait_for(process, five, "done", 1)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=LONGEST_S)
    assert process.returncode == -signal.SIGINT or process.returncode == 1
    assert "running" not in states(five) and "failed" not in states(five)
    assert not list(tmp_path.rglob("slidefusion-lock.json"))
    assert [s.state for s in run(five)] == ["done"] * 5


def test_two_at_a_time_are_refused(five: Path) -> None:
    with started(five, 0.3) as process:
        wait_for(process, five, "running", 1)
        with pytest.raises(OutputError, match=rf"another run .*process {process.pid}"):
            run(five)
        process.communicate(timeout=LONGEST_S)
    assert process.returncode == 0
    assert states(five) == ["done"] * 5


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_on_a_cluster(five: Path, tmp_path: Path) -> None:
    from distributed import Client, LocalCluster

    settings = {"n_workers": 1, "threads_per_worker": 2, "processes": False}
    with (
        LocalCluster(dashboard_address=":0", **settings) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        assert [s.state for s in run(five, client=client)] == ["done"] * 5
    found = files_below(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    assert [s.state for s in run(five, at_once=2)] == ["done"] * 5
    assert files_below(tmp_path / "out") == found


def test_the_live_table(five: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    from slidefusion.batch.status import StatusTable, status_path

    assert status_path(Path("a/s.txt")) == Path("a/s.txt.status.csv")
    from slidefusion.batch.view import _View

    found = run(five)
    view = _View(5, 2, StatusTable(status_path(five)))
    view.note(found[0])
    console = Console(width=100, record=True, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    with console.file:
        console.print(view.render())
        text = console.export_text()
    assert "3 of 5 slides done, 0 failed, 2 left" in text and "s0-fused.zarr" in text


def test_what_did_not_answer_once_is_not_thrown_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second run of an interrupted row cannot look at the progress; the third has it."""
    place = "memory://batch16/stack.zarr"
    source = slide(tmp_path / "a.ome.tif", 1, 300)
    options: dict[str, Any] = {"shard_px": 128, "chunk_px": 64, "progress": False}
    real, reads = TiffReader.read, []

    def failing(self: TiffReader, z: int, window: Any) -> np.ndarray:
        reads.append(window)
        if len(reads) > 3:
            raise ProcessingError("power cut")
        return real(self, z, window)

    def make(**more: Any) -> None:
        sf.convert(source, place, **options, **more)

    with monkeypatch.context() as patch:
        patch.setattr(TiffReader, "read", failing)
        with pytest.raises(ProcessingError, match="power cut"):
            make()
    store = fsspec.filesystem("memory")
    before = set(store.find("/batch16"))
    with monkeypatch.context() as patch:
        patch.setattr(type(store), "cat_file", _refuse)
        with pytest.raises(OutputError, match=r"cannot .*: ConnectionError"):
            _continue(make, place, anew=True, replace=False)
    assert before <= set(store.find("/batch16"))
    _continue(make, place, anew=True, replace=False)
    assert sf.open_stack(place).shape == (1, 3, 300, 300)


def _refuse(*args: Any, **options: Any) -> None:
    raise ConnectionError("the network hiccuped")
