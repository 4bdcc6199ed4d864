from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import dask.bag as db
import numpy as np
import pytest
import xarray as xr
import zarr

import slidefusion as sf
from slidefusion.errors import OptionError, ProcessingError, StackError, UnknownNameError
from slidefusion.geometry import Size
from slidefusion.overview import SlideOverview
from slidefusion.stack import plane_indices
from slidefusion.stack_inputs import as_stack


class Planes:
    """An array (C, Z, Y, X) that converts as a reader does."""

    name = "test"
    tile = Size(64, 64)
    is_rgb = True
    pixel_size_um = (0.5, 0.25)
    channel_names = ("red", "green", "blue")
    provenance: dict[str, Any] = {"source": "a test"}  # noqa: RUF012

    def __init__(self, array: np.ndarray, z_um: tuple[float, ...]) -> None:
        self.array, self.z_um = array, z_um
        self.shape, self.dtype = array.shape, array.dtype

    def read(self, z: int, window: Any) -> np.ndarray:
        return self.array[(slice(None), z, *window.slices)]

    def close(self) -> None:
        pass


@pytest.fixture
def store(tmp_path: Path, small_stack: np.ndarray) -> Path:
    """The small stack as an OME-Zarr with unequal planes."""
    out = tmp_path / "stack.zarr"
    sf.convert(Planes(small_stack, (-4.0, -2.0, 0.0, 3.0, 8.0)), out, progress=False)
    return out


def test_open_stack_has_physical_coordinates(store: Path, small_stack: np.ndarray) -> None:
    stack = sf.open_stack(store)
    assert stack.dims == ("c", "z", "y", "x")
    assert stack.shape == small_stack.shape and stack.dtype == np.uint8
    assert stack.z.values.tolist() == [-4.0, -2.0, 0.0, 3.0, 8.0]
    assert stack.focus_offset.values.tolist() == [-2, -1, 0, 1, 2]
    assert (float(stack.y[3]), float(stack.x[3])) == (1.5, 0.75)
    assert stack.y.attrs["units"] == "micrometer"
    assert stack.c.values.tolist() == ["red", "green", "blue"]
    assert "provenance" in stack.attrs["slidefusion"] or stack.attrs["slidefusion"]
    assert np.array_equal(stack.values, small_stack)


@pytest.mark.parametrize(
    "index",
    [
        (slice(None), 2, slice(10, 50), slice(0, 419, 7)),
        (1, slice(None, None, 2), slice(300, 100, -3), 5),
        (slice(0, 0), slice(1, 3), 4, slice(None)),
        ([0, 2], [4, 1], slice(5, 6), slice(400, 419)),
    ],
)
def test_slicing_is_that_of_numpy(store: Path, small_stack: np.ndarray, index: Any) -> None:
    stack = sf.open_stack(store)
    expected = xr.DataArray(small_stack, dims=stack.dims)[index]
    assert np.array_equal(stack[index].values, expected.values)


def test_any_zarr_is_a_stack(store: Path, small_stack: np.ndarray, tmp_path: Path) -> None:
    group = zarr.open_group(store, mode="r")
    loose = zarr.create_array(tmp_path / "loose.zarr", data=small_stack)
    memory = zarr.create_array(zarr.storage.MemoryStore(), data=small_stack[0])
    nested = zarr.create_group(tmp_path / "nested.zarr")
    nested.create_array("deep/zxy", data=small_stack[0].transpose(0, 2, 1), dimension_names="zxy")
    for given, expected in [
        (group, small_stack),
        (group["0"], small_stack),
        (loose, small_stack),
        (memory, small_stack[:1]),
        (nested["deep/zxy"], small_stack[:1]),
    ]:
        found = sf.open_stack(given)
        assert found.shape == expected.shape
        assert np.array_equal(found.values, expected)


def test_an_ome_zarr_0_4_of_other_axes_is_a_stack(tmp_path: Path, small_stack: np.ndarray) -> None:
    group = zarr.open_group(tmp_path / "old.zarr", mode="w", zarr_format=2)
    data = small_stack.transpose(1, 0, 2, 3)[np.newaxis].astype(">u2")  # t z c y x, big-endian
    group.create_array("s0", data=data, chunks=(1, 1, 1, 100, 100))
    group.attrs["multiscales"] = [
        {
            "version": "0.4",
            "axes": [
                {"name": "t", "type": "time"},
                {"name": "z", "type": "space", "unit": "micrometer"},
                {"name": "c", "type": "channel"},
                {"name": "y", "type": "space", "unit": "micrometer"},
                {"name": "x", "type": "space", "unit": "micrometer"},
            ],
            "datasets": [
                {
                    "path": "s0",
                    "coordinateTransformations": [{"type": "scale", "scale": [1, 2, 1, 0.3, 0.3]}],
                }
            ],
        }
    ]
    stack = sf.open_stack(tmp_path / "old.zarr")
    assert stack.dims == ("c", "z", "y", "x") and stack.dtype == np.dtype("u2")
    assert stack.z.values.tolist() == [0, 2, 4, 6, 8]
    assert np.array_equal(stack.values, small_stack)


def test_an_opened_stack_is_read_from_its_store_directly(store: Path) -> None:
    opened = sf.open_stack(store)
    assert as_stack(opened).store == str(store)
    assert as_stack(opened.data).store == str(store)
    changed = as_stack(opened + 1)
    assert changed.store is None and changed.lazy is not None
    # What xarray knows is kept even so.
    assert changed.pixel_size_um == (0.5, 0.25)
    assert as_stack(opened.isel(z=[3, 1])).offsets == (1, -1)


def test_a_stack_is_known_however_often_its_store_is_opened(store: Path) -> None:
    opened = sf.open_stack(store)
    sf.open_stack(store).sizes  # noqa: B018 (made and dropped)
    kept = (opened.persist(), dask.optimize(opened)[0])
    for same in (opened, opened.copy(), opened.drop_encoding(), opened.data, *kept):
        assert as_stack(same).store == str(store)


def test_levels_with_fewer_planes_are_not_looked_at(tmp_path: Path) -> None:
    """A pyramid that halves z as well: its planes are others, or none."""
    rng = np.random.default_rng(0)
    planes = rng.integers(0, 255, (3, 6, 64, 64), np.uint8) // 6 + 40 * np.arange(6)[:, None, None]
    group = zarr.open_group(tmp_path / "z.zarr", mode="w")
    for level, step in enumerate((1, 2, 4)):
        group.create_array(f"{level}", data=planes[:, ::step, ::step, ::step].astype(np.uint8))
    axes = [{"name": "c", "type": "channel"}, *({"name": n, "type": "space"} for n in "zyx")]
    datasets = [
        {
            "path": f"{level}",
            "coordinateTransformations": [{"type": "scale", "scale": [1, step, step, step]}],
        }
        for level, step in enumerate((1, 2, 4))
    ]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    stack = as_stack(tmp_path / "z.zarr")
    assert [level.shape for level in stack.levels] == [(3, 6, 64, 64)]
    seen = SlideOverview(stack, [0, 5]).thumbnail
    assert (seen[0] < 43).all() and (seen[1] >= 200).all()
    assert sf.plan_fuse(tmp_path / "z.zarr", "lpp").regions == 1


def test_a_source_is_known_by_what_it_holds(small_stack: np.ndarray) -> None:
    """Without a provenance; a run on one must not go on with the pixels of another."""
    first, second = (Planes(array, (-4, -2, 0, 3, 8)) for array in (small_stack, 255 - small_stack))
    first.provenance = second.provenance = {}
    known = as_stack(first).identity
    assert as_stack(first).identity == known != as_stack(second).identity
    first.lock = threading.Lock()  # type: ignore[attr-defined]
    assert as_stack(first).identity == {"source": "Planes"}  # the same in any process


@pytest.mark.parametrize("kind", ["delayed", "bag"])
def test_other_collections_of_dask_are_no_stacks(kind: str) -> None:
    given = dask.delayed(np.zeros)((1, 3, 8, 8)) if kind == "delayed" else db.from_sequence([1])
    with pytest.raises(StackError, match=r"a Dask .* is no focus stack"):
        as_stack(given)


def test_what_is_assigned_to_an_opened_stack_counts(store: Path, tmp_path: Path) -> None:
    um = {"units": "micrometer"}
    opened = sf.open_stack(store)
    y, x = (np.arange(opened.sizes[axis]) for axis in "yx")
    changed = opened.assign_coords(
        z=("z", 3.0 * np.arange(5), um), y=("y", 0.2 * y, um), x=("x", 0.3 * x, um)
    )
    found = as_stack(changed)
    assert (found.store, found.pixel_size_um) == (str(store), (0.2, pytest.approx(0.3)))
    assert found.z_um == (0.0, 3.0, 6.0, 9.0, 12.0)
    one = as_stack(opened.assign_coords(focus_offset=("z", np.arange(5))))
    assert one.offsets == (0, 1, 2, 3, 4)
    slide = sf.fuse(changed, "lpp", out=tmp_path / "slide.zarr", progress=False)
    assert float(slide.y[1]) == pytest.approx(0.2)


@pytest.mark.parametrize("pixels", [slice(None, None, -1), [0, 1, 5, 9]])
def test_pixels_that_do_not_lie_side_by_side(store: Path, pixels: Any) -> None:
    with pytest.raises(StackError, match="'x' does not rise in equal steps"):
        as_stack(sf.open_stack(store).isel(x=pixels))


@pytest.mark.parametrize("offsets", [[0, 0, 1, 2, 3], [-1, -0.5, 0, 0.5, 1], list("abcde")])
def test_focus_offsets_are_whole_numbers_of_their_own(store: Path, offsets: list[Any]) -> None:
    opened = sf.open_stack(store)
    good = opened.assign_coords(focus_offset=("z", np.arange(5.0) - 1))
    assert as_stack(good).offsets == (-1, 0, 1, 2, 3)
    with pytest.raises(StackError, match="a whole number of its own"):
        as_stack(opened.assign_coords(focus_offset=("z", offsets)))


@pytest.mark.parametrize(("unit", "um"), [("um", 1), ("µm", 1), ("nanometer", 1e-3), ("mm", 1e3)])
def test_coordinates_count_in_any_unit_of_length(unit: str, um: float) -> None:
    units = {"units": unit}
    places = {"y": np.arange(6) * 0.5 + 3, "x": np.arange(7) * 0.25, "z": [-2.0, 0.0, 5.0]}
    array = xr.DataArray(
        np.zeros((3, 6, 7), np.uint8),
        dims=("z", "y", "x"),
        coords={axis: (axis, values, units) for axis, values in places.items()},
    )
    stack = as_stack(array)
    assert stack.pixel_size_um == pytest.approx((0.5 * um, 0.25 * um))
    assert stack.origin == pytest.approx((3 * um, 0))
    assert stack.z_um == pytest.approx((-2 * um, 0, 5 * um))
    assert as_stack(array.assign_coords(y=array.y.assign_attrs(units="row"))).pixel_size_um is None
    with pytest.raises(StackError, match=r"'z' is .*nan.*: give each plane a position"):
        as_stack(array.assign_coords(z=("z", [0.0, np.nan, 1.0], units)))
    with pytest.raises(StackError, match="'y' does not rise in equal steps"):
        as_stack(array.assign_coords(y=("y", [0.0, 1, np.nan, 3, 4, 5], units)))


def test_masked_values_are_refused() -> None:
    array = np.ma.masked_equal(np.arange(24, dtype=np.uint8).reshape(1, 2, 3, 4), 7)
    with pytest.raises(StackError, match=r"1 values of the array are masked.*\.filled\(0\)"):
        as_stack(array)
    whole = as_stack(np.ma.array(array.data))
    assert type(whole.source.array) is np.ndarray


def test_a_stack_is_no_slide(store: Path) -> None:
    with pytest.raises(StackError, match="a focus stack of 5 planes, not a slide"):
        sf.open_slide(store)


def test_unnamed_axes_and_missing_channel() -> None:
    array = np.zeros((3, 2, 5, 6), np.float32)
    assert as_stack(array).channel_names == ("red", "green", "blue")
    named = xr.DataArray(np.zeros((6, 2, 5), np.uint16), dims=("x", "z", "y"))
    assert as_stack(named).shape == (1, 2, 5, 6)
    assert as_stack(da.zeros((1, 4, 5, 6), dtype="u1")).offsets == (-2, -1, 0, 1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((2, 3, 4), np.uint8), r"has 3 axes \(2, 3, 4\).* add the missing ones"),
        (np.zeros((1, 1, 2, 3, 4), np.uint8), r"has 5 axes .* choose one time"),
        (np.zeros((1, 0, 4, 4), np.uint8), "is empty"),
        (np.zeros((1, 2, 4, 4), np.float64), "dtype float64; allowed are uint8, uint16, float32"),
        (da.zeros((1, 2, 4, 4), dtype="i8"), "dtype int64"),
        (xr.DataArray(np.zeros((2, 3), np.uint8), dims=("y", "x")), r"has dims \('y', 'x'\)"),
        (xr.Dataset(), "Dataset is no focus stack"),
        (42, "int is no focus stack"),
        (None, "NoneType is no focus stack"),
    ],
)
def test_what_is_no_stack_is_refused(given: Any, message: str) -> None:
    with pytest.raises(StackError, match=message):
        as_stack(given)


def test_a_file_url_is_a_path(store: Path, small_stack: np.ndarray) -> None:
    spaced = store.rename(store.with_name("a stack 50%.zarr"))
    assert np.array_equal(sf.open_stack(spaced.as_uri()).values, small_stack)
    assert "%20" in spaced.as_uri()


def test_paths_that_hold_no_stack(tmp_path: Path, store: Path) -> None:
    with pytest.raises(UnknownNameError, match="there is nothing at"):
        sf.open_stack(tmp_path / "nowhere.zarr")
    for nothing in ([1], 7):
        with pytest.raises(StackError, match="is no store: give its path or URL"):
            sf.open_stack(nothing)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="no store of the kind 'htps'; did you mean 'https'"):
        sf.open_stack("htps://host/stack.zarr")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StackError, match="without Zarr metadata"):
        sf.open_stack(tmp_path / "folder")
    (tmp_path / "file.tif").write_bytes(b"II*\0")
    with pytest.raises(StackError, match="is a file, not a Zarr store"):
        sf.open_stack(tmp_path / "file.tif")
    with pytest.raises(StackError, match="is a Zarr array: give the group around it"):
        sf.open_stack(store / "0")
    zarr.create_array(tmp_path / "v2.zarr", data=np.zeros((2, 3)), zarr_format=2)
    with pytest.raises(StackError, match="is a Zarr array: give the group around it"):
        sf.open_stack(tmp_path / "v2.zarr")
    zarr.create_group(tmp_path / "plain.zarr")
    with pytest.raises(StackError, match="is no OME-Zarr image"):
        sf.open_stack(tmp_path / "plain.zarr")


def test_damaged_stores_are_named(store: Path) -> None:
    root = store / "zarr.json"
    text = root.read_text()
    attributes = json.loads(text)
    attributes["attributes"]["ome"]["multiscales"][0]["datasets"][0]["path"] = "7"
    root.write_text(json.dumps(attributes))
    with pytest.raises(StackError, match="lacks the array '7'"):
        sf.open_stack(store)
    root.write_text(text[: len(text) // 2])
    with pytest.raises(StackError, match=r"metadata of .* is damaged"):
        sf.open_stack(store)


def test_an_incomplete_stack_is_refused(store: Path) -> None:
    group = zarr.open_group(store, mode="r+")
    group.attrs["slidefusion"] = {**dict(group.attrs)["slidefusion"], "complete": False}
    with pytest.raises(StackError, match="is incomplete"):
        sf.open_stack(store)


def test_a_part_of_a_store_of_ours_is_as_whole_as_the_store(store: Path, tmp_path: Path) -> None:
    slide = tmp_path / "slide.zarr"
    sf.fuse(store, out=slide, progress=False)
    zarr.open_group(tmp_path / "study", mode="w")  # of somebody else, around
    held = slide.rename(tmp_path / "study" / "slide.zarr")
    for part in ("labels/depth", "confidence"):
        sf.open_slide(held / part).compute()
        next(path for path in (held / part / "0" / "c").rglob("*") if path.is_file()).unlink()
        with pytest.raises(ProcessingError, match="missing"):
            sf.open_slide(held / part).compute()
    level = zarr.open_group(store, mode="r")["0"]
    next(path for path in (store / "0" / "c" / "0" / "0").rglob("*") if path.is_file()).unlink()
    with pytest.raises(ProcessingError, match="missing"):
        sf.fuse(level, planes=[-2]).compute()
    for place in (store, held):
        group = zarr.open_group(place, mode="r+")
        group.attrs["slidefusion"] = {**dict(group.attrs)["slidefusion"], "complete": False}
    for given in (level, str(held / "confidence")):
        with pytest.raises(StackError, match="is incomplete"):
            (sf.open_slide if isinstance(given, str) else sf.open_stack)(given)


def test_planes_are_chosen_by_focus_offset() -> None:
    stack = as_stack(np.zeros((1, 5, 4, 4), np.uint8))
    assert plane_indices(stack, None) == (0, 1, 2, 3, 4)
    assert plane_indices(stack, [1, -2]) == (3, 0)
    with pytest.raises(UnknownNameError, match="no plane at focus offset 3, 9; it has -2 to 2"):
        plane_indices(stack, [0, 3, 9])
    for wrong in ([], [1, 1]):
        with pytest.raises(StackError, match="at least one focus offset, and none twice"):
            plane_indices(stack, wrong)
    for what in (0, "0", [0.5], [None], [True, False], {0, 1}):
        with pytest.raises(StackError, match="a list of whole numbers"):
            plane_indices(stack, what)  # type: ignore[arg-type]
    assert plane_indices(stack, np.array([0, 1])) == (2, 3)


def test_a_foreign_store_that_changed_is_another_input(
    tmp_path: Path, small_stack: np.ndarray
) -> None:
    """Of what was interrupted with the old pixels, nothing is continued with the new ones."""

    def write(data: np.ndarray) -> str:
        array = zarr.create_array(
            tmp_path / "in.zarr", data=data, chunks=(3, 1, 64, 64), compressors=None, overwrite=True
        )
        return str(array.store.root)

    def settings(where: str) -> dict[str, Any]:
        return as_stack(zarr.open_array(where, mode="r")).identity

    before = settings(write(small_stack))
    assert settings(str(tmp_path / "in.zarr")) == before
    after = settings(write(255 - small_stack))
    assert {key for key in before if before[key] != after[key]} == {"files"}
    chunk = tmp_path / "in.zarr/c/0/1/0/0"
    chunk.write_bytes(chunk.read_bytes()[::-1])
    assert settings(str(tmp_path / "in.zarr")) != after


def test_the_files_of_a_store_of_ours_are_not_looked_at(store: Path) -> None:
    identity = as_stack(store).identity
    assert identity["run"] and "files" not in identity


@pytest.mark.parametrize(
    ("shape", "names", "expected"),
    [
        ((1, 2, 3, 8, 9), "tczyx", (2, 3, 8, 9)),
        ((1, 3, 8, 9), "tzyx", (1, 3, 8, 9)),
        ((3, 9, 8, 2), "zxyc", (2, 3, 8, 9)),
        ((3, 2, 8, 9), "ZCYX", (2, 3, 8, 9)),
        ((3, 8, 9), None, (1, 3, 8, 9)),
        ((2, 2, 3, 8, 9), "tczyx", "2 time points"),
        ((1, 3, 8, 9), ("time", "z", "y", "x"), r"has axes \('time', 'z', 'y', 'x'\)"),
        ((1, 2, 3, 8, 9), None, r"has axes \('unnamed', .* and shape \(1, 2, 3, 8, 9\)"),
        ((9,), None, r"has axes \('x',\) and shape \(9,\)"),
        ((3, 3, 8, 9), "zzyx", r"has axes \('z', 'z', 'y', 'x'\)"),
    ],
)
@pytest.mark.parametrize("lies", ["in memory", "on disk"])
def test_the_axes_of_zarr_arrays(
    tmp_path: Path, lies: str, shape: tuple[int, ...], names: Any, expected: Any
) -> None:
    data = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    store = zarr.storage.MemoryStore() if lies == "in memory" else tmp_path / "a.zarr"
    array = zarr.create_array(store, data=data, dimension_names=names)
    if isinstance(expected, str):
        with pytest.raises(StackError, match=expected):
            sf.fuse(array)
        return
    opened = sf.open_stack(array)
    letters = (names or "zyx").lower()
    kept = xr.DataArray(data, dims=list(letters)).isel({"t": 0} if "t" in letters else {})
    kept = kept if "c" in letters else kept.expand_dims("c")
    assert opened.shape == expected
    assert np.array_equal(opened.values, kept.transpose("c", "z", "y", "x").values)


def test_the_axes_that_xarray_gives_a_zarr_v2_array(tmp_path: Path) -> None:
    data = np.arange(4 * 2 * 8 * 9, dtype=np.uint16).reshape(4, 2, 8, 9)
    named = xr.DataArray(data, dims=tuple("zcyx"), name="image").to_dataset()
    named.to_zarr(tmp_path / "a.zarr", zarr_format=2, consolidated=False)
    array = zarr.open_array(tmp_path / "a.zarr" / "image", mode="r")
    assert array.metadata.zarr_format == 2
    assert np.array_equal(sf.open_stack(array).values, data.swapaxes(0, 1))
    for names, expected in (("CZYX", data), (["dim_0", "dim_1", "dim_2", "dim_3"], data)):
        other = zarr.create_array(zarr.storage.MemoryStore(), data=data, zarr_format=2)
        other.attrs["_ARRAY_DIMENSIONS"] = list(names)
        assert np.array_equal(sf.open_stack(other).values, expected)


def test_a_data_array_as_other_readers_of_slides_name_it(small_stack: np.ndarray) -> None:
    named = xr.DataArray(small_stack[np.newaxis], dims=tuple("TCZYX"), coords={"C": list("rgb")})
    stack = as_stack(named)
    assert stack.shape == small_stack.shape and stack.channel_names == ("r", "g", "b")
    assert np.array_equal(sf.fuse(named).values, sf.fuse(small_stack).values)
    twice = xr.concat([named, named], "T")
    with pytest.raises(StackError, match=r"has 2 time points; fuse one at a time, such as .isel"):
        sf.fuse(twice)
    with pytest.raises(StackError, match=r"has dims \('c', 'Z', 'y', 'x'\)"):
        sf.fuse(xr.DataArray(small_stack, dims=("c", "Z", "y", "x"), coords={"z": 1}))


@pytest.mark.parametrize(
    "given", ["a text", [1, 2], 5, {"a": np.zeros(2)}, {("a", "b"): 1}, [("a", {1, 2})]]
)
def test_provenance_that_cannot_be_written(
    small_stack: np.ndarray, tmp_path: Path, given: Any
) -> None:
    stack = xr.DataArray(small_stack, dims=tuple("czyx"), attrs={"slidefusion": given})
    source = Planes(small_stack, (0.0, 1.0, 2.0, 3.0, 4.0))
    source.provenance = given
    for wrong, what in ((stack, r"attrs\['slidefusion'\]"), (source, "of the source Planes")):
        with pytest.raises(StackError, match=f"{what} is .*cannot be written into a slide"):
            sf.fuse(wrong, out=tmp_path / "o.zarr", progress=False)
    assert not (tmp_path / "o.zarr").exists()
