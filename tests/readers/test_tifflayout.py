"""Which pages of a TIFF are the stack: against what was written, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from slidefusion.errors import OptionError, ReaderError, StackError
from slidefusion.readers import open_reader
from tests.readers.synthetic import noise, whole, write_ndpi, write_svs


def test_three_gray_planes_that_the_writer_took_for_rgb(tmp_path: Path) -> None:
    path = tmp_path / "three.tif"
    data = noise(3, 50, 60)
    tifffile.imwrite(path, data, photometric="rgb", metadata={"axes": "ZYX"}, tile=(32, 32))
    reader = open_reader(path)
    assert reader.shape == (1, 3, 50, 60)
    np.testing.assert_array_equal(whole(reader)[0], data)


def test_svs_of_three_planes(tmp_path: Path) -> None:
    planes = noise(3, 200, 300, 3)
    reader = open_reader(write_svs(tmp_path / "a.svs", planes))
    assert reader.pixel_size_um == (0.243, 0.243)
    assert reader.z_um is None
    assert reader.provenance["other_pictures"] == ["Thumbnail", "Label", "Macro"]
    np.testing.assert_array_equal(whole(reader), planes.transpose(3, 0, 1, 2))


def test_svs_says_where_its_planes_lie(tmp_path: Path) -> None:
    planes = noise(3, 200, 300, 3)
    reader = open_reader(write_svs(tmp_path / "a.svs", planes, z_um=(0, -1.5, 1.5)))
    assert reader.z_um == (-1.5, 0.0, 1.5)
    np.testing.assert_array_equal(whole(reader), planes[[1, 0, 2]].transpose(3, 0, 1, 2))
    some = open_reader(write_svs(tmp_path / "b.svs", planes, z_um=(0, -1.5, -1.5)))
    assert some.z_um is None


@pytest.mark.parametrize(
    "damage",
    [
        {"low": [0]},
        {"low": [0, 1]},
        {"thumbnail_at": 2},
        {"thumbnail_at": 3},
        {"after_label": noise(200, 300, 3)},
    ],
    ids=str,
)
def test_svs_whose_planes_do_not_fit_its_series_is_refused(
    tmp_path: Path, damage: dict[str, Any]
) -> None:
    path = write_svs(tmp_path / "a.svs", noise(3, 200, 300, 3), **damage)
    with pytest.raises((ReaderError, StackError), match=r"planes|pages|pictures") as error:
        open_reader(path)
    assert "OME-TIFF" in str(error.value) or "series=N" in str(error.value)


def test_ndpi_planes_come_in_the_order_of_their_positions(tmp_path: Path) -> None:
    planes = noise(3, 200, 300, 3)
    reader = open_reader(write_ndpi(tmp_path / "a.ndpi", planes, [0, -2700, 2500]))
    assert reader.provenance["format"] == "ndpi"
    assert reader.pixel_size_um == pytest.approx((0.2, 0.25))
    assert reader.z_um == (-2.7, 0.0, 2.5)
    np.testing.assert_array_equal(whole(reader), planes[[1, 0, 2]].transpose(3, 0, 1, 2))


def test_ome_tiff_over_several_files_needs_all_of_them(tmp_path: Path) -> None:
    data = noise(2, 20, 30)
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:a">'
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="30" '
        'SizeY="20" SizeZ="2" SizeC="1" SizeT="1"><Channel ID="Channel:0" SamplesPerPixel="1"/>'
        '<TiffData IFD="0" FirstZ="0" PlaneCount="1"><UUID FileName="a.ome.tif">urn:uuid:a</UUID>'
        '</TiffData><TiffData IFD="0" FirstZ="1" PlaneCount="1"><UUID FileName="b.ome.tif">'
        "urn:uuid:b</UUID></TiffData></Pixels></Image></OME>"
    )
    for name, plane in zip("ab", data, strict=True):
        text = xml.replace('UUID="urn:uuid:a"', f'UUID="urn:uuid:{name}"')
        tifffile.imwrite(tmp_path / f"{name}.ome.tif", plane, description=text, metadata=None)
    reader = open_reader(tmp_path / "a.ome.tif")
    np.testing.assert_array_equal(whole(reader)[0], data)
    assert len(reader.provenance["files"]) == 2
    (tmp_path / "b.ome.tif").unlink()
    with pytest.raises(ReaderError, match=r"not complete.*b\.ome\.tif"):
        open_reader(tmp_path / "a.ome.tif")


def test_a_part_of_a_set_is_not_the_whole(tmp_path: Path) -> None:
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:b">'
        '<BinaryOnly MetadataFile="a.companion.ome" UUID="urn:uuid:a"/></OME>'
    )
    with tifffile.TiffWriter(tmp_path / "b.ome.tif") as tif:
        for plane in noise(2, 20, 30):
            tif.write(plane, description=xml, metadata=None, contiguous=False)
    with pytest.raises(ReaderError, match="one of a set of files"):
        open_reader(tmp_path / "b.ome.tif")


def test_axes_that_the_file_does_not_name(tmp_path: Path) -> None:
    path = tmp_path / "q.tif"
    data = noise(5, 2, 20, 30)
    tifffile.imwrite(path, data, photometric="minisblack")
    with pytest.raises(StackError, match="axes="):
        open_reader(path)
    reader = open_reader(path, axes="ZCYX")
    np.testing.assert_array_equal(whole(reader), data.transpose(1, 0, 2, 3))
    np.testing.assert_array_equal(
        whole(open_reader(path, axes="ZZYX"))[0], data.reshape(10, 20, 30)
    )
    for wrong in ("ZYX", "ZCXX", "ZQYX", "ZCXY", "YXZC"):
        with pytest.raises(OptionError, match="axes="):
            open_reader(path, axes=wrong)


def test_time_is_no_depth(tmp_path: Path) -> None:
    path = tmp_path / "t.ome.tif"
    tifffile.imwrite(path, noise(5, 20, 30), metadata={"axes": "TYX"})
    with pytest.raises(StackError, match=r"5 time points.*axes='ZYX'"):
        open_reader(path)
    assert open_reader(path, axes="zyx").shape == (1, 5, 20, 30)


def test_several_series_are_not_chosen_from_silently(tmp_path: Path) -> None:
    path = tmp_path / "two.ome.tif"
    first, second = noise(2, 40, 50), noise(3, 40, 50, seed=1)
    with tifffile.TiffWriter(path) as tif:
        tif.write(first, metadata={"axes": "ZYX"}, photometric="minisblack")
        tif.write(second, metadata={"axes": "ZYX"}, photometric="minisblack")
    with pytest.raises(StackError, match="series=N"):
        open_reader(path)
    for number in (1, np.int64(1)):
        np.testing.assert_array_equal(whole(open_reader(path, series=number))[0], second)
    with pytest.raises(OptionError, match="series=True"):
        open_reader(path, series=True)
    with pytest.raises(OptionError, match="series=2"):
        open_reader(path, series=2)
    with pytest.raises(OptionError, match=r"series='a'.* the number of a series"):
        open_reader(path, series="a")


def test_planes_of_different_size_in_one_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "sizes.tif"
    with tifffile.TiffWriter(path) as tif:
        for height in (40, 41, 43):
            tif.write(noise(height, 50), metadata=None)
    with pytest.raises(StackError, match=r"40x50.*41x50.*43x50"):
        open_reader(path)


def test_pyramid_levels_are_not_planes(tmp_path: Path) -> None:
    path = tmp_path / "pyramid.ome.tif"
    data = noise(3, 128, 96)
    with tifffile.TiffWriter(path) as tif:
        options = {"photometric": "minisblack", "tile": (32, 32)}
        tif.write(data, subifds=1, metadata={"axes": "ZYX"}, **options)
        tif.write(data[:, ::2, ::2], subfiletype=1, **options)
    np.testing.assert_array_equal(whole(open_reader(path))[0], data)


@pytest.mark.parametrize(
    "codings",
    [
        [{}, {}, {}],
        [{}, {"compression": "zlib"}, {}],
        [{"tile": (32, 32)}, {"tile": (48, 32)}, {}],
        [{"compression": "lzw", "predictor": True}, {}, {"compression": "lzw"}],
    ],
)
@pytest.mark.parametrize("metadata", [None, {}])  # what tifffile notes makes each page a series
@pytest.mark.parametrize("samples", [1, 3])
def test_pages_that_only_coding_sets_apart_are_one_stack(
    tmp_path: Path, codings: list[dict[str, Any]], metadata: Any, samples: int
) -> None:
    path, data = tmp_path / "each.tif", noise(3, 70, 90, samples)
    meaning = "rgb" if samples == 3 else "minisblack"
    with tifffile.TiffWriter(path) as tif:
        for plane, coding in zip(data, codings, strict=True):
            image = plane if samples == 3 else plane[..., 0]
            tif.write(image, metadata=metadata, contiguous=False, photometric=meaning, **coding)
    np.testing.assert_array_equal(whole(open_reader(path)), data.transpose(3, 0, 1, 2))


def test_a_part_of_a_stack_is_no_stack(tmp_path: Path) -> None:
    path = tmp_path / "some.tif"
    with tifffile.TiffWriter(path) as tif:
        for plane, coding in zip(noise(3, 70, 90), (None, "zlib", None), strict=True):
            tif.write(plane, metadata=None, contiguous=False, compression=coding)
    with pytest.raises(OptionError, match=r"series=0: pages .* all 3 are one stack: leave"):
        open_reader(path, series=0)


def test_pages_of_other_meaning_are_no_planes(tmp_path: Path) -> None:
    path = tmp_path / "turned.tif"
    with tifffile.TiffWriter(path) as tif:
        for plane, meaning in zip(noise(2, 70, 90), ("minisblack", "miniswhite"), strict=True):
            tif.write(plane, metadata=None, contiguous=False, photometric=meaning)
    with pytest.raises(StackError, match="holds several pictures that may be meant"):
        open_reader(path)


_TWO_IMAGES = """<?xml version="1.0" encoding="UTF-8"?>
<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">
<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="30" SizeY="20"
SizeZ="2" SizeC="1" SizeT="1"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>
<TiffData IFD="0" FirstZ="0" PlaneCount="1"/><TiffData IFD="1" FirstZ="1" PlaneCount="1"/></Pixels>
</Image><Image ID="Image:1"><Pixels ID="Pixels:1" DimensionOrder="XYZCT" Type="uint8" SizeX="30"
SizeY="20" SizeZ="3" SizeC="1" SizeT="1"><Channel ID="Channel:1:0" SamplesPerPixel="1"/>
<TiffData IFD="2" FirstZ="0" PlaneCount="1"/></Pixels></Image></OME>"""


def test_a_plane_that_is_missing_in_one_of_several_images(tmp_path: Path) -> None:
    path, planes = tmp_path / "two.ome.tif", noise(3, 20, 30)
    with tifffile.TiffWriter(path, ome=False) as tif:
        for k, plane in enumerate(planes):
            tif.write(plane, metadata=None, contiguous=False, description="" if k else _TWO_IMAGES)
    with pytest.raises(StackError, match="holds several pictures that may be meant"):
        open_reader(path)
    with pytest.raises(ReaderError, match="missing 2 frames"):
        open_reader(path, series=1)


def test_a_thumbnail_is_no_part_of_the_stack_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "thumb.tif"
    with tifffile.TiffWriter(path) as tif:
        for plane, coding in zip(noise(3, 80, 100), (None, "zlib", None), strict=True):
            tif.write(plane, metadata=None, contiguous=False, compression=coding)
        tif.write(noise(1, 33, 25)[0], metadata=None, contiguous=False)
    with tifffile.TiffFile(path) as tif:
        small = next(k for k, series in enumerate(tif.series) if series.shape == (33, 25))
    assert open_reader(path, series=small).shape == (1, 1, 33, 25)
    with pytest.raises(OptionError, match="all 3 are one stack"):
        open_reader(path, series=0)
