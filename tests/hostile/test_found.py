"""What broken input once did: each of these crashed, hung, or gave an output that looked whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
import zarr

import slidefusion as sf
from slidefusion.errors import (
    MemoryBudgetError,
    OptionError,
    ProcessingError,
    ReaderError,
    StackError,
)
from slidefusion.omezarr.plain_shards import has_plain_shards
from slidefusion.readers import open_reader
from slidefusion.verbs.info import describe

from . import seeds
from .broken_stores import break_store, copy_store
from .broken_tiffs import write_broken


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    seeds.make_stores(folder)
    seeds.make_tiffs(folder)
    return folder


NOTHING = "hold nothing|chunk sizes must be integers of at least 1"
"""Ours, and the warning of zarr from 3.4, which reads such an array as one without pixels."""


def broken(sound: Path, tmp_path: Path, *change: Any, seed: str = "stack") -> Path:
    store = copy_store(sound / seed, tmp_path / "in.zarr")
    break_store(store, [change])
    return store


IMAGE = ("attributes", "ome", "multiscales", 0)
SCALE = (*IMAGE, "datasets", 0, "coordinateTransformations", 0, "scale")


@pytest.mark.parametrize(
    ("file", "keys", "value", "says"),
    [
        ("0/zarr.json", ("shape",), [1, 3, 10**12, 10**12], "at most"),
        ("0/zarr.json", ("shape",), [1, 10**12, 80, 100], "planes"),
        ("0/zarr.json", ("fill_value",), 300, "is damaged"),
        ("0/zarr.json", ("node_type",), "group", "is damaged"),
        ("zarr.json", (*IMAGE, "datasets", 0, "path"), "../secret.zarr/0", "no place inside"),
        ("zarr.json", (*IMAGE, "datasets", 0, "path"), "file:///etc", "no place inside"),
        ("zarr.json", (*IMAGE, "datasets", 0, "path"), "", "no place inside"),
        ("zarr.json", (*IMAGE, "datasets"), [{"path": "0"}] * 10**5, "datasets"),
        ("zarr.json", SCALE, [1, float("nan"), 1, 1], "scale"),
        ("zarr.json", SCALE, [1, 1, -0.25, 0.25], "scale"),
        ("zarr.json", SCALE, [1, 1, 0, 0.25], "scale"),
        ("zarr.json", ("attributes", "slidefusion", "z_um"), [0, 2, 1], "must ascend"),
        ("zarr.json", ("attributes", "slidefusion", "reference"), "x", "is damaged"),
    ],
)
def test_metadata(sound: Path, tmp_path: Path, file: str, keys: Any, value: Any, says: str) -> None:
    store = broken(sound, tmp_path, "set", file, keys, value)
    for door in (sf.open_stack, describe, lambda given: sf.verify(given, progress=False)):
        try:
            door(store)
        except StackError as error:
            assert says in str(error)
        else:
            assert door is not sf.open_stack  # others need not look at what is wrong


def test_chunks_that_fit_into_no_memory(sound: Path, tmp_path: Path) -> None:
    change = ("set", "0/.zarray", ("chunks",), [1, 1, 1, 10**9, 10**9])
    store = broken(sound, tmp_path, *change, seed="ngff04")
    with pytest.raises(MemoryBudgetError, match="smaller chunks"):
        sf.open_stack(store)


@pytest.mark.parametrize(
    ("seed", "file", "keys", "value"),
    [
        ("ngff04", "0/.zarray", ("chunks",), [0] * 5),
        ("stack", "0/zarr.json", ("chunk_grid", "configuration", "chunk_shape"), [1, 1, 0, 64]),
    ],
)
def test_chunks_that_hold_nothing(
    sound: Path, tmp_path: Path, seed: str, file: str, keys: Any, value: Any
) -> None:
    store = broken(sound, tmp_path, "set", file, keys, value, seed=seed)
    for door in (sf.open_stack, open_reader):
        with pytest.raises(StackError, match=NOTHING):
            door(store)
    if seed == "stack":  # ours: what its metadata were is known
        assert [d.array for d in sf.verify(store, progress=False)] == ["0"]
    else:
        with pytest.raises(StackError, match=NOTHING):
            sf.verify(store, progress=False)


@pytest.mark.parametrize("size", [2**62, 2**63])
def test_an_index_that_lies_with_a_right_checksum(sound: Path, tmp_path: Path, size: int) -> None:
    store = copy_store(sound / "stack", tmp_path / "in.zarr")
    shard = store / "0/c/0/1/0/0"
    data = bytearray(shard.read_bytes())
    index = np.frombuffer(data[-4 - 64 : -4], "<u8").copy()
    index[1], index[0] = size, 2**63 if size == 2**63 else index[0]
    data[-4 - 64 :] = index.tobytes() + google_crc32c.value(index.tobytes()).to_bytes(4, "little")
    shard.write_bytes(data)
    with pytest.raises(ProcessingError, match="is cut off"):
        sf.open_stack(store).isel(z=1, y=slice(0, 40), x=slice(0, 40)).compute()


def test_shards_of_another_form_are_read_all_the_same(tmp_path: Path) -> None:
    planes = seeds.planes(1, 3, 80, 100)
    codec = zarr.codecs.ShardingCodec(chunk_shape=(1, 1, 16, 16), index_location="start")
    form: Any = {"chunks": (1, 1, 32, 32), "serializer": codec, "compressors": None}
    array = zarr.create_array(tmp_path / "a", shape=planes.shape, dtype="u1", **form)
    array[...] = planes
    assert not has_plain_shards(array.metadata)
    assert np.array_equal(sf.open_stack(array), planes)


@pytest.mark.parametrize("seed", ["ndpi", "ome.tif", "svs"])
def test_directories_in_a_circle(sound: Path, tmp_path: Path, seed: str) -> None:
    suffix = {"svs": ".svs", "ndpi": ".ndpi"}.get(seed, ".tif")
    path = write_broken(sound / seed, tmp_path / f"in{suffix}", [("next", 2, "first")])
    with pytest.raises(ReaderError, match="form a circle"):
        open_reader(path)


@pytest.mark.parametrize(
    ("seed", "text", "says"),
    [
        ("imagej.tif", '{"shape": [1000000000000, 80, 100]}', "truncated"),
        ("plain.tif", '{"shape": [3, 80, 100], "axes": "QQQ"}', "have no place"),
    ],
)
def test_a_description_of_something_else(
    sound: Path, tmp_path: Path, seed: str, text: str, says: str
) -> None:
    path = write_broken(sound / seed, tmp_path / "in.tif", [("describe", text)])
    with pytest.raises((ReaderError, StackError), match=says):
        open_reader(path)


@pytest.mark.parametrize(
    ("seed", "change"),
    [
        ("svs", ("count", 0, "TileLength", 0)),
        ("ome.tif", ("type", 0, "TileWidth", 2)),
        ("ome.tif", ("type", 0, "TileLength", 12)),
        ("ome.tif", ("type", 2, "BitsPerSample", 5)),
        ("ome.tif", ("count", 2, "SamplesPerPixel", 2)),
        ("ndpi", ("tag", 2, "SamplesPerPixel", 0)),
    ],
)
def test_tags_that_make_no_sense(sound: Path, tmp_path: Path, seed: str, change: Any) -> None:
    suffix = {"svs": ".svs", "ndpi": ".ndpi"}.get(seed, ".tif")
    path = write_broken(sound / seed, tmp_path / f"in{suffix}", [change])
    with pytest.raises(ReaderError, match=r"cannot be read as TIFF: .* damaged"):
        open_reader(path)


def test_a_shard_that_was_lost(sound: Path, tmp_path: Path) -> None:
    """It was taken for an empty one, and the slide was black there."""
    store = copy_store(sound / "stack", tmp_path / "in.zarr")
    (store / "0/c/0/1/0/0").unlink()
    with pytest.raises(ProcessingError, match="shard 0/c/0/1/0/0 is missing: copy it again"):
        sf.fuse(store, out=tmp_path / "o.zarr", progress=False)
    with pytest.raises(ProcessingError, match="shard 0/c/0/1/0/0 is missing: copy it again"):
        sf.fuse(store).compute()


def test_a_page_without_pixels(sound: Path, tmp_path: Path) -> None:
    change = ("tag", 0, "ImageWidth", 0)
    path = write_broken(sound / "big.tif", tmp_path / "in.tif", [change])
    with pytest.raises(ReaderError, match="without pixels"):
        open_reader(path)


def test_places_of_bytes_that_are_text(sound: Path, tmp_path: Path) -> None:
    change = ("type", 2, "TileByteCounts", 2)
    path = write_broken(sound / "ome.tif", tmp_path / "in.tif", [change])
    with pytest.raises(ReaderError, match="not say in numbers where the bytes of its plane 2 lie"):
        open_reader(path)


def test_ome_xml_that_reaches_out_of_its_folder(sound: Path, tmp_path: Path) -> None:
    seeds.make_secret(tmp_path)
    (tmp_path / "below").mkdir()
    path = write_broken(sound / "ome.tif", tmp_path / "below/in.tif", [("file", "../secret.tif")])
    with pytest.raises(ReaderError, match="outside of its folder"):
        open_reader(path)


def test_numbers_that_are_none(sound: Path, tmp_path: Path) -> None:
    text = "ImageJ=1.53\nimages=3\nslices=3\nunit=um\nspacing=nan\n"
    path = write_broken(sound / "imagej.tif", tmp_path / "in.tif", [("describe", text)])
    assert open_reader(path).z_um is None

    class Silly(type(open_reader(sound / "ome.tif"))):  # type: ignore[misc]
        pixel_size_um = property(lambda self: (float("nan"), 1.0), lambda self, value: None)

    with pytest.raises(OptionError, match="pixel_size_um"):
        sf.convert(Silly(str(sound / "ome.tif")), tmp_path / "o.zarr", progress=False)
    assert not (tmp_path / "o.zarr").exists()


def test_cases_are_what_they_seem(sound: Path, tmp_path: Path) -> None:
    store = broken(sound, tmp_path, "set", "0/zarr.json", ("shape", 3), 7)
    assert json.loads((store / "0/zarr.json").read_text())["shape"][3] == 7
