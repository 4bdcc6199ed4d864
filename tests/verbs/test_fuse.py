from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from ome_zarr_models.v05 import Image, ImageLabel
from skimage.metrics import structural_similarity

import slidefusion as sf
from slidefusion import write_slide
from slidefusion.engine import fuse_array
from slidefusion.errors import (
    MemoryBudgetError,
    OptionError,
    OutputError,
    PluginError,
    ProcessingError,
    SlidefusionError,
    StackError,
    UnknownNameError,
)
from slidefusion.fuser import Fused, Overview
from slidefusion.fusers.lpp import Lpp

from ..conftest import BlockSum


@pytest.fixture
def store(tmp_path: Path, small_stack: np.ndarray) -> zarr.Array[Any]:
    return zarr.create_array(tmp_path / "stack.zarr", data=small_stack, chunks=(3, 1, 100, 128))


@pytest.mark.parametrize("chunks", [64, 100, 256, 1000, "auto"])
def test_every_way_gives_the_same_bytes(
    small_stack: np.ndarray, store: zarr.Array[Any], tmp_path: Path, chunks: Any
) -> None:
    whole = fuse_array(Lpp(), small_stack)
    lazy_dask = da.from_array(small_stack, chunks=(1, 2, 77, 150))
    for given in (small_stack, store, lazy_dask):
        assert np.array_equal(sf.fuse(given, "lpp", chunks=chunks).values, whole.image)
    for number, given in enumerate((store, lazy_dask)):
        out = tmp_path / f"{number}.zarr"
        written = sf.fuse(given, "lpp", chunks=chunks, out=out, progress=False)
        assert np.array_equal(written.values, whole.image)
        depth = zarr.open_array(out, path="labels/depth/0", mode="r")
        assert np.array_equal(depth[0], whole.depth)
        confidence = zarr.open_array(out, path="confidence/0", mode="r")
        assert np.array_equal(confidence[0], whole.confidence)


@pytest.mark.parametrize("crop", [(0, 0, 301, 419), (33, 47, 100, 81), (300, 418, 1, 1)])
def test_a_crop_is_cut_out_of_the_whole(
    small_stack: np.ndarray, store: zarr.Array[Any], tmp_path: Path, crop: tuple[int, ...]
) -> None:
    y, x, height, width = crop
    whole = fuse_array(Lpp(), small_stack).image[:, y : y + height, x : x + width]
    assert np.array_equal(sf.fuse(store, crop=crop, chunks=64).values, whole)
    written = sf.fuse(store, crop=crop, chunks=64, out=tmp_path / "o.zarr", progress=False)
    assert np.array_equal(written.values, whole)


def test_the_result_is_lazy_and_composes(store: zarr.Array[Any], small_stack: np.ndarray) -> None:
    image = sf.fuse(store, planes=[-1, 0, 1], chunks=128)
    assert dask.is_dask_collection(image)
    assert image.dims == ("c", "y", "x") and image.dtype == np.uint8
    part = (image.sel(c="green")[10:20, 5:] / 2).mean("x")
    expected = fuse_array(Lpp(), small_stack[:, 1:4]).image[1, 10:20, 5:]
    np.testing.assert_allclose(part.values, expected.mean(1) / 2)


def test_a_store_gives_one_task_a_region(store: zarr.Array[Any]) -> None:
    image = sf.fuse(store, chunks=32)
    regions = -(-301 // 32) * -(-419 // 32)
    assert len(dict(image.__dask_graph__())) <= regions + 10


def test_the_fused_image_is_better_than_any_plane(small_stack: np.ndarray) -> None:
    """The texture of the fixture is sharpest in the middle plane, which has noise of its own."""
    fused = sf.fuse(small_stack).values
    truth = small_stack[:, 2]
    blurred = small_stack[:, 0]
    score = structural_similarity(fused, truth, channel_axis=0)
    assert score > 0.95 > structural_similarity(blurred, truth, channel_axis=0)


def test_a_crop_lies_where_it_was_cut_out(small_stack: np.ndarray, tmp_path: Path) -> None:
    um = {"units": "micrometer"}
    y, x = 2.5 + 0.243 * np.arange(301), 0.1 * np.arange(419)  # 2.5 is no multiple of 0.243
    coords = {"y": ("y", y, um), "x": ("x", x, um)}
    stack = xr.DataArray(small_stack, dims=("c", "z", "y", "x"), coords=coords)
    lazy = sf.fuse(stack, crop=(5, 7, 100, 81))
    written = sf.fuse(stack, crop=(5, 7, 100, 81), out=tmp_path / "o.zarr", progress=False)
    cut = sf.fuse(stack[:, :, 5:105, 7:88], out=tmp_path / "cut.zarr", progress=False)
    for image in (lazy, written, cut):
        assert np.allclose(image.y, y[5:105], rtol=1e-12)
        assert np.array_equal(image.x, x[7:88]), "so xarray aligns it with the stack"
    group = zarr.open_group(tmp_path / "o.zarr", mode="r")
    for inside in (group, group["labels/depth"]):
        transforms = inside.attrs["ome"]["multiscales"][0]["datasets"][0]
        scale, shift = transforms["coordinateTransformations"]
        assert scale["scale"][-2:] == [0.243, 0.1]
        assert shift["translation"][-2:] == [lazy.y[0], lazy.x[0]]


def test_the_written_slide_is_valid_ome_zarr(store: zarr.Array[Any], tmp_path: Path) -> None:
    out = tmp_path / "slide.zarr"
    slide = sf.fuse(store, planes=[0, 1], out=out, progress=False)
    group = zarr.open_group(out, mode="r")
    image = Image.from_zarr(group)
    assert [axis.name for axis in image.ome_attributes.multiscales[0].axes] == ["c", "y", "x"]
    assert image.ome_attributes.omero is not None
    ImageLabel.from_zarr(group["labels/depth"])
    Image.from_zarr(group["confidence"])
    levels = [
        len(group[name].attrs["ome"]["multiscales"][0]["datasets"]) for name in ["labels/depth"]
    ]
    assert levels == [len(group.attrs["ome"]["multiscales"][0]["datasets"])]
    assert group["labels"].attrs["ome"]["labels"] == ["depth"]
    properties = group["labels/depth"].attrs["ome"]["image-label"]["properties"]
    assert [entry["focus_offset"] for entry in properties] == [0, 1]
    provenance = slide.attrs["slidefusion"]
    assert provenance["fuser"] == "lpp" and provenance["planes"] == [0, 1]
    assert provenance["complete"] is True and "slidefusion" in provenance["software"]
    assert sf.open_slide(out).identical(slide) or np.array_equal(sf.open_slide(out), slide)


def test_ome_zarr_py_opens_it(store: zarr.Array[Any], tmp_path: Path) -> None:
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    out = tmp_path / "slide.zarr"
    slide = sf.fuse(store, out=out, progress=False)
    nodes = list(Reader(parse_url(out))())
    assert np.array_equal(np.asarray(nodes[0].data[0]), slide.values)
    assert nodes[0].metadata["axes"][0]["name"] == "c"


class _Stop(Exception):
    pass


def test_an_interrupted_run_continues_to_the_same_bytes(
    store: zarr.Array[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / "whole.zarr", tmp_path / "cut.zarr"
    expected = sf.fuse(store, chunks=128, out=whole, progress=False)
    real, fused = write_slide.fuse_region, []

    def failing(*args: Any) -> Fused:
        if len(fused) == 5:
            raise _Stop("power cut")
        fused.append(args[-1])
        return real(*args)

    monkeypatch.setattr(write_slide, "fuse_region", failing)
    with dask.config.set(num_workers=1), pytest.raises(ProcessingError, match="power cut"):
        sf.fuse(store, chunks=128, out=out, progress=False)
    with pytest.raises(StackError, match="is incomplete"):
        sf.open_slide(out)
    with pytest.raises(OutputError, match="options"):
        sf.fuse(store, chunks=128, out=out, progress=False, levels=2)
    monkeypatch.setattr(write_slide, "fuse_region", lambda *a: (fused.append(a[-1]), real(*a))[1])
    again = sf.fuse(store, out=out, progress=False)  # "auto" takes the regions of before
    assert len(fused) == 12 and len(set(fused)) == 12  # none twice
    assert np.array_equal(again.values, expected.values)
    files = sorted(p.relative_to(out) for p in out.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(whole) for p in whole.rglob("*") if p.is_file())
    for name in files:
        if name.name != "zarr.json":
            assert (out / name).read_bytes() == (whole / name).read_bytes(), name


def test_a_complete_output_is_refused(store: zarr.Array[Any], tmp_path: Path) -> None:
    out = tmp_path / "slide.zarr"
    sf.fuse(store, out=out, progress=False)
    with pytest.raises(OutputError, match="already complete"):
        sf.fuse(store, out=out, progress=False)
    sf.fuse(store, out=out, progress=False, overwrite=True, levels=2)


def test_the_input_is_never_overwritten(store: zarr.Array[Any], tmp_path: Path) -> None:
    for out in (tmp_path / "stack.zarr", tmp_path, tmp_path / "stack.zarr" / "fused"):
        with pytest.raises(OutputError, match="the input"):
            sf.fuse(store, out=out, progress=False, overwrite=True)
    assert store[0, 0, 0, 0] >= 0


def test_a_truncated_chunk_is_one_clear_error(store: zarr.Array[Any], tmp_path: Path) -> None:
    chunk = tmp_path / "stack.zarr" / "c" / "0" / "2" / "1" / "1"
    chunk.write_bytes(chunk.read_bytes()[:100])
    with pytest.raises(ProcessingError, match=r"cannot read plane 2, .*stack\.zarr.*damaged"):
        sf.fuse(store, out=tmp_path / "o.zarr", progress=False, background="fuse")
    with pytest.raises(StackError, match="is incomplete"):
        sf.open_slide(tmp_path / "o.zarr")


AXES = [{"name": "c", "type": "channel"}, *({"name": a, "type": "space"} for a in "zyx")]
SCALE = {"type": "scale", "scale": [1.0] * 4}
DATASETS = [{"path": "0", "coordinateTransformations": [SCALE]}]
NGFF = {"ome": {"version": "0.5", "multiscales": [{"axes": AXES, "datasets": DATASETS}]}}

BAD = [
    ({"fuser": "lppp"}, UnknownNameError, "did you mean 'lpp'"),
    ({"levls": 3}, OptionError, "has no option 'levls'; did you mean 'levels'"),
    ({"levels": "3"}, OptionError, "must be int"),
    ({"levels": 99}, OptionError, "out of range"),
    ({"planes": [7]}, UnknownNameError, "no plane at focus offset 7"),
    ({"planes": []}, StackError, "at least one"),
    ({"crop": (0, 0, 302, 10)}, OptionError, "does not lie inside the slide of 301 x 419"),
    ({"crop": (0, 0)}, OptionError, r"give \(y, x, height, width\)"),
    ({"crop": (0.5, 0, 3, 3)}, OptionError, "in whole pixels"),
    ({"fuser": BlockSum(np.int64(4))}, OptionError, r"option period=.* cannot be recorded"),
    ({"chunks": 0}, OptionError, "1 or more"),
    ({"chunks": "all"}, OptionError, "or 'auto'"),
    ({"chunks": 1021}, OptionError, "choose 1024, or another multiple of 256"),
    ({"device": "cuda"}, OptionError, "finds no NVIDIA GPU"),
    ({"fuser": 3}, OptionError, "neither the name"),
    ({"fuser": Lpp}, OptionError, r"is a class: give an object, Lpp\(\)"),
    ({"fuser": Lpp(), "levels": 3}, OptionError, "set them on the object"),
    ({"glass": (1.0,)}, OptionError, r"must be tuple\[float, float\] or None"),
    ({"glass": ("a", "b")}, OptionError, "must be tuple"),
    ({"planes": 0}, StackError, "a list of whole numbers"),
    ({"retries": -1}, OptionError, "a whole number from 0 on"),
    ({"out": None, "overwrite": True}, OptionError, "give out= as well"),
    ({"report": "."}, OptionError, "is a folder: give the path of a file"),
    ({"report": True}, OptionError, "is no path: give that of a file to write"),
    ({"report": b"a"}, OptionError, "is no path"),
    ({"planes": b"\0"}, StackError, "a list of whole numbers"),
    ({"name": "a"}, OptionError, "fuser 'lpp' has no option 'name'"),
    ({"overwrite": "no"}, OptionError, "overwrite='no': give True or False"),
    ({"verify": 1}, OptionError, "verify=1: give True or False"),
    ({"progress": None}, OptionError, "progress=None: give True or False"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), BAD)
def test_bad_arguments_are_refused_before_anything_is_written(
    store: zarr.Array[Any],
    tmp_path: Path,
    arguments: dict[str, Any],
    error: type[SlidefusionError],
    message: str,
) -> None:
    with pytest.raises(error, match=message) as caught:
        sf.fuse(store, **{"out": tmp_path / "o.zarr", **arguments})
    assert caught.value.exit_code == 2
    assert not (tmp_path / "o.zarr").exists()


def test_a_damaged_journal_is_no_obstacle_to_overwriting(
    store: zarr.Array[Any], tmp_path: Path
) -> None:
    out = tmp_path / "o.zarr"
    sf.fuse(store, out=out, progress=False)
    (out / "slidefusion-run.json").write_text("{")
    fused = sf.fuse(store, out=out, progress=False, overwrite=True)
    assert np.array_equal(fused.values, sf.fuse(store).values)


def test_a_group_in_memory_is_refused(tmp_path: Path, store: zarr.Array[Any]) -> None:
    group = zarr.open_group(zarr.storage.MemoryStore(), mode="w", attributes=NGFF)
    group.create_array("0", data=np.asarray(store))
    with pytest.raises(StackError, match="give its array of level 0"):
        sf.open_stack(group)
    assert sf.fuse(group["0"]).shape == store.shape[:1] + store.shape[2:]


@pytest.mark.parametrize("out", ["", True, b"slide.zarr"])
def test_what_is_no_path_is_not_written_to(
    store: zarr.Array[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: Any
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(OptionError, match="give a path or URL"):
        sf.fuse(store, out=out, overwrite=True)
    assert not list(Path().iterdir())


def test_too_few_planes(store: zarr.Array[Any]) -> None:
    @dataclass(frozen=True)
    class Pair(BlockSum):
        from slidefusion.fuser import PlaneRange

        planes = PlaneRange(2, 3)

    with pytest.raises(StackError, match="takes 2 to 3 planes, and 1 were given"):
        sf.fuse(store, Pair(), planes=[0])
    with pytest.raises(StackError, match="takes 2 to 3 planes, and 5 were given"):
        sf.fuse(store, Pair())


def test_nan_is_refused(tmp_path: Path) -> None:
    array = np.zeros((1, 2, 64, 64), np.float32)
    array[0, 1, 5, 5] = np.nan
    with pytest.raises(StackError, match=r"index 1 .* holds 1 values that are NaN"):
        sf.fuse(array, out=tmp_path / "o.zarr", progress=False)
    with pytest.raises(StackError, match="is incomplete"):
        sf.open_slide(tmp_path / "o.zarr")


def test_too_much_memory_is_refused_with_both_numbers(store: zarr.Array[Any]) -> None:
    class Greedy(BlockSum):
        def working_bytes(self, planes: int, channels: int, height: int, width: int) -> int:
            return height * width * 10**9

    with pytest.raises(MemoryBudgetError, match=r"needs .* GB .* and .* GB may be used"):
        sf.fuse(store, Greedy(), chunks=301)


def test_a_fuser_that_fails_at_once_is_named(store: zarr.Array[Any], tmp_path: Path) -> None:
    class Failing(BlockSum):
        def __call__(self, stack: Any) -> Fused:
            raise ValueError("boom")

    with pytest.raises(ProcessingError, match=r"block-sum.* a first small .*ValueError: boom"):
        sf.fuse(store, Failing(), out=tmp_path / "o.zarr", progress=False)
    assert not (tmp_path / "o.zarr").exists()


@dataclass(frozen=True)
class _Prepared(BlockSum):
    seen: tuple[int, ...] = ()

    def prepare(self, overview: Overview) -> _Prepared:
        shape = (*overview.thumbnail.shape, *overview.patches.shape)
        return _Prepared(self.period, shape)


def test_prepare_sees_the_slide_once(store: zarr.Array[Any], small_stack: np.ndarray) -> None:
    image = sf.fuse(store, _Prepared(), planes=[0, 1], chunks=100)
    options = image.attrs["slidefusion"]["options"]
    assert options["seen"] == (2, 3, 301, 419, 25, 2, 3, 128, 128)
    assert np.array_equal(image.values, fuse_array(BlockSum(), small_stack[:, 2:4]).image)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 4])
def test_any_dtype_and_number_of_channels(
    tmp_path: Path, rng: np.random.Generator, dtype: Any, channels: int
) -> None:
    stack = rng.integers(0, 200, (channels, 2, 70, 90)).astype(dtype)
    # Values that are unrelated from plane to plane count as noise, and so as glass.
    options: dict[str, Any] = {"background": "fuse", "white": 200.0}
    slide = sf.fuse(stack, out=tmp_path / "o.zarr", progress=False, **options)
    assert slide.dtype == dtype and slide.sizes["c"] == channels
    assert np.array_equal(slide.values, fuse_array(Lpp(**options), stack).image)
    Image.from_zarr(zarr.open_group(tmp_path / "o.zarr", mode="r"))


def test_a_slide_is_shown_from_black_to_its_white(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    camera = rng.integers(0, 4000, (2, 3, 300, 420)).astype(np.uint16)  # of 12 bits
    camera[1] //= 10
    for stack, factor in ((camera, 1), (camera.astype(np.float32) * 4, 4)):
        sf.fuse(stack, "lpp", out=tmp_path / "o.zarr", progress=False, overwrite=True)
        attributes: Any = zarr.open_group(tmp_path / "o.zarr", mode="r").attrs["ome"]
        first, second = (channel["window"] for channel in attributes["omero"]["channels"])
        white = np.percentile(sf.open_slide(tmp_path / "o.zarr").values, 99.9, axis=(1, 2))
        assert first["end"] == pytest.approx(white[0]) and second["end"] == pytest.approx(white[1])
        assert first["start"] == 0 and first["end"] > 2000 * factor


class _Open(BlockSum):
    def __reduce__(self) -> Any:
        raise TypeError("an open file")


def test_on_a_cluster_of_processes(store: zarr.Array[Any], tmp_path: Path) -> None:
    from distributed import Client, LocalCluster

    expected = sf.fuse(store, chunks=128).values
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        written = sf.fuse(store, chunks=128, out=tmp_path / "o.zarr", client=client, progress=False)
        assert np.array_equal(written.values, expected)
        assert np.array_equal(sf.fuse(store, chunks=128).values, expected)
        there = da.from_array(np.asarray(store), chunks=(1, 2, 100, 130)).persist()
        scattered = dask.delayed(np.asarray)(client.scatter(np.asarray(store)))
        held = da.from_delayed(scattered, store.shape, "u1")
        for derived in (there ^ np.uint8(0), held):
            with pytest.raises(StackError, match=r"call its persist\(\) first"):
                sf.fuse(derived, out=tmp_path / "d.zarr", client=client, progress=False)
        for given in (there, held.persist()):
            assert np.array_equal(sf.fuse(given, chunks=128).values, expected)
            # Nobody else holds what lies on the cluster then, as in ``stack = sf.fuse(stack)``.
            alone = sf.fuse(given.map_blocks(np.copy).persist(), chunks=128)
            assert np.array_equal(alone.values, expected)
            with pytest.raises(StackError, match="write the lazy result"):
                sf.fuse(given, out=tmp_path / "d.zarr", client=client, progress=False)
        assert not (tmp_path / "d.zarr").exists()
        with pytest.raises(PluginError, match=r"cannot be sent to the workers.*picklable: keep"):
            sf.fuse(store, _Open(), out=tmp_path / "n.zarr", client=client, progress=False)
        assert not (tmp_path / "n.zarr").exists()
        chunk = tmp_path / "stack.zarr" / "c" / "0" / "0" / "0" / "0"
        chunk.write_bytes(b"")
        with pytest.raises(ProcessingError, match="cannot read plane 0"):
            sf.fuse(store, chunks=128, out=tmp_path / "p.zarr", client=client, progress=False)


def test_a_foreign_input_that_changed_after_an_interruption_is_refused(
    small_stack: np.ndarray, store: zarr.Array[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, real, fused = tmp_path / "cut.zarr", write_slide.fuse_region, []

    def failing(*args: Any) -> Fused:
        if len(fused) == 5:
            raise _Stop("power cut")
        fused.append(args[-1])
        return real(*args)

    with monkeypatch.context() as patch, dask.config.set(num_workers=1):
        patch.setattr(write_slide, "fuse_region", failing)
        with pytest.raises(ProcessingError, match="power cut"):
            sf.fuse(store, chunks=128, out=out, progress=False)
    other = zarr.create_array(
        tmp_path / "stack.zarr", data=255 - small_stack, chunks=store.chunks, overwrite=True
    )
    with pytest.raises(OutputError, match=r"other settings \(input\.files\..* was .*, now "):
        sf.fuse(other, chunks=128, out=out, progress=False)


@pytest.mark.parametrize(
    ("height", "dtype"), [(60, "uint8"), (64, "float64"), (64, "uint16")], ids=str
)
def test_dask_blocks_that_are_not_as_declared(tmp_path: Path, height: int, dtype: str) -> None:
    blocks = da.map_blocks(
        lambda: np.full((1, 3, height, 64), 3.7).astype(dtype),
        chunks=((1,), (3,), (64,), (64,)),
        dtype="uint8",
        meta=np.empty((0,) * 4, np.uint8),
    )
    with pytest.raises(StackError, match=r"a part of the Dask array was computed to .*declares"):
        sf.fuse(blocks).compute()
    with pytest.raises(SlidefusionError, match="a part of the Dask array was computed to"):
        sf.fuse(blocks, out=tmp_path / "o.zarr", progress=False)
