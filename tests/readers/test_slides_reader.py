"""One slide file a plane, against tifffile."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import tifffile

from slidefusion.errors import ReaderError, StackError
from slidefusion.geometry import Size, Window
from slidefusion.readers import open_reader
from tests.readers.synthetic import noise, whole, write_ndpi, write_svs


@pytest.fixture
def planes() -> np.ndarray:
    return noise(3, 200, 300, 3)


def test_a_folder_of_svs(tmp_path: Path, planes: np.ndarray) -> None:
    for z, plane in zip((2, 10, 9), planes, strict=True):
        write_svs(tmp_path / f"scan_z{z}.svs", plane[np.newaxis])
    reader = open_reader(tmp_path)
    assert (reader.name, reader.shape, reader.tile) == ("slides", (3, 3, 200, 300), Size(64, 64))
    assert reader.pixel_size_um == (0.243, 0.243)
    assert reader.z_um is None
    assert reader.is_rgb
    expected = planes[[0, 2, 1]].transpose(3, 0, 1, 2)
    np.testing.assert_array_equal(whole(reader), expected)
    again = pickle.loads(pickle.dumps(reader))
    np.testing.assert_array_equal(
        again.read(1, Window(50, 60, 70, 100)), expected[:, 1, 50:120, 60:160]
    )
    reader.close()


def test_positions_from_ndpi_files(tmp_path: Path, planes: np.ndarray) -> None:
    paths = [
        write_ndpi(tmp_path / f"{z}.ndpi", plane[np.newaxis], [z_nm])
        for z, (plane, z_nm) in enumerate(zip(planes, (-2000, 0, 3500), strict=True))
    ]
    reader = open_reader(paths)
    assert reader.z_um == (-2.0, 0.0, 3.5)
    assert reader.pixel_size_um == pytest.approx((0.2, 0.25))
    np.testing.assert_array_equal(whole(reader), planes.transpose(3, 0, 1, 2))
    backwards = open_reader(paths[::-1])
    assert backwards.z_um is None
    assert backwards.provenance["positions_not_used_um"] == [3.5, 0.0, -2.0]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_flat_gray_tiff(tmp_path: Path, dtype: str) -> None:
    data = noise(2, 40, 50, dtype=dtype)
    for z, plane in enumerate(data):
        tifffile.imwrite(tmp_path / f"{z}.tif", plane)
    reader = open_reader(tmp_path)
    assert (reader.dtype, reader.shape) == (np.dtype(dtype), (1, 2, 40, 50))
    np.testing.assert_array_equal(whole(reader)[0], data)


def test_files_that_hold_more_than_one_plane_are_refused(
    tmp_path: Path, planes: np.ndarray
) -> None:
    for z in range(2):
        write_svs(tmp_path / f"{z}.svs", planes)
    with pytest.raises((ReaderError, StackError), match=r"0\.svs.*pass"):
        open_reader(tmp_path)
    for z in range(2):  # its first series has one plane of three
        write_svs(tmp_path / f"{z}.svs", planes, low=[0])
    with pytest.raises(ReaderError, match=r"0\.svs"):
        open_reader(tmp_path)


def test_slides_of_different_size(tmp_path: Path, planes: np.ndarray) -> None:
    write_svs(tmp_path / "0.svs", planes[:1])
    write_svs(tmp_path / "1.svs", planes[:1, :190])
    with pytest.raises(StackError, match=r"200 x 300 px, but 1\.svs: 190 x 300 px"):
        open_reader(tmp_path)


@pytest.mark.parametrize("channels", [2, 3, 5])
@pytest.mark.parametrize("imagej", [False, True])
def test_all_channels_of_every_file(tmp_path: Path, channels: int, imagej: bool) -> None:
    data = noise(3, channels, 40, 50)
    names = [f"stain {c}" for c in range(channels)]
    for z, plane in enumerate(data):
        about = {"axes": "CYX"} if imagej else {"axes": "CYX", "Channel": {"Name": names}}
        name = f"z{z}.tif" if imagej else f"z{z}.ome.tif"
        options = {"imagej": True} if imagej else {}
        tifffile.imwrite(
            tmp_path / name, plane, photometric="minisblack", metadata=about, **options
        )
    reader = open_reader(tmp_path)
    assert reader.shape == (channels, 3, 40, 50)
    np.testing.assert_array_equal(whole(reader), data.transpose(1, 0, 2, 3))
    if not imagej:
        assert reader.channel_names == tuple(names)


def test_how_values_are_shown_is_kept(tmp_path: Path) -> None:
    for z, plane in enumerate(noise(2, 40, 50)):
        tifffile.imwrite(tmp_path / f"{z}.tif", plane, photometric="miniswhite")
    assert open_reader(tmp_path).looks == ({"inverted": True},)


def write_scn(path: Path, areas: dict[tuple[int, int], np.ndarray]) -> Path:
    """A Leica SCN of 600 x 800 px at 0.5 um: a macro picture, and scan areas at (y, x)."""
    pictures = [np.full((150, 200, 3), 200, np.uint8), np.full((75, 100, 3), 200, np.uint8)]
    entries = [_scn_image("macro", (600, 800), (0, 0), pictures, 0)]
    for number, (place, area) in enumerate(areas.items()):
        pictures += [area, area[::2, ::2]]
        entries.append(_scn_image(f"area {number}", area.shape[:2], place, pictures, -2))
    xml = (
        '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">'
        f'<collection name="c" uuid="u" sizeX="400000" sizeY="300000">{"".join(entries)}'
        "</collection></scn>"
    )
    with tifffile.TiffWriter(path, bigtiff=True) as tif:
        for k, picture in enumerate(pictures):
            tif.write(
                picture,
                photometric="rgb",
                tile=(64, 64),
                metadata=None,
                description=None if k else xml,
                compression="zlib",
            )
    return path


def _scn_image(
    name: str, size: tuple[int, ...], place: tuple[int, int], pictures: list, first: int
) -> str:
    numbers = range(len(pictures))[first:]
    levels = "".join(
        f'<dimension sizeX="{pictures[k].shape[1]}" sizeY="{pictures[k].shape[0]}" '
        f'r="{r}" ifd="{k}"/>'
        for r, k in enumerate(numbers)
    )
    height, width, _ = pictures[numbers[0]].shape
    return (
        f'<image name="{name}"><creationDate>2013</creationDate><device model="m" version="v"/>'
        f'<pixels sizeX="{width}" sizeY="{height}">{levels}</pixels><view sizeX="{size[1] * 500}" '
        f'sizeY="{size[0] * 500}" offsetX="{place[1] * 500}" offsetY="{place[0] * 500}" '
        'spacingZ="0"/><scanSettings><objectiveSettings><objective>20</objective>'
        "</objectiveSettings><illuminationSettings><numericalAperture>0.4</numericalAperture>"
        "<illuminationSource>brightfield</illuminationSource></illuminationSettings>"
        "</scanSettings></image>"
    )


@pytest.mark.parametrize("suffix", ["scn", "SCN", "tif"])
def test_scan_areas_of_a_leica_file_lie_where_it_says(tmp_path: Path, suffix: str) -> None:
    data = noise(2, 2, 200, 300, 3)
    for z, (left, right) in enumerate(data):
        write_scn(tmp_path / f"z{z}.{suffix}", {(80, 100): left, (300, 450): right})
    reader = open_reader(tmp_path)
    assert (reader.name, reader.pixel_size_um) == ("slides", (0.5, 0.5))
    assert reader.shape[:2] == (3, 2)
    for z in range(2):
        plane = whole(reader)[:, z].transpose(1, 2, 0)
        for (y, x), area in zip(((80, 100), (300, 450)), data[z], strict=True):
            np.testing.assert_array_equal(plane[y : y + 200, x : x + 300], area)
    if suffix != "tif":
        assert open_reader(tmp_path / f"z0.{suffix}").shape[1] == 1


def test_a_name_makes_no_leica_file(tmp_path: Path, planes: np.ndarray) -> None:
    path = tmp_path / "planes.scn"
    tifffile.imwrite(path, planes, photometric="rgb", tile=(64, 64))
    assert open_reader(path).name == "tiff"
    np.testing.assert_array_equal(whole(open_reader(path)), planes.transpose(3, 0, 1, 2))


def test_what_files_say_differently_is_left_out(tmp_path: Path) -> None:
    for z, plane in enumerate(noise(2, 2, 40, 50)):
        about = {"axes": "CYX", "Channel": {"Name": ["DAPI", f"stain {z}"]}}
        tifffile.imwrite(
            tmp_path / f"z{z}.ome.tif", plane, photometric="minisblack", metadata=about
        )
    assert "DAPI" not in open_reader(tmp_path).channel_names
