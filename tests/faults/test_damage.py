"""Damaged output is found and made anew; a deletion or a beginning that was cut off goes on."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.core.array import ShardsConfigParam

import slidefusion as sf
from slidefusion.cli import main
from slidefusion.errors import OptionError, OutputError, ProcessingError, StackError
from slidefusion.omezarr.journal import JOURNAL_NAME
from slidefusion.omezarr.place import delete_store

from .conftest import Files, assert_same, convert, files_of, fuse
from .workload import Brightest, Pattern, noted

SLIDE_SHARDS = ["0/c/0/1/2", "1/c/0/1/1", "2/c/0/0/0", "labels/depth/0/c/0/3/3"]


def flip(path: Path) -> None:
    """The lowest bit of one of the first pixels, or what the codec made of it."""
    data = bytearray(path.read_bytes())
    data[150] ^= 1
    path.write_bytes(bytes(data))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def remove(path: Path) -> None:
    path.unlink()


@pytest.fixture
def slide(stack: Path, tmp_path: Path) -> Path:
    fuse(stack, tmp_path / "slide.zarr")
    return tmp_path / "slide.zarr"


def test_what_is_whole_verifies(stack: Path, slide: Path, capsys: pytest.CaptureFixture) -> None:
    assert sf.verify(stack, progress=False) == []
    assert sf.verify(slide, progress=False) == []
    assert main(["verify", str(slide)]) == 0
    assert f"{slide}: whole" in capsys.readouterr().out


@pytest.mark.parametrize("harm", [cut, zero, empty, remove, flip])
@pytest.mark.parametrize("shard", SLIDE_SHARDS)
def test_damage_is_found_and_only_that_is_made_anew(
    stack: Path,
    slide: Path,
    tmp_path: Path,
    harm: Callable[[Path], None],
    shard: str,
    whole_slide: Callable[..., Files],
    capsys: pytest.CaptureFixture,
) -> None:
    before = files_of(slide)
    assert_same(slide, whole_slide(Brightest()))
    harm(slide / shard)
    array = shard.partition("/c/")[0]
    damages = sf.verify(slide, progress=False)
    assert array in {damage.array for damage in damages}
    assert main(["verify", str(slide)]) == 1
    assert str(damages[0]) in capsys.readouterr().out

    notes = tmp_path / "notes"
    source = Pattern(notes=str(notes))  # the same pixels, but another input: refused
    with pytest.raises(OutputError, match="made with other settings"):
        fuse(source, slide, verify=True)
    fuse(stack, slide, verify=True)
    assert files_of(slide) == before


@pytest.mark.parametrize("name", ["0/c/0/0/0", "1/c/0/0/0", "labels/depth/0/c/0/0/0"])
def test_every_flipped_bit_is_found_where_shards_reach_beyond_the_slide(
    tmp_path: Path, name: str
) -> None:
    rng = np.random.default_rng(5)
    stack = rng.integers(0, 256, (3, 2, 301, 413), dtype=np.uint8)
    sf.fuse(stack, Brightest(), out=tmp_path / "slide.zarr", progress=False)
    shard = tmp_path / "slide.zarr" / name
    right = shard.read_bytes()
    for bit in rng.integers(0, 8 * len(right), 40).tolist():
        wrong = bytearray(right)
        wrong[bit // 8] ^= 1 << bit % 8
        shard.write_bytes(wrong)
        assert sf.verify(tmp_path / "slide.zarr", progress=False), f"bit {bit} of {len(right)} B"


@pytest.mark.parametrize(
    "lost",
    [
        "labels",
        "labels/depth",
        "labels/depth/0",
        "labels/depth/zarr.json",
        "labels/zarr.json",
        "1",
        "0",
        "2",
    ],
)
def test_an_image_or_level_that_is_lost_as_a_whole_is_missed_and_made_anew(
    stack: Path, slide: Path, lost: str, capsys: pytest.CaptureFixture
) -> None:
    before = files_of(slide)
    path = slide / lost
    path.unlink() if path.is_file() else shutil.rmtree(path)
    if path.name == "zarr.json":
        damage, *_ = sf.verify(slide, progress=False)
        assert str(damage) == f"{lost.removesuffix('/zarr.json')}: is missing"
    else:
        damages = sf.verify(slide, progress=False)
        assert damages and all(str(d) == f"{d.array}: is missing" for d in damages)
        assert all(f"{d.array}/".startswith(f"{lost}/") for d in damages)
        assert main(["verify", str(slide)]) == 1
        assert f"{damages[0].array}: is missing" in capsys.readouterr().out
    fuse(stack, slide, verify=True)
    assert files_of(slide) == before


@pytest.mark.parametrize("lost", ["1/zarr.json", "labels/depth/zarr.json"])
@pytest.mark.parametrize("damage", [empty, cut])
def test_damaged_metadata_below_the_root_is_named_and_made_anew(
    stack: Path, slide: Path, lost: str, damage: Callable[[Path], None]
) -> None:
    before = files_of(slide)
    damage(slide / lost)
    found, *_ = sf.verify(slide, progress=False)
    assert str(found) == f"{lost.removesuffix('/zarr.json')}: has damaged metadata"
    fuse(stack, slide, verify=True)
    assert files_of(slide) == before


def say(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


OTHER = [
    ("0/zarr.json", "1024", "924"),
    ("labels/depth/1/zarr.json", "uint8", "int8"),
    ("2/zarr.json", '"typesize": 2', '"typesize": 1'),
    ("labels/depth/zarr.json", '"name": "c"', '"name": "z"'),
    ("labels/zarr.json", '"depth"', '"death"'),
    ("zarr.json", "0.25", "0.35"),
    ("zarr.json", '"fuser": "brightest"', '"fuser": "brightesu"'),
]


@pytest.mark.parametrize(("name", "old", "new"), OTHER)
def test_metadata_that_says_something_else_is_named_and_written_anew(
    stack: Path, slide: Path, name: str, old: str, new: str
) -> None:
    before = files_of(slide)
    say(slide / name, old, new)
    found, *_ = sf.verify(slide, progress=False)
    assert str(found).startswith(name.removesuffix("/zarr.json"))
    assert "than" in found.reason or "does not list depth" in found.reason
    fuse(stack, slide, verify=True)
    assert files_of(slide) == before


@pytest.mark.parametrize(("name", "old", "new"), OTHER[:-1])  # no version looks at its own record
def test_metadata_of_an_earlier_version_is_written_anew_as_well(
    stack: Path, slide: Path, name: str, old: str, new: str
) -> None:
    before = files_of(slide)
    root = json.loads(before["zarr.json"])
    del root["attributes"]["slidefusion-digests"]
    (slide / "zarr.json").write_text(json.dumps(root))
    assert sf.verify(slide, progress=False) == []
    say(slide / name, old, new)
    if "10" in old:  # the size, which the other levels tell
        assert "does not agree with level 1: it is" in str(sf.verify(slide, progress=False))
    fuse(stack, slide, verify=True)
    assert files_of(slide) == before


def test_metadata_in_each_others_place(slide: Path) -> None:
    root, label = slide / "zarr.json", slide / "labels/depth/zarr.json"
    texts = root.read_text(), label.read_text()
    label.write_text(texts[0])
    root.write_text(texts[1])
    with pytest.raises(StackError, match="labels/depth has the metadata of the whole store"):
        sf.verify(slide, progress=False)


def test_what_others_write_beside_ours_is_no_damage(stack: Path, slide: Path) -> None:
    zarr.open_group(slide, mode="r+").attrs["seen-by"] = "A. Reader"
    with pytest.warns(UserWarning, match="Consolidated metadata"):
        zarr.consolidate_metadata(slide)
    before = files_of(slide)
    assert sf.verify(slide, progress=False) == []
    fuse(stack, slide, verify=True)
    assert files_of(slide) == before


@pytest.mark.parametrize(("old", "new"), [("uint8", "int8"), ("1024", "512"), ("}", "")])
def test_an_interrupted_run_does_not_go_on_into_another_array(
    tmp_path: Path, whole_stack: Files, old: str, new: str
) -> None:
    out = tmp_path / "stack.zarr"
    failing = Pattern(failing=((768, 768),), times=99, kind="bug", notes=str(tmp_path / "n"))
    with pytest.raises(ProcessingError):
        convert(out, failing)
    say(out / "0" / "zarr.json", old, new)
    convert(out, Pattern())
    assert_same(out, whole_stack)


def test_what_others_add_is_no_damage_and_stays(stack: Path, slide: Path) -> None:
    """Labels of their own, and other windows; damage to ours is found beside them."""
    group = zarr.open_group(slide, mode="r+")
    labels = group["labels"]
    labels.create_group("cells")
    labels.attrs["ome"] = {**labels.attrs["ome"], "labels": ["depth", "cells"]}
    ome = dict(group.attrs["ome"])
    ome["omero"]["channels"][0]["window"]["end"] = 200
    group.attrs["ome"] = ome
    before = files_of(slide)
    assert sf.verify(slide, progress=False) == []
    fuse(stack, slide, verify=True)
    assert files_of(slide) == before
    flip(slide / "labels/depth/0/c/0/3/3")
    assert [damage.array for damage in sf.verify(slide, progress=False)] == ["labels/depth/0"]
    fuse(stack, slide, verify=True)
    assert zarr.open_group(slide)["labels"].attrs["ome"]["labels"] == ["depth", "cells"]
    labels.attrs["ome"] = {**labels.attrs["ome"], "labels": ["cells"]}
    assert "labels: does not list depth" in map(str, sf.verify(slide, progress=False))


def test_a_copy_of_ours_without_shards_is_checked_as_it_is(slide: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.zarr"
    shutil.copytree(slide, copy)
    for level in ("0", "1", "2"):
        data = zarr.open_array(slide / level)[...]
        zarr.create_array(copy / level, data=data, chunks=(3, 64, 64), overwrite=True)
    assert not [d for d in sf.verify(copy, progress=False) if "metadata" not in d.reason]


def test_only_damaged_regions_are_read_again(tmp_path: Path, whole_stack: Files) -> None:
    out, notes = tmp_path / "stack.zarr", tmp_path / "notes"
    convert(out, Pattern())
    cut(out / "0" / "c" / "0" / "0" / "2" / "1")
    remove(out / "1" / "c" / "0" / "0" / "0" / "0")
    convert(out, Pattern(notes=str(notes)), verify=True)
    assert {p.name for p in notes.iterdir()} == {"read-512-256", "read-0-0"}
    assert_same(out, whole_stack)


def test_verify_of_a_new_output_reads_it_once(tmp_path: Path, whole_stack: Files) -> None:
    report = tmp_path / "report.json"
    convert(tmp_path / "stack.zarr", Pattern(), verify=True, report=report)
    assert_same(tmp_path / "stack.zarr", whole_stack)
    assert json.loads(report.read_text())["verified"]


def test_verify_of_what_is_whole_reports_that(tmp_path: Path, whole_stack: Files) -> None:
    report = tmp_path / "report.json"
    convert(tmp_path / "stack.zarr", Pattern())
    convert(tmp_path / "stack.zarr", Pattern(), verify=True, report=report)
    told = json.loads(report.read_text())
    assert told["verified"] and told["state"] == "complete"


def test_a_disk_that_damages_everything_ends_in_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from slidefusion.omezarr import shards

    real = shards.write_whole_shards

    def spoil(where: str, name: str, *rest: object) -> None:
        real(where, name, *rest)
        for path in Path(where, name, "c").rglob("*"):
            if path.is_file():
                cut(path)

    monkeypatch.setattr("slidefusion.omezarr.pyramid.write_whole_shards", spoil)
    out = tmp_path / "stack.zarr"
    with pytest.raises(ProcessingError, match="damaged again each time"):
        convert(out, Pattern(512, 512), verify=True)
    with pytest.raises(StackError, match="incomplete"):
        sf.verify(out)


@pytest.mark.parametrize("name", ["0/c/0/0/0/0", "1/zarr.json"])
@pytest.mark.parametrize("finished", [True, False])
def test_what_may_not_be_read_is_no_damage(
    tmp_path: Path, name: str, finished: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "stack.zarr"
    failing = ((768, 768),) if not finished else ()
    with contextlib.suppress(ProcessingError):
        convert(out, Pattern(failing=failing, times=99, kind="bug", notes=str(tmp_path / "n")))
    locked, real, before = out / name, Path.open, files_of(out)

    def denying(path: Path, *args: Any, **more: Any) -> Any:
        if path == locked:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", denying)  # root may read all that is there
        with pytest.raises(ProcessingError, match="Permission denied"):
            convert(out, Pattern(), verify=True)
        if finished:
            with pytest.raises(ProcessingError, match="Permission denied"):
                sf.verify(out, progress=False)
    assert files_of(out) == before


@pytest.mark.parametrize("shard", SLIDE_SHARDS)
def test_a_folder_in_place_of_a_shard_is_damage(stack: Path, slide: Path, shard: str) -> None:
    before = files_of(slide)
    (slide / shard).unlink()
    (slide / shard / "lost+found").mkdir(parents=True)
    assert "Is a directory" in str(sf.verify(slide, progress=False)[0])
    fuse(stack, slide, verify=True)
    assert files_of(slide) == before


def test_a_region_noted_as_done_is_not_trusted_without_its_shards(
    tmp_path: Path, whole_stack: Files
) -> None:
    out, again = tmp_path / "stack.zarr", tmp_path / "again"
    failing = Pattern(failing=((768, 768),), times=99, kind="bug", notes=str(tmp_path / "n"))
    with pytest.raises(ProcessingError):
        convert(out, failing)
    cut(out / "0" / "c" / "0" / "0" / "1" / "1")
    empty(out / "1" / "c" / "0" / "0" / "0" / "1")
    remove(out / "0" / "c" / "0" / "0" / "3" / "0")
    convert(out, Pattern(notes=str(again)))
    redone = {"read-256-256", "read-0-512", "read-768-0", "read-768-768"}
    # Level 1 has shards of 128 px: that of row 0, column 1 belongs to the region at x 256.
    assert {p.name for p in again.iterdir()} - {"read-0-256"} <= redone
    assert len(noted(again, "read-256-256")) == 1
    assert_same(out, whole_stack)


def test_an_interrupted_run_is_repaired_whose_upper_levels_cannot_be_made(
    tmp_path: Path, whole_stack: Files
) -> None:
    out = tmp_path / "stack.zarr"
    failing = Pattern(failing=((768, 768),), times=99, kind="bug", notes=str(tmp_path / "n"))
    with pytest.raises(ProcessingError):
        convert(out, failing)
    flip(out / "1" / "c" / "0" / "0" / "0" / "1")  # the last level that regions write
    with pytest.raises(ProcessingError, match=r"cannot read level 1 .* run again with verify=True"):
        convert(out, Pattern())
    convert(out, Pattern(), verify=True)
    assert_same(out, whole_stack)


def test_zeros_are_written_so_that_a_lost_shard_differs_from_them(tmp_path: Path) -> None:
    stack = np.zeros((1, 2, 512, 512), np.uint8)
    out = tmp_path / "slide.zarr"
    slide = sf.fuse(stack, Brightest(), out=out, chunks=256, progress=False)
    assert not slide.values.any()
    assert len([name for name in files_of(out) if name.startswith("0/c/")]) == 4
    assert sf.verify(out, progress=False) == []
    remove(out / "0" / "c" / "0" / "1" / "1")
    assert "is missing" in str(sf.verify(out, progress=False)[0])


def test_a_stack_of_another_maker_is_decoded_but_not_compared(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    array = group.create_array("0", shape=(1, 2, 64, 64), chunks=(1, 1, 64, 64), dtype="uint8")
    array[...] = 7
    axes = [{"name": "c", "type": "channel"}]
    axes += [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    scale = [{"type": "scale", "scale": [1, 1, 1, 1]}]
    image = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [image]}
    assert sf.verify(tmp_path / "a.zarr", progress=False) == []
    chunk = next(p for p in (tmp_path / "a.zarr" / "0" / "c").rglob("*") if p.is_file())
    cut(chunk)
    assert "cannot be decoded" in str(sf.verify(tmp_path / "a.zarr", progress=False)[0])


@pytest.mark.parametrize("keys", [{}, {"name": "v2"}, {"name": "default", "separator": "."}])
@pytest.mark.parametrize("place", ["start", "end"])
def test_shards_of_another_maker_may_be_named_and_laid_out_otherwise(
    tmp_path: Path, keys: dict[str, str], place: Any
) -> None:
    """One that holds nothing but the fill value is not there at all."""
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    array = group.create_array(
        "0",
        shape=(1, 2, 64, 64),
        chunks=(1, 1, 16, 16),
        shards=ShardsConfigParam(shape=(1, 1, 32, 32), index_location=place),
        dtype="uint8",
        chunk_key_encoding=keys or None,  # type: ignore[arg-type]
    )
    array[...] = np.broadcast_to(np.arange(64, dtype=np.uint8), array.shape)
    array[:, 0, :32, :32] = 0
    axes = [{"name": "c", "type": "channel"}]
    axes += [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    scale = [{"type": "scale", "scale": [1, 1, 1, 1]}]
    image = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [image]}
    assert sf.verify(tmp_path / "a.zarr", progress=False) == []
    shard = max((tmp_path / "a.zarr" / "0").rglob("*[0-9]"), key=lambda p: p.is_file())
    cut(shard)
    assert sf.verify(tmp_path / "a.zarr", progress=False)


@pytest.mark.parametrize("left", [[], ["0"], ["1", "zarr.json.x.partial"]])
def test_a_deletion_that_was_cut_off_is_completed(
    tmp_path: Path, whole_stack: Files, left: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "stack.zarr"
    convert(out, Pattern(512, 512, 3))

    def killed(path: Path, **_: object) -> None:
        if Path(path).name not in left:
            real(path)
        else:
            raise KeyboardInterrupt

    real = shutil.rmtree
    monkeypatch.setattr(shutil, "rmtree", killed)
    try:
        delete_store(str(out))
    except KeyboardInterrupt:
        assert (out / "zarr.json").exists()
    monkeypatch.setattr(shutil, "rmtree", real)
    (out / "zarr.json.x.partial").write_text("{") if out.exists() else None
    convert(out, Pattern())
    assert_same(out, whole_stack)


def test_a_run_killed_before_its_first_file_leaves_no_obstacle(
    tmp_path: Path, whole_stack: Files
) -> None:
    out = tmp_path / "stack.zarr"
    out.mkdir()
    (out / "zarr.0123.partial").write_text("{")
    convert(out, Pattern())
    assert_same(out, whole_stack)


def test_a_run_killed_after_its_last_write_is_tidied(tmp_path: Path, whole_stack: Files) -> None:
    out = tmp_path / "stack.zarr"
    convert(out, Pattern())
    (out / JOURNAL_NAME).write_text("{}")
    with pytest.raises(OutputError, match="already complete"):
        convert(out, Pattern())
    assert_same(out, whole_stack)


def test_verify_needs_something_to_verify(stack: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="give out="):
        sf.fuse(stack, Brightest(), verify=True)
    precious = tmp_path / "precious.json"
    precious.write_text('{"output": 1}')
    for report, why in (
        (tmp_path / "missing" / "r.json", "there is no folder"),
        (stack / "zarr.json", "exists and is no report"),
        (precious, "exists and is no report"),
    ):
        before = report.read_bytes() if report.exists() else b""
        with pytest.raises(OptionError, match=why):
            fuse(stack, tmp_path / "o.zarr", report=report)
        assert (report.read_bytes() if report.exists() else b"") == before
    assert not (tmp_path / "o.zarr").exists()
