"""Whose a finished store is: of this row, of another manifest, or of a source that was replaced."""

from __future__ import annotations

import logging
import os
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import tifffile
import zarr

import slidefusion as sf
from slidefusion.errors import OptionError, ProcessingError

SIDE = 96
UM = "mpp,z_step\n{},0.5,1.5\n"


def scan(path: Path, seed: int) -> Path:
    """A TIFF of three planes."""
    path.parent.mkdir(exist_ok=True)
    planes = np.random.default_rng(seed).integers(0, 255, (3, SIDE, SIDE), dtype=np.uint8)
    tifffile.imwrite(path, planes, photometric="minisblack", metadata={"axes": "ZYX"})
    return path


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """Manifests of two folders, each with a scan.tif of its own, which give one slide its name."""
    for seed, name in enumerate(("p1", "p2")):
        scan(tmp_path / name / "scan.tif", seed)
        (tmp_path / name / "slides.csv").write_text("source," + UM.format("scan.tif"))
    return tmp_path / "p1" / "slides.csv", tmp_path / "p2" / "slides.csv"


def run(manifest: Path, **more: Any) -> tuple[str, str]:
    """State and reason of the one row."""
    out = manifest.parents[1] / "fused"
    (status,) = sf.batch(manifest, out_dir=out, progress=False, **more)
    return status.state, status.error


def shows(manifest: Path) -> bool:
    """Whether the slide is that of this manifest's scan."""
    found = sf.open_slide(manifest.parents[1] / "fused" / "scan-fused.zarr").values
    expected = sf.fuse(tifffile.imread(manifest.with_name("scan.tif"))[None], "lpp", progress=False)
    return bool(np.array_equal(found, expected.values))


def interrupted(manifest: Path, monkeypatch: pytest.MonkeyPatch, **more: Any) -> None:
    """The batch, whose power is cut when its slide is begun."""

    def cut(outputs: list[Any], *_: Any) -> None:
        for output in outputs:
            output.close()
        raise ProcessingError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(import_module("slidefusion.write_slide"), "run_regions", cut)
        assert run(manifest, **more) == ("failed", "power cut")


def test_manifests_do_not_take_each_others_stacks(
    two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = two
    interrupted(first, monkeypatch)
    state, reason = run(second)
    assert state == "failed" and "unfinished run with other settings" in reason
    assert run(first) == ("done", "") and shows(first)
    assert run(second, overwrite=True) == ("done", "") and shows(second)
    left = sorted(path.name for path in first.parents[1].glob("fused/*"))
    assert left == ["scan-fused.zarr"]


def test_what_another_one_finished_is_not_this_rows(
    two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = two
    interrupted(first, monkeypatch)
    assert run(second, overwrite=True) == ("done", "")
    for _ in range(2):  # once begun and never finished; then known to be refused
        state, reason = run(first)
        assert state == "failed" and "with other settings" in reason and shows(second)
    assert run(first, overwrite=True) == ("done", "") and shows(first)
    state, reason = run(second)  # done, and replaced since
    assert state == "failed" and "exists, and is finished" in reason and shows(first)
    assert run(second, overwrite=True) == ("done", "") and shows(second)
    assert run(second) == ("done", "")


def test_a_finished_slide_stays_until_another_can_take_its_place(two: tuple[Path, Path]) -> None:
    manifest, _ = two
    out = manifest.parents[1] / "fused" / "scan-fused.zarr"
    assert run(manifest) == ("done", "")
    manifest.write_text(manifest.read_text().replace("\n", ",planes\n", 1).replace("1.5", "1.5,9"))
    before = out.joinpath("zarr.json").read_bytes()
    for _ in range(2):
        state, reason = run(manifest, overwrite=True)
        assert state == "failed" and "9" in reason
        assert out.joinpath("zarr.json").read_bytes() == before and sf.verify(out) == []


def test_a_run_that_was_killed_before_it_was_noted(
    two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, _ = two
    module = import_module("slidefusion.batch.slide")
    real = module.fuse

    def killed(*given: Any, **options: Any) -> None:
        real(*given, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "fuse", killed)
        with pytest.raises(KeyboardInterrupt):
            run(manifest)
    out = manifest.parents[1] / "fused" / "scan-fused.zarr"
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if "/c/" in str(path)}
    assert run(manifest) == ("done", "") and shows(manifest)
    assert before and before == {path: path.stat().st_mtime_ns for path in before}


@pytest.mark.parametrize("after", range(1, 8))
def test_a_change_that_was_cut_off_anywhere_is_made_in_the_end(
    two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """The process ends after so many notes in the table; the same command is given again."""
    manifest, _ = two
    assert run(manifest) == ("done", "")
    scan(manifest.with_name("scan.tif"), 5)
    os.utime(manifest.with_name("scan.tif"), (5, 5))
    table = import_module("slidefusion.batch.status").StatusTable
    real, noted = table.update, []

    def update(self: Any, *given: Any, **changes: Any) -> Any:
        if len(noted) >= after:
            raise KeyboardInterrupt  # nothing more is noted
        noted.append(changes)
        return real(self, *given, **changes)

    with monkeypatch.context() as patch:
        patch.setattr(table, "update", update)
        with pytest.raises(KeyboardInterrupt):
            run(manifest, overwrite=True)
    assert run(manifest, overwrite=True) == ("done", "") and shows(manifest)
    assert [path.name for path in manifest.parents[1].glob("fused/*")] == ["scan-fused.zarr"]


def test_a_row_that_was_refused_owns_nothing(
    two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = two
    interrupted(first, monkeypatch)
    assert run(second)[0] == "failed"
    second.write_text("source,planes," + UM.format("scan.tif,0 1"))
    state, reason = run(second)
    assert state == "failed" and "unfinished run with other settings" in reason
    assert run(first) == ("done", "") and shows(first)


def test_a_row_that_was_refused_owns_no_stack(tmp_path: Path) -> None:
    manifests = []
    for seed, name in enumerate(("p1", "p2")):
        scan(tmp_path / name / "scan.tif", seed)
        manifests.append(tmp_path / name / "slides.csv")
        row = f"scan.tif,{name}.zarr,../kept.zarr,1,1"
        manifests[-1].write_text(f"source,out,stack,mpp,z_step\n{row}\n")
    first, second = manifests
    with pytest.MonkeyPatch.context() as patch:
        reader = import_module("slidefusion.readers.tiff").TiffReader
        patch.setattr(reader, "read", lambda *_: (_ for _ in ()).throw(ProcessingError("cut")))
        assert sf.batch(first, progress=False, retries=0)[0].state == "failed"
    for step in ("1", "2"):
        second.write_text(second.read_text().replace(",1,1", f",1,{step}"))
        (status,) = sf.batch(second, progress=False)
        assert status.state == "failed" and "unfinished run with other settings" in status.error
    assert sf.batch(first, progress=False)[0].state == "done"


def test_a_manifest_that_was_renamed_goes_on(
    two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, _ = two
    interrupted(manifest, monkeypatch)
    (stack,) = manifest.parents[1].glob("fused/*batch-stack.zarr")
    made = stack.stat().st_ino
    renamed = manifest.rename(manifest.with_name("night.csv"))
    manifest.with_name("slides.status.csv").rename(manifest.with_name("night.status.csv"))
    module = import_module("slidefusion.batch.slide")
    monkeypatch.setattr(module, "convert", None)  # the stack is there
    assert stack.stat().st_ino == made
    assert run(renamed) == ("done", "") and shows(renamed)
    assert [path.name for path in renamed.parents[1].glob("fused/*")] == ["scan-fused.zarr"]


def test_a_place_that_cannot_be_looked_at_fails_its_row_alone(
    two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, _ = two
    manifest.write_text("source,out,mpp,z_step\nscan.tif,/dead/a.zarr,1,1\nscan.tif,b.zarr,1,1\n")
    real = Path.exists

    def exists(self: Path, **given: Any) -> bool:
        if str(self).startswith("/dead"):
            raise OSError(107, "Transport endpoint is not connected")
        return real(self, **given)

    monkeypatch.setattr(Path, "exists", exists)
    found = sf.batch(manifest, progress=False)
    assert [status.state for status in found] == ["failed", "done"]
    assert "not connected" in found[0].error
    # One that is done already, and lies at a place that is dead now.
    table = manifest.with_name("slides.status.csv")
    table.write_text(table.read_text().replace(",failed,", ",done,"))
    with manifest.open("a") as file:
        file.write("scan.tif,c.zarr,1,1\n")
    found = sf.batch(manifest, progress=False)
    assert [status.state for status in found] == ["failed", "done", "done"]


def test_a_row_that_became_impossible_ends_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link to nothing among its planes, a file where its slide was, a name that is no UTF-8."""
    # What is captured of a test is sent between its processes, as UTF-8.
    monkeypatch.setattr(logging.getLogger("slidefusion"), "disabled", True)
    for name in ("a", "b", "c", "d"):
        (tmp_path / name).mkdir()
        for z in range(2):
            tifffile.imwrite(tmp_path / name / f"z{z}.tif", np.zeros((40, 50), np.uint8))
    rows = [f"{name}/*.tif,{name}.zarr,0.5,1.5" for name in ("a", "b", "c", "d")]
    manifest = tmp_path / "slides.csv"
    manifest.write_text("\n".join(["source,out,mpp,z_step", *rows[:2]]))
    assert [status.state for status in sf.batch(manifest, progress=False)] == ["done"] * 2
    for name in ("a.zarr", "b.zarr"):
        shutil.rmtree(tmp_path / name)
    (tmp_path / "a" / "z2.tif").symlink_to("/nowhere/z2.tif")
    (tmp_path / "b.zarr").write_text("mine")
    Path(os.fsdecode(bytes(tmp_path / "c") + b"/pr\xe4p.tif")).write_bytes(b"II*\0junk")
    manifest.write_text("\n".join(["source,out,mpp,z_step", *rows]))
    for _ in range(2):  # the second one reads what the first one wrote
        found = sf.batch(manifest, progress=False)
        assert [status.state for status in found] == ["failed"] * 3 + ["done"]
        for status, says in zip(found, ("z2.tif", "is a file", "pr\udce4p"), strict=False):
            assert says in status.error


def test_a_web_server_that_does_not_answer_is_named(tmp_path: Path) -> None:
    manifest = tmp_path / "slides.csv"
    manifest.write_text("source,mpp,z_step\nhttp://127.0.0.1:9/a.tif,1,1\n")
    (status,) = sf.batch(manifest, progress=False)
    assert status.state == "failed" and "Cannot connect" in status.error


def test_kept_stacks_are_known_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan(tmp_path / "p1" / "scan.tif", 0)
    other = scan(tmp_path / "p2" / "scan.tif", 1)
    manifest = tmp_path / "p1" / "slides.csv"
    manifest.write_text("source,stack," + UM.format("scan.tif,kept.zarr"))
    interrupted(manifest, monkeypatch)
    kept, facts = tmp_path / "fused" / "kept.zarr", {"pixel_size_um": 0.5, "z_step_um": 1.5}
    sf.convert(other, kept, overwrite=True, progress=False, **facts)
    state, reason = run(manifest)
    assert state == "failed" and "with other settings" in reason
    assert run(manifest, overwrite=True) == ("done", "") and shows(manifest)


@pytest.mark.parametrize("remote", [False, True])
def test_a_source_that_was_replaced(tmp_path: Path, *, remote: bool) -> None:
    folder = "memory://batch19" if remote else str(tmp_path)
    image, stack = f"{folder}/scan.tif", f"{folder}/stack.zarr"
    manifest = tmp_path / "slides.csv"
    manifest.write_text(f"source,mpp,z_step\n{image},0.5,1.5\n{stack},,\n")

    def put(seed: int) -> list[np.ndarray]:
        made = scan(tmp_path / "made" / "scan.tif", seed)
        os.utime(made, (seed, seed))  # provenance has whole seconds
        data = made.read_bytes()
        with fsspec.open(image, "wb") as file:
            file.write(data)
        sf.convert(made, stack, pixel_size_um=1, z_step_um=1, overwrite=True, progress=False)
        return [sf.fuse(tifffile.imread(made)[None], "lpp", progress=False).values] * 2

    def same(expected: list[np.ndarray]) -> list[bool]:
        names = ("scan-fused.zarr", "stack-fused.zarr")
        found = [sf.open_slide(tmp_path / "out" / name).values for name in names]
        return [np.array_equal(a, b) for a, b in zip(found, expected, strict=True)]

    def states(**more: Any) -> list[str]:
        found = sf.batch(manifest, out_dir=tmp_path / "out", progress=False, **more)
        return [status.state for status in found]

    first = put(1)
    assert states() == ["done"] * 2 and same(first) == [True] * 2
    assert states() == ["done"] * 2
    second = put(2)
    assert states() == ["failed"] * 2 and same(first) == [True] * 2
    assert states(overwrite=True) == ["done"] * 2 and same(second) == [True] * 2


def test_an_array_that_was_changed_in_place(tmp_path: Path) -> None:
    stack = tmp_path / "stack.zarr"
    sf.convert(scan(tmp_path / "a.tif", 0), stack, pixel_size_um=1, z_step_um=1, progress=False)
    root: Any = zarr.open_group(stack, mode="r+")
    root.attrs.pop("slidefusion")  # somebody else's
    manifest = tmp_path / "slides.csv"
    manifest.write_text("source\nstack.zarr\n")
    assert sf.batch(manifest, progress=False)[0].state == "done"
    array = root["0"]
    array[:] = 255 - array[:]
    assert sf.batch(manifest, progress=False)[0].state == "failed"
    assert sf.batch(manifest, progress=False, overwrite=True)[0].state == "done"
    expected = sf.fuse(stack, "lpp", progress=False).values
    assert np.array_equal(sf.open_slide(tmp_path / "stack-fused.zarr").values, expected)


def test_a_full_disk_stops_what_goes_there_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan(tmp_path / "a.tif", 0)
    rows = [f"a.tif,{place}/{k}.zarr,1,1" for k, place in enumerate(["full", "full", "other"])]
    manifest = tmp_path / "slides.csv"
    manifest.write_text("\n".join(["source,out,mpp,z_step", *rows]))
    module = import_module("slidefusion.batch.slide")
    real = module.convert

    def convert(source: str, out: str, **options: Any) -> Any:
        if "/full/" in out:
            raise ProcessingError("cannot write") from OSError(30, "Read-only file system")
        return real(source, out, **options)

    monkeypatch.setattr(module, "convert", convert)
    monkeypatch.setattr(
        import_module("slidefusion.batch.run"), "_disks", lambda row: {Path(row.out).parent.name}
    )
    ended: list[Any] = []
    with pytest.raises(ProcessingError, match=r"1 slide not begun, .* same disk: cannot write"):
        sf.batch(manifest, progress=False, on_slide=ended.append)
    assert [(Path(s.out).name, s.state) for s in ended] == [
        ("0.zarr", "failed"),
        ("2.zarr", "done"),
    ]


def test_one_manifest_however_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan(tmp_path / "arch" / "scan.tif", 0)
    scan(tmp_path / "more" / "b.tif", 1)
    (tmp_path / "arch" / "scripts").mkdir()
    manifest = tmp_path / "arch" / "slides.csv"
    manifest.write_text("source," + UM.format("scan.tif") + "../more/b.tif,1,1\n")
    (tmp_path / "link").symlink_to(tmp_path / "arch")
    monkeypatch.chdir(tmp_path / "arch")
    spelt = ["slides.csv", "scripts/../slides.csv", "../link/slides.csv", manifest]
    for name in spelt:
        began: list[Any] = []
        found = sf.batch(name, progress=False, on_slide=began.append)
        assert [s.state for s in found] == ["done", "done"] and len(began) == 2 * (name == spelt[0])
    table = (tmp_path / "arch" / "slides.status.csv").read_text()
    assert len(table.splitlines()) == 3
    # Another text for the same place.
    manifest.write_text("source,out," + UM.format("scan.tif,./scripts/../scan-fused.zarr"))
    assert sf.batch(manifest, progress=False, on_slide=began.append)[0].state == "done"
    assert len(began) == 0


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("~nobody-of-this-name/x.tif,a.zarr,,", "line 2: .*home"),
        ("a.tif,~nobody-of-this-name/x.zarr,,", "line 2: .*home"),
        (f"{'x' * 300}.tif,a.zarr,,", "line 2: .*too long"),
        (f"a.tif,{'x' * 250}.zarr,,", "line 2: .*too long"),
        ("a.tif,a.zarr,nothing,", "line 2: .*no reader 'nothing'"),
        ("a.tif,a.zarr,,-5", "line 2: chunks='-5': give the side of a region"),
    ],
)
def test_names_and_values_that_cannot_be(tmp_path: Path, row: str, says: str) -> None:
    scan(tmp_path / "a.tif", 0)
    manifest = tmp_path / "slides.csv"
    manifest.write_text(f"source,out,reader,chunks\n{row}\na.tif,b.zarr,,x\n")
    with pytest.raises(OptionError, match=f"2 problems .*{says}.*line 3: chunks="):
        sf.batch(manifest, progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "slides.csv"]


def test_retries_are_refused_once(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="retries=-1"):
        sf.batch(tmp_path / "slides.csv", retries=-1)
