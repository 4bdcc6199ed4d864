from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr

import slidefusion as sf
from slidefusion.errors import OutputError
from slidefusion.omezarr.found_stores import stores_in
from slidefusion.omezarr.overlap import one_name, refuse_overlap
from slidefusion.readers import open_reader

from ..test_stack import Planes


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("s3://b/d/a.zarr", "s3a://b/d/a.zarr"),
        ("s3://b/d/a.zarr", "s3://b//d/a.zarr/"),
        ("s3://b/d/a.zarr", "s3://b/./d/x/../a.zarr"),
        ("s3://b/d/a.zarr", "simplecache::s3://b/d/a.zarr"),
        ("memory://b/a.zarr", "memory:///b/a.zarr"),
        ("https://me:secret@host/a.zarr?token=1", "https://host/a.zarr"),
        ("{tmp}/a b.zarr", "local://{tmp}/a b.zarr"),
        ("{tmp}/a b.zarr", "file://{tmp}/a%20b.zarr"),
        ("{tmp}/a b.zarr", "{tmp}/x/../a b.zarr"),
    ],
)
def test_one_place_has_one_name(tmp_path: Path, a: str, b: str) -> None:
    first, second = (text.format(tmp=tmp_path) for text in (a, b))
    assert one_name(first) == one_name(second)
    for where, given in ((first, second), (second, first)):
        with pytest.raises(OutputError, match=r" is the input "):
            refuse_overlap(where, [given])
    with pytest.raises(OutputError, match=r" lies inside the input s3a://b/a"):
        refuse_overlap("s3://b//a.zarr/x", ["s3a://b/a.zarr"])
    with pytest.raises(OutputError, match=r" contains the input s3a://b/a"):
        refuse_overlap("s3://b", ["s3a://b/a.zarr"])


def test_other_places_have_other_names(tmp_path: Path) -> None:
    names = [
        *("s3://a/b", "s3://a/bc", "s3://b/a/b", "memory://a/b", "https://a/b", "gs://a/b"),
        *("foo://a/b", f"{tmp_path}/a/b", "zip://b::s3://a"),
    ]
    assert len({one_name(name) for name in names}) == len(names) - 1  # the last is the first
    for name in names[1:-1]:
        refuse_overlap("s3://a/b", [name])


@pytest.fixture
def stack(tmp_path: Path, small_stack: np.ndarray) -> Path:
    out = tmp_path / "stack.zarr"
    sf.convert(Planes(small_stack[:, :, :64, :64], (0.0, 1.0, 2.0, 3.0, 4.0)), out, progress=False)
    return out


def everything(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("spelling", ["local://{}", "file://{}/x/..", "{}/../stack.zarr"])
def test_no_spelling_lets_the_input_be_deleted(stack: Path, spelling: str) -> None:
    before = everything(stack)
    for verb in (sf.convert, sf.fuse):
        with pytest.raises(OutputError, match=r" is the input "):
            verb(stack, out=spelling.format(stack), overwrite=True, progress=False)
    assert everything(stack) == before


def test_an_input_in_memory_is_not_deleted(small_stack: np.ndarray) -> None:
    sf.convert(
        Planes(small_stack[:, :3, :64, :64], (0.0, 1.0, 2.0)), "memory://ov/s.zarr", progress=False
    )
    with pytest.raises(OutputError, match=r" is the input "):
        sf.fuse("memory://ov/s.zarr", out="memory:///ov/s.zarr", overwrite=True, progress=False)
    assert sf.open_stack("memory://ov/s.zarr").values.any()


def plus(array: Any) -> da.Array:
    zeros = da.zeros(array.shape, dtype=np.uint8)
    return da.map_blocks(lambda block: block + array[:1, :1, :1, :1], zeros, dtype=np.uint8)


LAZY: dict[str, Callable[[Path], Any]] = {
    "a selection": lambda p: sf.open_stack(p).isel(c=[0]),
    "a calculation": lambda p: sf.open_stack(p) // 1,
    "its Dask array": lambda p: sf.open_stack(p).data,
    "a part of that": lambda p: sf.open_stack(p).data[:, 1:4],
    "of planes": lambda p: da.stack([sf.open_stack(p).data[:, k] for k in (0, 2)], axis=1),
    "from_zarr": lambda p: da.from_zarr(str(p), component="0"),
    "from_zarr of the array": lambda p: da.from_zarr(str(p / "0")),
    "a DataArray of it": lambda p: xr.DataArray(
        da.from_zarr(str(p), component="0"), dims=("c", "z", "y", "x")
    ),
    "from_array": lambda p: da.from_array(zarr.open_array(p / "0", mode="r")),
    "from_array, in line": lambda p: da.from_array(
        zarr.open_array(p / "0", mode="r"), inline_array=True
    ),
    "in a closure": lambda p: plus(zarr.open_array(p / "0", mode="r")),
    "xarray's": lambda p: xr.open_zarr(p, consolidated=False, chunks={})["0"],
    "a source": lambda p: open_reader(str(p)),
}


@pytest.mark.parametrize("kind", LAZY)
@pytest.mark.parametrize("place", ["{}", "{}/labels/x.zarr", "{}/.."])
def test_what_is_read_lazily_is_an_input(stack: Path, kind: str, place: str) -> None:
    if kind == "xarray's":  # which wants names of axes in the array itself
        for level in stack.glob("[0-9]"):
            array = zarr.open_array(level, mode="r+")
            array.attrs["_ARRAY_DIMENSIONS"] = list("czyx")
    before = everything(stack)
    lazy = LAZY[kind](stack)
    out = os.path.normpath(place.format(stack))
    for call in (
        lambda: sf.fuse(lazy, out=out, overwrite=True, progress=False, chunks=64),
        lambda: sf.plan_fuse(lazy, out=out, sample=1),
    ):
        with pytest.raises(OutputError, match=r"the output .* (is|contains|lies inside) the input"):
            call()
    assert everything(stack) == before


def test_what_is_made_of_memory_may_replace_a_store(stack: Path) -> None:
    loaded = sf.open_stack(stack).load()
    sf.fuse(loaded, out=stack, overwrite=True, progress=False)
    assert sf.open_slide(stack).values.any()


def test_a_store_in_a_plain_folder_is_no_part_of_its_neighbours(
    tmp_path: Path, small_stack: np.ndarray
) -> None:
    """``small_stack`` is read from data/a.zarr, and data is the store that zarr is given."""
    data = tmp_path / "data"
    group = zarr.open_group(str(data / "a.zarr"), mode="w")
    group.create_array("0", data=small_stack, chunks=(1, 1, 64, 64))
    inputs = [
        zarr.open_array(str(data), path="a.zarr/0", mode="r"),
        da.from_zarr(str(data), component="a.zarr/0"),
    ]
    for given in inputs:
        before = everything(data)
        for place in ("a.zarr", "a.zarr/0", "a.zarr/labels"):
            with pytest.raises(OutputError, match=r"is the input|lies inside the input"):
                sf.fuse(given, out=data / place, overwrite=True, progress=False)
        assert everything(data) == before
        sf.fuse(given, "lpp", out=data / "b.zarr", overwrite=True, progress=False)


def test_a_store_in_a_bucket_is_no_part_of_its_neighbours(small_stack: np.ndarray) -> None:
    zarr.create_array(
        zarr.storage.FsspecStore.from_url("memory://bucket16/a.zarr"), data=small_stack
    )
    given = da.from_zarr("memory://bucket16", component="a.zarr")
    with pytest.raises(OutputError, match="is the input"):
        sf.fuse(given, out="memory://bucket16/a.zarr", overwrite=True, progress=False)
    sf.fuse(given, "lpp", out="memory://bucket16/b.zarr", progress=False)


def test_a_source_with_odd_attributes_is_a_source(tmp_path: Path, small_stack: np.ndarray) -> None:
    class Odd:
        __slots__ = ("__hidden",)
        __module__ = None  # type: ignore[assignment]

        def __init__(self, hidden: Any) -> None:
            self.__hidden = hidden

        def __getattr__(self, name: str) -> Any:
            raise KeyError(name)

    where = str(tmp_path / "a.zarr")
    zarr.create_array(where, data=small_stack)
    assert stores_in([Odd(3), Odd(zarr.open_array(where, mode="r"))]) == [where]


def test_a_store_is_found_below_large_layers(tmp_path: Path) -> None:
    where = str(tmp_path / "a.zarr")
    zarr.create_array(where, shape=(600, 600), dtype="u1", chunks=(600, 600))
    many = da.from_zarr(where).rechunk((3, 3)).rechunk((4, 4))
    assert stores_in(many.dask) == [where]
