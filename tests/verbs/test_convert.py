"""``convert``: what comes out equals what the source says, whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from ome_zarr_models.v05 import Image as Image05
from PIL import Image

import slidefusion as sf
from slidefusion.errors import (
    MemoryBudgetError,
    OptionError,
    OutputError,
    PluginError,
    ProcessingError,
    ReaderError,
    SlidefusionWarning,
    StackError,
    UnknownNameError,
)
from slidefusion.geometry import Size, Window
from slidefusion.transforms import laplacian

UM = {
    "PhysicalSizeX": 0.25,
    "PhysicalSizeXUnit": "µm",
    "PhysicalSizeY": 0.25,
    "PhysicalSizeYUnit": "µm",
    "PhysicalSizeZ": 2.0,
    "PhysicalSizeZUnit": "µm",
}
QUICK: dict[str, Any] = {"progress": False, "shard_px": 256, "chunk_px": 64}


def pixels(*shape: int, dtype: str = "uint8") -> np.ndarray:
    rng = np.random.default_rng(7)
    if dtype == "float32":
        return rng.random(shape, dtype=np.float32)
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def half(image: np.ndarray) -> np.ndarray:
    """2 x 2 mean of (..., Y, X), the edge repeated; by reshaping, unlike the package's kernel."""
    pad = [(0, 0)] * (image.ndim - 2) + [(0, image.shape[-2] % 2), (0, image.shape[-1] % 2)]
    wide = np.pad(image, pad, mode="edge").astype(np.float64)
    y, x = wide.shape[-2] // 2, wide.shape[-1] // 2
    mean = wide.reshape(*wide.shape[:-2], y, 2, x, 2).mean(axis=(-3, -1))
    return mean if image.dtype.kind == "f" else np.floor(mean + 0.5)


@pytest.fixture
def rgb(tmp_path: Path) -> tuple[Path, np.ndarray]:
    data = pixels(4, 700, 610, 3)
    path = tmp_path / "slide.ome.tif"
    metadata = {"axes": "ZYXS", **UM}
    tifffile.imwrite(path, data, photometric="rgb", tile=(128, 128), metadata=metadata)
    return path, data.transpose(3, 0, 1, 2)


class Source:
    """An in-memory Reader that counts reads and can fail."""

    name = "memory"

    def __init__(self, data: np.ndarray, tile: Size | None = None) -> None:
        self.data = data
        self.shape = data.shape
        self.dtype = data.dtype
        self.tile = tile or Size(64, 64)
        self.pixel_size_um: tuple[float, float] | None = (0.5, 0.5)
        self.z_um: tuple[float, ...] | None = tuple(map(float, range(data.shape[1])))
        self.channel_names = tuple(f"c{k}" for k in range(data.shape[0]))
        self.is_rgb = False
        self.provenance: dict[str, Any] = {"reader": "memory"}
        self.reads: list[tuple[int, Window]] = []
        self.fail_after = 10**9

    def read(self, z: int, window: Window) -> np.ndarray:
        if len(self.reads) >= self.fail_after:
            raise ProcessingError("the cable was pulled")
        self.reads.append((z, window))
        return self.data[(slice(None), z, *window.slices)]

    def close(self) -> None:
        raise AssertionError("a reader that was handed over stays open")


def test_ome_tiff_to_a_valid_stack(rgb: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    path, expected = rgb
    out = tmp_path / "stack.zarr"
    assert sf.convert(path, out, **QUICK) == str(out)
    group = zarr.open_group(str(out), mode="r")
    Image05.from_zarr(group)
    level = expected
    for number in range(3):
        array = group[str(number)]
        assert array.metadata.dimension_names == ("c", "z", "y", "x")
        np.testing.assert_array_equal(array[...], level)
        level = half(level).astype(np.uint8)
    assert (group["0"].shards, group["0"].chunks) == ((3, 1, 256, 256), (3, 1, 64, 64))
    ome = group.attrs["ome"]
    assert [channel["color"] for channel in ome["omero"]["channels"]] == [
        "FF0000",
        "00FF00",
        "0000FF",
    ]
    scale = ome["multiscales"][0]["datasets"][1]["coordinateTransformations"][0]["scale"]
    assert scale == pytest.approx([1, 2, 0.5, 0.5])
    mine = group.attrs["slidefusion"]
    assert mine["complete"] is True
    assert mine["source"]["files"][0]["path"] == str(path)
    assert mine["z_um"] == [0, 2, 4, 6]
    assert (mine["pixel_size_from"], mine["z_from"]) == ("source", "source")
    stack = sf.open_stack(out)
    assert list(stack.focus_offset.values) == [-2, -1, 0, 1]
    np.testing.assert_array_equal(stack.values, expected)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("size", [(1, 1), (300, 5), (513, 257)])
def test_any_size_and_type(tmp_path: Path, dtype: str, size: tuple[int, int]) -> None:
    data = pixels(2, 3, *size, dtype=dtype)
    sf.convert(Source(data), tmp_path / "a.zarr", **QUICK)
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="r")
    np.testing.assert_array_equal(group["0"][...], data)
    if "1" in group:
        np.testing.assert_allclose(group["1"][...], half(data), rtol=1e-6)


def test_options_beat_the_file_and_unequal_spacing_is_kept(
    rgb: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    out = tmp_path / "a.zarr"
    z_um = [-3.0, -1.0, 0.0, 4.5]
    sf.convert(rgb[0], out, pixel_size_um=(0.3, 0.2), z_um=z_um, reference=1, **QUICK)
    stack = sf.open_stack(out)
    assert list(stack.z.values) == z_um
    assert list(stack.focus_offset.values) == [-1, 0, 1, 2]
    assert stack.y.values[1] == pytest.approx(0.3)
    assert stack.x.values[1] == pytest.approx(0.2)
    mine = zarr.open_group(str(out), mode="r").attrs["slidefusion"]
    assert (mine["pixel_size_from"], mine["z_from"]) == ("option", "option")
    again = tmp_path / "b.zarr"
    sf.convert(out, again, **QUICK)  # what was unequal stays so from stack to stack
    assert list(sf.open_stack(again).z.values) == z_um


def test_pictures_need_both_sizes(tmp_path: Path) -> None:
    data = pixels(3, 40, 50)
    for z, plane in enumerate(data):
        Image.fromarray(plane).save(tmp_path / f"z{z}.png")
    source, out = str(tmp_path / "z*.png"), tmp_path / "a.zarr"
    with pytest.raises(StackError, match="pixel_size_um="):
        sf.convert(source, out)
    with pytest.raises(StackError, match=r"3 planes: pass z_step_um="):
        sf.convert(source, out, pixel_size_um=0.5)
    assert not out.exists()
    sf.convert(source, out, pixel_size_um=0.5, z_step_um=1.5, **QUICK)
    stack = sf.open_stack(out)
    assert list(stack.z.values) == [0, 1.5, 3]
    np.testing.assert_array_equal(stack.values[0], data)


def test_numbers_of_numpy_are_numbers(rgb: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    given = {"reference": np.int64(1), "chunk_px": np.int32(128), "z_step_um": np.float32(2)}
    out = sf.convert(rgb[0], tmp_path / "a.zarr", **QUICK | given)
    opened = sf.open_stack(out)
    assert opened.focus_offset.values.tolist() == [-1, 0, 1, 2]
    assert np.diff(opened.z).tolist() == [2.0, 2.0, 2.0]
    fused = sf.fuse(out, "lpp", levels=np.int64(3), chunks=np.int64(256))
    assert fused.attrs["slidefusion"]["options"]["levels"] == 3
    sizes = {"pixel_size_um": np.float32(0.25), "retries": np.int64(1)}
    sf.convert(rgb[0], tmp_path / "b.zarr", **QUICK, **sizes)
    assert sf.plan_fuse(out, sample=np.int64(1), workers=np.int8(2)).workers == 2
    assert laplacian.forward(np.zeros((1, 8, 8)), np.int64(2))[2].shape == (1, 2, 2)


def test_a_plane_that_is_missing_in_a_series_is_noticed(tmp_path: Path) -> None:
    for number in (1, 2, 4):
        Image.fromarray(pixels(40, 50, 3)).save(tmp_path / f"z{number}.png")
    files = [tmp_path / f"z{number}.png" for number in (1, 2, 4)]
    for source in (tmp_path, files, str(tmp_path / "z*.png")):
        with pytest.raises(StackError, match=r"z2\.png is followed by z4\.png\. Restore"):
            sf.convert(source, tmp_path / "a.zarr", pixel_size_um=1, z_step_um=1, **QUICK)
    sf.convert(files, tmp_path / "a.zarr", pixel_size_um=1, z_um=[0, 1, 3], **QUICK)
    assert sf.open_stack(tmp_path / "a.zarr").z.values.tolist() == [0, 1, 3]
    sf.convert(files[::2], tmp_path / "b.zarr", pixel_size_um=1, z_step_um=3, **QUICK)


def test_a_slide_of_one_plane_needs_no_step(tmp_path: Path) -> None:
    Image.fromarray(pixels(40, 50, 3)).save(tmp_path / "one.png")
    sf.convert(tmp_path / "one.png", tmp_path / "a.zarr", pixel_size_um=1, **QUICK)
    assert sf.open_stack(tmp_path / "a.zarr").shape == (3, 1, 40, 50)


@pytest.mark.parametrize(
    "options",
    [
        {"pixel_size_um": 0},
        {"pixel_size_um": (0.2, float("nan"))},
        {"pixel_size_um": "small"},
        {"pixel_size_um": True},
        {"pixel_size_um": (True, 0.5)},
        {"z_step_um": True},
        {"z_um": [False, True, 2, 3]},
        {"z_um": np.array([False, True])},
        {"z_step_um": -1},
        {"z_step_um": 1, "z_um": [0, 1, 2, 3]},
        {"z_um": [0, 1, 2]},
        {"z_um": [0, 1, 1, 2]},
        {"reference": 4},
        {"reference": 0.5},
        {"z_step_um": "a"},
        {"z_um": 3},
        {"z_um": "abcd"},
        {"chunk_px": 1.5},
        {"shard_px": None},
        {"chunk_px": 10**22 + 1, "shard_px": 10**23 + 1},
        {"chunk_px": 0},
        {"chunk_px": 512, "shard_px": 256},
        {"colour": "red"},
    ],
    ids=str,
)
def test_options_that_make_no_sense(
    rgb: tuple[Path, np.ndarray], tmp_path: Path, options: dict[str, Any]
) -> None:
    with pytest.raises(OptionError):
        sf.convert(rgb[0], tmp_path / "a.zarr", **options)
    assert not (tmp_path / "a.zarr").exists()


def test_an_interrupted_run_continues_and_gives_the_same(tmp_path: Path) -> None:
    data = pixels(1, 3, 600, 500)
    whole, out = tmp_path / "whole.zarr", tmp_path / "out.zarr"
    sf.convert(Source(data), whole, **QUICK)
    source = Source(data)
    source.fail_after = 7
    with pytest.raises(ProcessingError, match="cable"):
        sf.convert(source, out, **QUICK)
    with pytest.raises(StackError, match="incomplete"):
        sf.open_stack(out)
    assert "ome" not in zarr.open_group(str(out), mode="r").attrs
    with pytest.raises(OutputError, match="pixel_size_um"):
        sf.convert(Source(data), out, pixel_size_um=0.1, **QUICK)
    first = len(source.reads)
    source.fail_after = 10**9
    sf.convert(source, out, **QUICK)
    assert len(source.reads) < 2 * 18 - 1
    assert len(set(source.reads)) == 18
    assert first >= 7
    undisturbed = dict(zarr.open_group(str(whole), mode="r").arrays())
    continued = dict(zarr.open_group(str(out), mode="r").arrays())
    assert undisturbed.keys() == continued.keys()
    for level, array in undisturbed.items():
        np.testing.assert_array_equal(array[...], continued[level][...])
    with pytest.raises(OutputError, match="complete"):
        sf.convert(source, out, **QUICK)
    sf.convert(Source(data[:, :2]), out, overwrite=True, **QUICK)
    assert sf.open_stack(out).shape == (1, 2, 600, 500)


def test_strips_are_read_in_bands_and_planes_whole(tmp_path: Path) -> None:
    data = pixels(1, 2, 1100, 900)
    strips = Source(data, Size(8, 900))
    sf.convert(strips, tmp_path / "s.zarr", **QUICK)
    assert {window.width for _, window in strips.reads} == {900}
    whole = Source(data, Size(1100, 900))
    sf.convert(whole, tmp_path / "w.zarr", **QUICK)
    assert sorted(whole.reads) == [(z, Window(0, 0, 1100, 900)) for z in (0, 1)]


def test_chunks_of_several_planes_are_decoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from slidefusion.omezarr.sources import ZarrSource

    data = pixels(2, 5, 300, 290)
    group = zarr.open_group(str(tmp_path / "in.zarr"), mode="w", zarr_format=2)
    group.create_array("0", data=data, chunks=(1, 3, 100, 100))
    axes = [{"name": "c", "type": "channel"}]
    axes += [{"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"]
    transform = {"type": "scale", "scale": [1, 2, 0.5, 0.5]}
    datasets = [{"path": "0", "coordinateTransformations": [transform]}]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    blocks = []
    real = ZarrSource.read_planes

    def noting(self: ZarrSource, planes: slice, window: Window) -> np.ndarray:
        blocks.append((planes.start, planes.stop, window))
        return real(self, planes, window)

    monkeypatch.setattr(ZarrSource, "read_planes", noting)
    sf.convert(tmp_path / "in.zarr", tmp_path / "out.zarr", **QUICK)
    np.testing.assert_array_equal(sf.open_stack(tmp_path / "out.zarr").values, data)
    assert len(blocks) == len(set(blocks)) and {block[:2] for block in blocks} == {(0, 3), (3, 5)}


def test_where_the_output_may_not_be(rgb: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    stack = tmp_path / "in" / "stack.zarr"
    sf.convert(rgb[0], stack, **QUICK)
    for out in (stack, tmp_path / "in", stack / "inside.zarr", rgb[0]):
        with pytest.raises(OutputError):
            sf.convert(stack if out != rgb[0] else rgb[0], out, overwrite=True, **QUICK)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    with pytest.raises(OutputError, match="is no Zarr store"):
        sf.convert(rgb[0], tmp_path / "full", overwrite=True, **QUICK)
    assert (tmp_path / "full" / "letter.txt").read_text() == "dear"
    np.testing.assert_array_equal(sf.open_stack(stack).values, rgb[1])


def test_what_is_no_source(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError):
        sf.convert(tmp_path / "missing.tif", tmp_path / "a.zarr")
    (tmp_path / "a.mrxs").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(ReaderError, match="MIRAX"):
        sf.convert(tmp_path / "a.mrxs", tmp_path / "a.zarr")
    with pytest.raises(StackError, match="int32"):
        sf.convert(Source(np.zeros((1, 2, 8, 8), np.int32)), tmp_path / "a.zarr")
    assert not (tmp_path / "a.zarr").exists()


@pytest.mark.parametrize("wrong", ["short", "float64"])
def test_a_reader_that_gives_something_else_is_named(tmp_path: Path, wrong: str) -> None:
    class Wrong(Source):
        def read(self, z: int, window: Window) -> np.ndarray:
            part = super().read(z, window)
            return part[:, :-1] if wrong == "short" else part.astype(np.float64)

    with pytest.raises(PluginError, match=r"reader 'memory' .* gave \(2, .* as it declares"):
        sf.convert(Wrong(pixels(2, 3, 90, 80)), tmp_path / "a.zarr", **QUICK)


def test_a_reader_may_give_any_byte_order(tmp_path: Path) -> None:
    class Swapped(Source):
        def read(self, z: int, window: Window) -> np.ndarray:
            return super().read(z, window).astype(">u2")

    data = pixels(2, 3, 90, 80, dtype="uint16")
    where = sf.convert(Swapped(data), tmp_path / "a.zarr", **QUICK)
    np.testing.assert_array_equal(sf.open_stack(where).values, data)


def test_a_tile_that_is_damaged_leaves_no_complete_output(
    rgb: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    Image.fromarray(pixels(60, 70, 3)).save(tmp_path / "p0.png")
    data = (tmp_path / "p0.png").read_bytes()
    (tmp_path / "p1.png").write_bytes(data[: len(data) // 2])
    out = tmp_path / "a.zarr"
    with pytest.raises(ProcessingError, match=r"p1\.png"):
        sf.convert(str(tmp_path / "p*.png"), out, pixel_size_um=1, z_step_um=1, **QUICK)
    attributes = json.loads((out / "zarr.json").read_text())["attributes"]
    assert "ome" not in attributes
    assert attributes["slidefusion"]["complete"] is False


def test_no_more_is_begun_than_fits_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plane that is one strip is decoded as a whole by every task that reads of it."""
    import dask

    path, image = tmp_path / "strip.tif", np.zeros((2500, 2500, 3), np.uint8)
    with tifffile.TiffWriter(path) as tif:
        for _ in range(3):
            tif.write(image, rowsperstrip=2500, compression="zlib", metadata=None)
    process = 10**6  # less than a plane, for which it would otherwise not be asked
    monkeypatch.setattr("slidefusion.memory._PROCESS_BYTES", process)
    given = {"pixel_size_um": 1, "z_step_um": 1, "progress": False}

    def has(planes: float) -> None:
        total = (process + planes * image.nbytes) / 0.8
        monkeypatch.setattr("slidefusion.memory.available_bytes", lambda: int(total))

    with dask.config.set(num_workers=3):
        has(1.5)
        with pytest.raises(
            MemoryBudgetError, match=r"in pieces of 2500 x 2500 px: a process needs"
        ):
            sf.convert(path, tmp_path / "o.zarr", **given)
        assert not (tmp_path / "o.zarr").exists()
        has(4.5)
        with pytest.warns(SlidefusionWarning, match="2 at a time fit the memory, and not 3"):
            sf.convert(path, tmp_path / "o.zarr", **given)
        has(6.5)
        sf.convert(path, tmp_path / "o.zarr", overwrite=True, **given)
