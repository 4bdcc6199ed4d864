from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import tifffile
import zarr

import slidefusion as sf
from slidefusion.errors import OutputError, ProcessingError, UsageError
from slidefusion.geometry import Window
from slidefusion.omezarr.images import ImageSpec
from slidefusion.omezarr.journal import JOURNAL_NAME, Journal, fingerprint_of
from slidefusion.omezarr.lock import LOCK_NAME
from slidefusion.omezarr.output import Output
from slidefusion.omezarr.pyramid import PyramidLayout

from ..test_stack import Planes


def begin(out: Path, settings: dict[str, Any] | None = None, **more: Any) -> Output:
    layout = PyramidLayout("cyx", (1, 40, 50), "uint8", 32)
    return Output(
        out,
        [ImageSpec("", layout, pixel_size_um=(0.5, 0.5))],
        settings=settings or {"a": 1},
        attributes={"kind": "slide"},
        count=4,
        **more,
    )


def test_an_output_is_no_image_until_it_is_finished(tmp_path: Path) -> None:
    output = begin(tmp_path / "a.zarr")
    attributes = dict(zarr.open_group(tmp_path / "a.zarr", mode="r").attrs)
    assert attributes == {"slidefusion": {"kind": "slide", "arrays": ["0"], "complete": False}}
    output.finish()
    attributes = dict(zarr.open_group(tmp_path / "a.zarr", mode="r").attrs)
    assert attributes["ome"]["version"] == "0.5"
    assert attributes["slidefusion"] == {"kind": "slide", "arrays": ["0"], "complete": True}
    assert not (tmp_path / "a.zarr" / JOURNAL_NAME).exists()


def test_the_journal_continues(tmp_path: Path) -> None:
    with begin(tmp_path / "a.zarr") as first:
        first.journal.mark(2)
    with begin(tmp_path / "a.zarr") as second:
        second.journal.mark(1)
    with begin(tmp_path / "a.zarr") as third:
        assert third.journal.done.tolist() == [False, True, True, False]
    assert Journal.stored_progress(str(tmp_path / "a.zarr")) == (2, 4)


def test_other_settings_are_refused_and_named(tmp_path: Path) -> None:
    begin(tmp_path / "a.zarr", {"levels": 4, "planes": (0, 1)}).close()
    begin(tmp_path / "a.zarr", {"planes": [0, 1], "levels": 4}).close()  # the same
    with pytest.raises(OutputError, match=r"other settings \(levels was 4, now 5\)"):
        begin(tmp_path / "a.zarr", {"levels": 5, "planes": [0, 1]})


def test_a_complete_output_is_refused_unless_overwritten(tmp_path: Path) -> None:
    begin(tmp_path / "a.zarr").finish()
    with pytest.raises(OutputError, match="is already complete"):
        begin(tmp_path / "a.zarr")
    begin(tmp_path / "a.zarr", overwrite=True).finish()


def test_what_is_not_ours_is_never_deleted(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(
            OutputError, match="exists and is no Zarr store, so it is never replaced"
        ):
            begin(tmp_path / "notes", overwrite=overwrite)
        with pytest.raises(OutputError, match="is a file"):
            begin(tmp_path / "notes" / "thesis.txt", overwrite=overwrite)
    assert (tmp_path / "notes" / "thesis.txt").read_text() == "years of work"


def test_an_empty_folder_may_be_filled(tmp_path: Path) -> None:
    (tmp_path / "a.zarr").mkdir()
    begin(tmp_path / "a.zarr").finish()
    assert dict(zarr.open_group(tmp_path / "a.zarr", mode="r").attrs)["slidefusion"]["complete"]


@pytest.mark.parametrize("out", [".", "in.zarr", "in.zarr/out.zarr", "../{name}"])
def test_an_output_above_or_inside_its_input_is_refused(tmp_path: Path, out: str) -> None:
    source = tmp_path / "in.zarr"
    zarr.create_group(source)
    place = source.parent / out.format(name=tmp_path.name)
    with pytest.raises(OutputError, match=r"the output .* (is|contains|lies inside) the input"):
        begin(place, inputs=[source], overwrite=True)
    assert (source / "zarr.json").exists()


def test_a_link_does_not_hide_the_input(tmp_path: Path) -> None:
    source = tmp_path / "in.zarr"
    zarr.create_group(source)
    (tmp_path / "link").symlink_to(source)
    with pytest.raises(OutputError, match="the input"):
        begin(tmp_path / "link", inputs=[source], overwrite=True)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"settings": {"a": 1}, "count": 4, "done": "YA="}',
        '{"settings": [1], "count": 4, "done": "YA=="}',
        '{"settings": {"a": 1}, "count": "four", "done": "YA=="}',
    ],
)
def test_a_damaged_journal_is_named(tmp_path: Path, text: str) -> None:
    begin(tmp_path / "a.zarr").close()
    (tmp_path / "a.zarr" / JOURNAL_NAME).write_text(text)
    with pytest.raises(OutputError, match=rf"{JOURNAL_NAME} .* is damaged"):
        begin(tmp_path / "a.zarr")


def test_a_lock_that_is_damaged_is_taken_over(tmp_path: Path) -> None:
    begin(tmp_path / "a.zarr").close()
    lock = tmp_path / "a.zarr" / LOCK_NAME
    lock.write_bytes(b"\0" * 5000)
    with begin(tmp_path / "a.zarr"):
        assert json.loads(lock.read_bytes())["pid"] == os.getpid()
    assert not lock.exists()


def test_the_journal_is_written_whole(tmp_path: Path) -> None:
    journal = Journal.open(str(tmp_path), {"a": 1}, 11)
    journal.mark(10)
    journal.flush()
    assert sorted(path.name for path in tmp_path.iterdir()) == [JOURNAL_NAME]
    assert json.loads((tmp_path / JOURNAL_NAME).read_text())["settings"] == {"a": 1}
    again = Journal.open(str(tmp_path), {"a": 1}, 11)
    assert again.done.nonzero()[0].tolist() == [10]
    Journal.forget(again.where)
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(OutputError, match=r"cannot create /proc/nowhere\.zarr"):
        begin(Path("/proc/nowhere.zarr"))


def test_a_full_disk_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = begin(tmp_path / "a.zarr")
    layout = output.images[0].layout

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(ProcessingError, match=r"cannot write level 0.*No space left.*incomplete"):
        layout.write_region(output.where, "", Window(0, 0, 32, 32), np.zeros((1, 32, 32), np.uint8))


def test_fingerprints_differ_with_any_setting() -> None:
    base = {"a": 1, "b": [1, 2]}
    assert fingerprint_of(base) == fingerprint_of({"b": [1, 2], "a": 1})
    assert fingerprint_of(base) != fingerprint_of({"a": 1, "b": [2, 1]})


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("http://127.0.0.1:9/x.zarr", "cannot (be reached|create).*: ClientConnectorError"),
        ("zip://x.zip", r"cannot be reached: IsADirectoryError"),
        ("github://a/b", r"cannot be reached: TypeError.*missing"),
        ("/tmp/a\0b", r"is no path that a store can have \(.*embedded null"),
        ("/tmp/" + "a" * 300, r"is no path that a store can have \(it is too long"),
        ("~nobody-of-this-name/a.zarr", r"is no path that a store can have \(.*home"),
    ],
)
def test_a_place_that_nothing_can_be_at(out: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        begin(out)  # type: ignore[arg-type]


def test_a_name_that_is_not_utf_8_is_refused_for_outputs_alone(tmp_path: Path) -> None:
    place = tmp_path / os.fsdecode(b"lat\xfc.tif")
    with pytest.raises(UsageError, match=r"lat.* is no path that a store can be made at"):
        begin(place)
    assert not list(tmp_path.iterdir())
    tifffile.imwrite(place, np.ones((2, 40, 50), np.uint8), metadata={"axes": "ZYX"})
    given = {"pixel_size_um": 1, "z_step_um": 1, "progress": False}
    sf.convert(place, tmp_path / "a.zarr", **given)  # type: ignore[arg-type]
    assert sf.open_stack(tmp_path / "a.zarr").shape == (1, 2, 40, 50)


def test_a_path_counts_from_no_folder_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(UsageError, match=r"'a\.zarr' is no path .*working directory.* is gone"):
        begin("a.zarr")  # type: ignore[arg-type]


def test_an_array_of_an_earlier_output_is_not_taken_for_this_one(tmp_path: Path) -> None:
    block = np.arange(1024, dtype=np.uint8).reshape(1, 32, 32)
    for damage in ("uint16", "uint8"):
        with begin(tmp_path / "a.zarr", overwrite=True) as output:
            metadata = tmp_path / "a.zarr/0/zarr.json"
            metadata.write_text(metadata.read_text().replace("uint8", damage))
            layout = output.images[0].layout
            layout.write_region(output.where, "", Window(0, 0, 32, 32), block)
    array = zarr.open_array(tmp_path / "a.zarr/0", mode="r")
    assert np.array_equal(array[:, :32, :32], block)


def test_what_is_left_of_a_deleted_run_is_told_and_left(tmp_path: Path) -> None:
    out = tmp_path / "a.zarr"
    output = begin(out)
    region = np.ones((1, 32, 32), np.uint8)
    output.images[0].layout.write_region(output.where, "", Window(0, 0, 32, 32), region)
    output.journal.mark(1)
    output.close()
    (out / "zarr.json").unlink()
    (out / "2024").mkdir()
    (out / "2024/photo.jpg").touch()
    with pytest.raises(OutputError, match=r"no Zarr store \(any more: .* delete it yourself"):
        begin(out)
    assert (out / "2024/photo.jpg").exists() and (out / "0").exists()


class Deleted(Planes):
    """Planes of which the third deletes what was written so far, as somebody else might."""

    def __init__(self, array: np.ndarray, z_um: tuple[float, ...], out: Path) -> None:
        super().__init__(array, z_um)
        self.out: Path | None = out

    def read(self, z: int, window: Any) -> np.ndarray:
        if self.out is not None and z == 2:
            for name in ("0", "zarr.json"):
                path = self.out / name
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            self.out = None
        return super().read(z, window)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_run_whose_output_was_deleted_is_repeated(
    tmp_path: Path, small_stack: np.ndarray, overwrite: bool
) -> None:
    out, z_um = tmp_path / "a.zarr", (0.0, 1.0, 2.0, 3.0, 4.0)
    planes = Deleted(small_stack, z_um, out)
    with (
        dask.config.set(num_workers=1),
        pytest.raises(ProcessingError, match="delete what is left of it, then run again"),
    ):
        sf.convert(planes, out, progress=False, shard_px=256)
    assert not (out / "zarr.json").exists()
    with pytest.raises(OutputError, match="delete it yourself"):
        sf.convert(planes, out, progress=False, shard_px=256, overwrite=overwrite)
    shutil.rmtree(out)
    sf.convert(planes, out, progress=False, shard_px=256, overwrite=overwrite)
    assert np.array_equal(sf.open_stack(out).values, small_stack)
    assert not sf.verify(out, progress=False)
