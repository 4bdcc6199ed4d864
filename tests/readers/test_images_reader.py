"""Plain pictures, one a plane, and folders that are not clearly one stack."""

from __future__ import annotations

import pickle
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageOps

from slidefusion.errors import ProcessingError, ReaderError, StackError, UnknownNameError
from slidefusion.geometry import Size, Window
from slidefusion.readers import open_reader
from tests.readers.synthetic import noise, whole


def save(path: Path, array: np.ndarray, **options: object) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def test_a_folder_of_png_in_numerical_order(tmp_path: Path) -> None:
    data = noise(12, 30, 40, 3)
    for z, plane in enumerate(data):
        save(tmp_path / f"z{z}.png", plane)
    (tmp_path / "LICENSE").write_text("free")
    for source in (tmp_path, str(tmp_path / "z*.png")):
        reader = open_reader(source)
        assert (reader.name, reader.tile, reader.is_rgb) == ("images", Size(30, 40), True)
        assert (reader.pixel_size_um, reader.z_um) == (None, None)
        assert "numbers in the file names" in reader.provenance["order"]
        np.testing.assert_array_equal(whole(reader), data.transpose(3, 0, 1, 2))
    again = pickle.loads(pickle.dumps(reader))
    np.testing.assert_array_equal(
        again.read(11, Window(3, 5, 7, 9)), data[11, 3:10, 5:14].transpose(2, 0, 1)
    )


def test_a_list_keeps_its_order_unless_it_is_merely_alphabetical(tmp_path: Path) -> None:
    data = noise(11, 8, 9)
    paths = [save(tmp_path / f"z{z}.png", plane) for z, plane in enumerate(data)]
    backwards = open_reader(paths[::-1])
    np.testing.assert_array_equal(whole(backwards)[0], data[::-1])
    assert backwards.provenance["order"] == "as listed"
    alphabetical = open_reader(sorted(map(str, paths)))
    np.testing.assert_array_equal(whole(alphabetical)[0], data)
    assert "alphabetical" in alphabetical.provenance["order"]


def test_same_names_in_two_folders(tmp_path: Path) -> None:
    near, far = noise(2, 8, 9, 3)
    paths = [save(tmp_path / "near" / "7.png", near), save(tmp_path / "far" / "7.png", far)]
    np.testing.assert_array_equal(whole(open_reader(paths))[:, 1], far.transpose(2, 0, 1))


def test_content_counts_not_the_name(tmp_path: Path) -> None:
    data = noise(2, 16, 16, 3)
    for z, plane in enumerate(data):
        save(tmp_path / f"i{z}.png", plane, format="JPEG")
    reader = open_reader(tmp_path)
    assert reader.provenance["format"] == "JPEG"
    oracle = [imagecodecs.jpeg_decode((tmp_path / f"i{z}.png").read_bytes()) for z in (0, 1)]
    difference = whole(reader).astype(int) - np.stack(oracle).transpose(3, 0, 1, 2)
    assert np.abs(difference).max() <= 2  # two builds of libjpeg


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_of_16_bits(tmp_path: Path, channels: int) -> None:
    data = noise(2, 12, 14, channels, dtype="uint16")
    if channels in (2, 4):
        data[..., -1] = 65535
    for z, plane in enumerate(data):
        (tmp_path / f"{z}.png").write_bytes(imagecodecs.png_encode(np.squeeze(plane)))
    reader = open_reader(tmp_path)
    kept = 1 if channels < 3 else 3
    assert (reader.dtype, reader.shape) == (np.uint16, (kept, 2, 12, 14))
    np.testing.assert_array_equal(whole(reader), data[..., :kept].transpose(3, 0, 1, 2))


def test_palette_bilevel_and_rotation(tmp_path: Path) -> None:
    colour = noise(8, 9, 3) // 64 * 64
    image = Image.fromarray(colour).quantize(256)
    image.save(tmp_path / "p.png")
    expected = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    np.testing.assert_array_equal(whole(open_reader(tmp_path / "p.png"))[:, 0], expected)
    bits = noise(8, 9) > 127
    Image.fromarray(bits).save(tmp_path / "b.bmp")
    np.testing.assert_array_equal(
        whole(open_reader(tmp_path / "b.bmp"))[0, 0], bits * np.uint8(255)
    )
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    save(tmp_path / "r.png", noise(8, 9), exif=exif)
    reader = open_reader(tmp_path / "r.png")
    assert reader.shape == (1, 1, 9, 8)
    np.testing.assert_array_equal(whole(reader)[0, 0], np.rot90(noise(8, 9), -1))


def test_alpha_must_be_opaque(tmp_path: Path) -> None:
    data = noise(8, 9, 4)
    data[..., 3] = 255
    save(tmp_path / "a.png", data)
    reader = open_reader(tmp_path / "a.png")
    np.testing.assert_array_equal(whole(reader)[:, 0], data[..., :3].transpose(2, 0, 1))
    data[0, 0, 3] = 0
    save(tmp_path / "a.png", data)
    with pytest.raises(StackError, match="1 transparent"):
        whole(open_reader(tmp_path / "a.png"))


def test_a_file_that_does_not_belong_is_named(tmp_path: Path) -> None:
    for z in range(3):
        save(tmp_path / f"z{z}.png", noise(8, 9))
    save(tmp_path / "edf_reference.png", noise(8, 9))
    for source in (tmp_path, str(tmp_path / "*.png")):
        with pytest.raises(StackError, match=r"edf_reference\.png does not fit.*/z\*\.png"):
            open_reader(source)
    assert open_reader(str(tmp_path / "z*.png")).shape[1] == 3


def test_differing_planes_are_named(tmp_path: Path) -> None:
    for z, height in enumerate((8, 8, 7)):
        save(tmp_path / f"{z}.bmp", noise(height, 9))
    with pytest.raises(StackError, match=r"size: 0\.bmp: 8 x 9 px, but 2\.bmp: 7 x 9 px"):
        open_reader(tmp_path)
    save(tmp_path / "2.bmp", noise(8, 9, 3))
    with pytest.raises(StackError, match=r"channels: 0\.bmp: 1, but 2\.bmp: 3"):
        open_reader(tmp_path)


def test_folders_without_a_stack(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="no image"):
        open_reader(tmp_path)
    save(tmp_path / "planes" / "0.png", noise(8, 9))
    with pytest.raises(UnknownNameError, match=r"folders: planes.*pass one"):
        open_reader(tmp_path)
    save(tmp_path / "edf.png", noise(8, 9))
    with pytest.raises(StackError, match="pass the folder of the planes"):
        open_reader(tmp_path)


def test_pictures_that_hold_several(tmp_path: Path) -> None:
    frames = [Image.fromarray(noise(8, 9, seed=k)) for k in range(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(ReaderError, match="3 pictures"):
        open_reader(tmp_path / "a.gif")


def test_cmyk_is_refused(tmp_path: Path) -> None:
    Image.fromarray(noise(8, 9, 4), mode=None).convert("CMYK").save(tmp_path / "a.jpg")
    with pytest.raises(ReaderError, match="CMYK"):
        open_reader(tmp_path / "a.jpg")


def test_damaged_pictures(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", noise(60, 70, 3))
    data = path.read_bytes()
    path.write_bytes(data[:10])
    with pytest.raises(ReaderError, match=r"a\.png"):
        open_reader(path)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ProcessingError, match=r"a\.png cannot be decoded"):
        whole(open_reader(path))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["uint8", "uint16"])
def test_orientation_is_followed_whatever_the_bits(
    tmp_path: Path, orientation: int, kind: str
) -> None:
    data = noise(2, 11, 17)
    exif = Image.Exif()
    exif[0x0112] = orientation
    for z, plane in enumerate(data):
        save(tmp_path / f"{z}.png", plane.astype(kind) * (1 if kind == "uint8" else 257), exif=exif)
    with Image.open(save(tmp_path / "gray/0.png", data[1], exif=exif)) as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture))
    reader = open_reader(str(tmp_path / "*.png"))
    assert reader.dtype == kind
    np.testing.assert_array_equal(whole(reader)[0, 1] // (1 if kind == "uint8" else 257), expected)


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_2000_of_any_depth(tmp_path: Path, bits: int, channels: int) -> None:
    data = noise(2, 30, 40, channels, dtype="uint16") >> (16 - bits)
    data = data.astype("uint8" if bits == 8 else "uint16")
    for z, plane in enumerate(data):
        coded = imagecodecs.jpeg2k_encode(
            plane.squeeze(), level=0, codecformat="jp2", bitspersample=bits
        )
        (tmp_path / f"{z}.jp2").write_bytes(coded)
    reader = open_reader(tmp_path)
    assert reader.dtype == data.dtype
    np.testing.assert_array_equal(whole(reader), data.transpose(3, 0, 1, 2))


@pytest.mark.parametrize("other", ["z0.pdf", "z0.h5", "z0.csv", "z0.png.json", "._z0.png"])
def test_what_lies_beside_planes_does_not_matter(tmp_path: Path, other: str) -> None:
    for z, plane in enumerate(noise(2, 8, 9)):
        save(tmp_path / f"z{z}.png", plane)
    (tmp_path / other).write_bytes(b"something else")
    (tmp_path / "z0").mkdir()
    assert open_reader(tmp_path).shape[1] == 2


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_colour_that_is_transparent_is_no_pixel(tmp_path: Path, mode: str) -> None:
    picture = Image.fromarray(np.full((8, 9), 200, np.uint8)).convert(mode)
    clear = 200 if mode == "L" else (200, 200, 200)
    for z in range(2):
        picture.save(
            tmp_path / f"{z}.png", transparency=clear if z else 3 if mode == "L" else (3, 3, 3)
        )
    reader = open_reader(tmp_path)
    assert (reader.read(0, Window(0, 0, 8, 9)) == 200).all()
    with pytest.raises(StackError, match="72 transparent pixels"):
        reader.read(1, Window(0, 0, 8, 9))


@pytest.mark.parametrize("glob", [False, True])
def test_what_is_named_like_a_plane_is_not_left_out(tmp_path: Path, glob: bool) -> None:
    folder = tmp_path / "field"
    for z, plane in enumerate(noise(3, 8, 9)):
        save(folder / f"z{z}.png", plane)
    (folder / "z0.xml").write_text("<metadata/>")
    (folder / "notes.txt").write_text("fine")
    source = folder / "z*.png" if glob else folder
    assert open_reader(source).shape[1] == 3
    last = folder / "z3.png"
    last.symlink_to(folder / "nowhere.png")
    with pytest.raises(StackError, match=r"z3\.png .* link to what is not there"):
        open_reader(source)
    last.unlink()
    last.mkdir()
    with pytest.raises(StackError, match=r"z3\.png .* is a folder"):
        open_reader(source)
    last.rmdir()
    last.touch()
    with pytest.raises((StackError, ReaderError), match=r"z3\.png"):
        open_reader(source)
    last.rename(folder / "z3.pgm")
    if not glob:
        with pytest.raises(StackError, match=r"z3\.pgm .* is empty"):
            open_reader(source)
