"""One slide file a plane through tiffslide, against tifffile."""

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
    for z in range(2):  # tiffslide opens these, with one plane of three
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
