"""Multi-plane TIFF files against tifffile's own reading of them, and what is refused."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import slidefusion as sf
from slidefusion.errors import (
    ProcessingError,
    ReaderError,
    SlidefusionError,
    StackError,
)
from slidefusion.geometry import Size, Window
from slidefusion.readers import open_reader
from slidefusion.readers.tiff import TiffReader
from tests.readers.synthetic import APERIO, noise, whole

UM = {
    "PhysicalSizeX": 0.25,
    "PhysicalSizeXUnit": "µm",
    "PhysicalSizeY": 300.0,
    "PhysicalSizeYUnit": "nm",
    "PhysicalSizeZ": 2.7,
    "PhysicalSizeZUnit": "µm",
}
STORAGE: list[dict[str, Any]] = [
    {},
    {"rowsperstrip": 1},
    {"rowsperstrip": 7},
    {"rowsperstrip": 7, "compression": "lzw", "predictor": True},
    {"tile": (32, 48)},
    {"tile": (32, 48), "compression": "zlib", "predictor": True},
    {"tile": (16, 16), "compression": "zstd", "bigtiff": True, "byteorder": ">"},
    {"byteorder": ">"},
]


def named(**options: Any) -> str:
    return "-".join(f"{k}={v}" for k, v in options.items()) or "raw"


@pytest.mark.parametrize("storage", STORAGE, ids=lambda s: named(**s))
@pytest.mark.parametrize(
    ("axes", "shape", "dtype"),
    [
        ("ZYX", (3, 70, 90), "uint8"),
        ("ZYXS", (3, 70, 90, 3), "uint8"),
        ("ZCYX", (3, 2, 70, 90), "uint16"),
        ("CZYX", (2, 4, 70, 90), "float32"),
    ],
)
def test_ome_tiff_of_any_storage_reads_as_tifffile_reads_it(
    tmp_path: Path, axes: str, shape: tuple[int, ...], dtype: str, storage: dict[str, Any]
) -> None:
    if dtype == "float32" and storage.get("predictor"):
        storage = {**storage, "predictor": 3}
    path = tmp_path / "a.ome.tif"
    data = noise(*shape, dtype=dtype)
    photometric = "rgb" if "S" in axes else "minisblack"
    tifffile.imwrite(path, data, photometric=photometric, metadata={"axes": axes, **UM}, **storage)
    reader = open_reader(path)
    oracle = tifffile.imread(path)
    czyx = np.moveaxis(
        oracle if ("S" in axes or "C" in axes) else oracle[np.newaxis],
        {"ZYX": 0, "ZYXS": 3, "ZCYX": 1, "CZYX": 0}[axes],
        0,
    )
    assert reader.shape == czyx.shape
    assert reader.dtype == np.dtype(dtype)
    assert reader.is_rgb == ("S" in axes)
    assert reader.pixel_size_um == pytest.approx((0.3, 0.25))
    assert reader.z_um == pytest.approx(tuple(2.7 * k for k in range(reader.shape[1])))
    np.testing.assert_array_equal(whole(reader), czyx)
    part = Window(13, 21, 40, 11)
    np.testing.assert_array_equal(reader.read(2, part), czyx[:, 2, 13:53, 21:32])
    reader.close()


@pytest.fixture(scope="module")
def tiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[TiffReader, TiffReader, np.ndarray]:
    folder = tmp_path_factory.mktemp("tiled")
    data = noise(2, 83, 61, 3)
    options = {"photometric": "rgb", "metadata": {"axes": "ZYXS"}}
    tifffile.imwrite(folder / "t.ome.tif", data, tile=(32, 16), compression="zlib", **options)
    tifffile.imwrite(folder / "s.ome.tif", data, rowsperstrip=9, **options)
    tiles, rows = TiffReader(str(folder / "t.ome.tif")), TiffReader(str(folder / "s.ome.tif"))
    return tiles, rows, data.transpose(3, 0, 1, 2)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_window_is_the_cut_of_the_whole(
    tiled: tuple[TiffReader, TiffReader, np.ndarray], data: st.DataObject
) -> None:
    y, x = data.draw(st.integers(0, 82)), data.draw(st.integers(0, 60))
    window = Window(y, x, data.draw(st.integers(1, 83 - y)), data.draw(st.integers(1, 61 - x)))
    z = data.draw(st.integers(0, 1))
    for reader in tiled[:2]:
        part = reader.read(z, window)
        np.testing.assert_array_equal(part, tiled[2][(slice(None), z, *window.slices)])


def test_jpeg_tiles_decode_as_tifffile_decodes_them(tmp_path: Path) -> None:
    path = tmp_path / "j.ome.tif"
    data = np.repeat(np.repeat(noise(2, 20, 25, 3), 8, axis=1), 8, axis=2)
    tifffile.imwrite(
        path,
        data,
        photometric="rgb",
        tile=(64, 64),
        compression="jpeg",
        metadata={"axes": "ZYXS"},
    )
    reader = open_reader(path)
    np.testing.assert_array_equal(whole(reader), tifffile.imread(path).transpose(3, 0, 1, 2))
    assert reader.tile == Size(64, 64)


def test_planar_colour(tmp_path: Path) -> None:
    path = tmp_path / "p.ome.tif"
    data = noise(4, 3, 50, 60)
    tifffile.imwrite(
        path,
        data,
        photometric="rgb",
        planarconfig="separate",
        tile=(32, 32),
        metadata={"axes": "ZSYX"},
    )
    reader = open_reader(path)
    assert reader.is_rgb
    np.testing.assert_array_equal(whole(reader), data.transpose(1, 0, 2, 3))


def test_imagej_stack_with_its_units(tmp_path: Path) -> None:
    path = tmp_path / "ij.tif"
    data = noise(5, 2, 40, 50, dtype="uint16")
    tifffile.imwrite(
        path,
        data,
        imagej=True,
        resolution=(4.0, 2.0),
        metadata={"axes": "ZCYX", "unit": "um", "spacing": 1.5},
    )
    reader = open_reader(path)
    assert reader.provenance["format"] == "imagej"
    assert reader.pixel_size_um == pytest.approx((0.5, 0.25))
    assert reader.z_um == pytest.approx((0, 1.5, 3, 4.5, 6))
    np.testing.assert_array_equal(whole(reader), data.transpose(1, 0, 2, 3))


def test_unequal_plane_positions_of_ome_xml_are_kept_and_sorted(tmp_path: Path) -> None:
    path = tmp_path / "u.ome.tif"
    data = noise(3, 20, 30)
    plane = {"PositionZ": [5.0, 0.0, 1.5], "PositionZUnit": ["µm"] * 3}
    tifffile.imwrite(path, data, metadata={"axes": "ZYX", "Plane": plane})
    reader = open_reader(path)
    assert reader.z_um == (0.0, 1.5, 5.0)
    assert reader.provenance["planes_in_file_order"] == [1, 2, 0]
    np.testing.assert_array_equal(whole(reader)[0], data[[1, 2, 0]])


def test_how_channels_are_shown(tmp_path: Path) -> None:
    channels = {"Name": ["dapi", "cy5"], "Color": [65535, -16776961]}  # blue, red; opaque
    metadata = {"axes": "CZYX", "Channel": channels}
    tifffile.imwrite(tmp_path / "a.ome.tif", noise(2, 3, 20, 30), metadata=metadata)
    reader = open_reader(tmp_path / "a.ome.tif")
    assert reader.channel_names == ("dapi", "cy5")
    assert reader.looks == ({"color": "0000FF"}, {"color": "FF0000"})
    white = {"photometric": "miniswhite", "metadata": {"axes": "ZYX"}}
    tifffile.imwrite(tmp_path / "b.tif", noise(3, 20, 30), **white)
    sf.convert(tmp_path / "b.tif", tmp_path / "b.zarr", pixel_size_um=1, z_step_um=1)
    (shown,) = zarr.open_group(tmp_path / "b.zarr").attrs["ome"]["omero"]["channels"]
    assert shown["inverted"] is True


def test_positions_in_the_reference_frame_are_no_lengths(tmp_path: Path) -> None:
    path = tmp_path / "r.ome.tif"
    plane = {"PositionZ": [0.0, 1.0], "PositionZUnit": ["reference frame"] * 2}
    tifffile.imwrite(path, noise(2, 20, 30), metadata={"axes": "ZYX", "Plane": plane})
    assert open_reader(path).z_um is None


@pytest.mark.parametrize(
    ("resolution", "unit", "expected"),
    [
        ((40000, 20000), "CENTIMETER", (0.5, 0.25)),
        ((101600, 101600), "INCH", (0.25, 0.25)),
        ((72, 72), "INCH", None),
        ((1, 1), "NONE", None),
    ],
)
def test_resolution_tags_count_only_when_a_microscope_can_have_them(
    tmp_path: Path, resolution: tuple[int, int], unit: str, expected: tuple[float, ...] | None
) -> None:
    path = tmp_path / "r.tif"
    tifffile.imwrite(
        path, noise(5, 20, 30), metadata=None, resolution=resolution, resolutionunit=unit
    )
    reader = open_reader(path)
    assert reader.shape == (1, 5, 20, 30)
    assert reader.z_um is None
    assert reader.pixel_size_um == (None if expected is None else pytest.approx(expected))


def test_an_alpha_channel_must_be_opaque(tmp_path: Path) -> None:
    data = noise(2, 20, 30, 4)
    data[..., 3] = 255
    options = {"photometric": "rgb", "extrasamples": ["unassalpha"], "metadata": {"axes": "ZYXS"}}
    tifffile.imwrite(tmp_path / "a.ome.tif", data, **options)
    reader = open_reader(tmp_path / "a.ome.tif")
    assert reader.is_rgb
    np.testing.assert_array_equal(whole(reader), data[..., :3].transpose(3, 0, 1, 2))
    data[1, 5, 5, 3] = 254
    tifffile.imwrite(tmp_path / "b.ome.tif", data, **options)
    with pytest.raises(StackError, match="transparent"):
        whole(open_reader(tmp_path / "b.ome.tif"))


@pytest.mark.parametrize("dtype", ["int8", "uint32", "float64", "int16"])
def test_other_types_of_values_are_refused(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "d.ome.tif"
    tifffile.imwrite(path, np.zeros((3, 20, 30), dtype), metadata={"axes": "ZYX"})
    with pytest.raises(StackError, match=f"{dtype}.*uint8, uint16, float32"):
        open_reader(path)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "packbits"])
def test_luma_is_not_red(tmp_path: Path, compression: str | None) -> None:
    path = tmp_path / "y.tif"
    pictures = [Image.new("RGB", (30, 20), (200,) * 3).convert("YCbCr") for _ in range(3)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], compression=compression)
    with pytest.raises(ReaderError, match=r"YCbCr .* save the planes as RGB"):
        open_reader(path)


def test_palette_colours_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.tif"
    colours = noise(3, 256, dtype="uint16")
    tifffile.imwrite(path, noise(2, 20, 30), photometric="palette", colormap=colours)
    with pytest.raises(ReaderError, match="PALETTE"):
        open_reader(path)


@pytest.fixture(scope="module")
def to_cut(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("cut")
    data = noise(4, 70, 90)
    paths = {name: folder / f"{name}.tif" for name in ("ome", "imagej", "shaped", "plain")}
    gray = {"photometric": "minisblack"}
    zlib = {"compression": "zlib", "tile": (32, 32)}
    tifffile.imwrite(paths["ome"], data, ome=True, metadata={"axes": "ZYX"}, **gray, **zlib)
    tifffile.imwrite(paths["imagej"], data, imagej=True, metadata={"axes": "ZYX"})
    tifffile.imwrite(paths["shaped"], data, metadata={"axes": "ZYX"}, **gray)
    with tifffile.TiffWriter(paths["plain"]) as tif:
        for plane in data:
            tif.write(plane, metadata=None, contiguous=False, **zlib)
    return paths


@pytest.mark.parametrize("name", ["ome", "imagej", "shaped", "plain"])
def test_a_truncated_file_never_gives_other_pixels(
    to_cut: dict[str, Path], tmp_path: Path, name: str
) -> None:
    data = to_cut[name].read_bytes()
    expected = whole(open_reader(to_cut[name]))
    path = tmp_path / "cut.tif"
    for size in [*range(1, len(data), len(data) // 40), len(data) - 1]:
        path.write_bytes(data[:size])
        try:
            found = whole(open_reader(path))
        except SlidefusionError:
            continue
        np.testing.assert_array_equal(found, expected)


def test_a_damaged_tile_is_named(tmp_path: Path) -> None:
    path = tmp_path / "d.ome.tif"
    options = {"tile": (32, 32), "compression": "zlib", "metadata": {"axes": "ZYX"}}
    tifffile.imwrite(path, noise(2, 70, 90), **options)
    with tifffile.TiffFile(path) as tif:
        offset, count = tif.pages[1].dataoffsets[4], tif.pages[1].databytecounts[4]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * count)
    reader = open_reader(path)
    reader.read(0, Window(0, 0, 70, 90))
    with pytest.raises(ProcessingError, match=r"segment 4 of .*d\.ome\.tif"):
        reader.read(1, Window(0, 0, 70, 90))


def test_pickle_opens_the_file_again(tmp_path: Path) -> None:
    path = tmp_path / "p.tif"
    data = noise(5, 2, 20, 30)
    tifffile.imwrite(path, data, photometric="minisblack")
    reader = pickle.loads(pickle.dumps(open_reader(path, axes="ZCYX")))
    np.testing.assert_array_equal(whole(reader), data.transpose(1, 0, 2, 3))


def test_aperio_description_is_what_tifffile_takes_for_svs() -> None:
    assert APERIO.startswith("Aperio ")


def test_a_read_that_gives_less_than_was_asked_for_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the system does beyond 2 GiB."""
    path = tmp_path / "strip.tif"
    data = np.random.default_rng(0).integers(0, 256, (1, 90, 70), np.uint8)
    tifffile.imwrite(path, data, rowsperstrip=90, metadata=None)
    pread = os.pread
    monkeypatch.setattr("os.pread", lambda file, count, at: pread(file, min(count, 1000), at))
    np.testing.assert_array_equal(open_reader(path).read(0, Window(0, 0, 90, 70)), data)


def test_want_of_memory_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deflate.tif"
    tifffile.imwrite(path, np.zeros((64, 64), np.uint8), compression="zlib", metadata=None)

    def full(*given: object, **options: object) -> None:
        raise MemoryError

    reader = open_reader(path)
    monkeypatch.setattr(tifffile.TiffPage, "decode", property(lambda page: full))
    with pytest.raises(MemoryError):
        reader.read(0, Window(0, 0, 64, 64))
