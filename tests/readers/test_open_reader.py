"""Which reader takes what, and one clear error for what none takes."""

from __future__ import annotations

import importlib.metadata
import os
import pickle
from pathlib import Path

import pytest
import tifffile
from PIL import Image

from slidefusion.errors import (
    OptionError,
    PluginError,
    ReaderError,
    StackError,
    UnknownNameError,
)
from slidefusion.readers import Reader, open_reader
from slidefusion.readers.sources import describe, public_name
from slidefusion.readers.tiff import TiffReader
from tests.readers.synthetic import noise, whole


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    path = tmp_path / "stack.ome.tif"
    tifffile.imwrite(path, noise(3, 20, 30), metadata={"axes": "ZYX"}, photometric="minisblack")
    return path


def test_a_reader_passes_through(stack: Path) -> None:
    reader = open_reader(stack)
    assert isinstance(reader, Reader)
    assert open_reader(reader) is reader
    with pytest.raises(OptionError, match="axes"):
        open_reader(reader, axes="ZYX")


def test_one_file_as_a_list_is_that_file(stack: Path) -> None:
    assert open_reader([stack]).shape == open_reader(stack).shape


def test_a_reader_by_name(stack: Path) -> None:
    assert isinstance(open_reader(stack, reader="tiff"), TiffReader)
    with pytest.raises(UnknownNameError, match=r"'tifff'.*did you mean 'tiff'"):
        open_reader(stack, reader="tifff")
    with pytest.raises(ReaderError, match=r"stack\.ome\.tif"):
        open_reader(stack, reader="images")
    with pytest.raises(OptionError, match=r"'axis'.*'axes'"):
        open_reader(stack, axis="ZYX")


@pytest.mark.parametrize("source", ["no.tif", "no/*.png", ["no.tif"], [], "no.zarr"])
def test_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: object) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownNameError, match=r"nothing was read|is not a file"):
        open_reader(source)


def test_a_relative_path_is_the_same_from_anywhere(
    stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "planes").mkdir()
    for z, plane in enumerate(noise(3, 8, 9)):
        Image.fromarray(plane).save(tmp_path / f"planes/{z}.png")
    monkeypatch.chdir(tmp_path)
    sources = [stack.name, "planes", "planes/*.png", ["planes/0.png", "planes/1.png"]]
    packed = [pickle.dumps(open_reader(source)) for source in sources]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert [pickle.loads(reader).shape[1] for reader in packed] == [3, 3, 3, 2]


def test_a_pattern_in_a_folder_that_looks_like_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run [1]*"
    folder.mkdir()
    for z, plane in enumerate(noise(3, 8, 9)):
        Image.fromarray(plane).save(folder / f"z{z}.png")
    monkeypatch.chdir(folder)
    assert open_reader("z*.png").shape[1] == 3
    with pytest.raises(UnknownNameError, match="there is no file or folder"):
        open_reader("z7.png")


def test_an_empty_path_is_not_the_current_folder() -> None:
    with pytest.raises(UnknownNameError, match="empty; nothing was read"):
        open_reader("")


def test_what_is_neither_file_nor_folder(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.tif")
    with pytest.raises(UnknownNameError, match="neither a file nor a folder"):
        open_reader(tmp_path / "pipe.tif")


def test_a_file_url_with_escapes(stack: Path) -> None:
    renamed = stack.rename(stack.with_name("a b.ome.tif"))
    assert open_reader(renamed.as_uri()).shape == (1, 3, 20, 30)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("memory://field", "no folder or glob"),
        ("memory://field/z*.png", "no folder or glob"),
        ("memory://field/no.tif", r"there is no file memory://field/no\.tif; nothing"),
        ("memory://field/z*.tif", r"z\*\.tif; name each file, as patterns are looked up in local"),
        ("http://127.0.0.1:9/no.tif", "check the address, the credentials and the connection"),
    ],
)
def test_urls_that_cannot_be_read(source: str, says: str) -> None:
    with pytest.raises((UnknownNameError, ReaderError), match=says):
        open_reader(source)


def test_sources_of_no_kind() -> None:
    with pytest.raises(UnknownNameError, match="type int"):
        open_reader(7)


def test_a_set_has_no_order_that_planes_could_have(tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.png" for name in "abc"]
    for path in files:
        Image.fromarray(noise(20, 30)).save(path)
    for source in (set(files), frozenset(files)):
        with pytest.raises(UnknownNameError, match="has no order"):
            open_reader(source)
    assert open_reader(dict.fromkeys(files).keys()).shape[1] == 3  # as they were put in


def test_lists_with_a_file_twice_or_of_mixed_kinds(stack: Path, tmp_path: Path) -> None:
    with pytest.raises(StackError, match="more than once"):
        open_reader([stack, stack])
    Image.fromarray(noise(20, 30)).save(tmp_path / "a.png")
    with pytest.raises(ReaderError, match=r"stack\.ome\.tif"):
        open_reader([tmp_path / "a.png", stack])


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.mrxs", b"\xff\xd8\xff\xe0", "MIRAX.*no open reader.*OME-TIFF"),
        ("a.vsi", b"II*\0", "VSI.*OME-TIFF"),
        ("a.czi", b"ZISRAWFILE", "CZI"),
        ("a.dcm", b"\0" * 128 + b"DICM", "DICOM.*bioformats2raw"),
        ("nameless", b"\0" * 128 + b"DICM", "DICOM"),
        ("a.zip", b"PK\x03\x04", "unpack"),
        ("a.tif", b"not a tiff", "Supported are"),
        ("a.svs", b"", "a.svs is empty: copy it again"),
        ("a.png", b"", "a.png is empty: copy it again"),
        ("a.tif", b"II*\0\x08\0\0\0", "cannot be read as TIFF|no picture"),
        ("a.png", b"\x89PNG\r\n\x1a\n", "cannot be opened"),
    ],
)
def test_what_cannot_be_read_says_why(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ReaderError, match=says) as error:
        open_reader(path)
    assert str(path) in str(error.value)


def test_an_mrxs_in_a_folder_or_list_is_refused(tmp_path: Path) -> None:
    for z in range(2):
        (tmp_path / f"{z}.mrxs").write_bytes(b"\xff\xd8\xff\xe0")
    for source in (tmp_path, sorted(tmp_path.glob("*.mrxs")), str(tmp_path / "*.mrxs")):
        with pytest.raises(ReaderError, match="MIRAX"):
            open_reader(source)


def test_a_plugin_is_asked_after_the_built_in_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from slidefusion import registry

    class Plugin:
        def __init__(self, source: object) -> None:
            self.source = source

        @classmethod
        def matches(cls, source: object) -> bool:
            return True

    real = registry.plugins("slidefusion.readers")
    group = "slidefusion.readers"
    broken = registry.Plugin("broken", "other", "1", "nowhere:Broken", group)
    mine = registry.Plugin("mine", "other", "1", "somewhere:Mine", group)
    monkeypatch.setattr(registry, "plugins", lambda group: (broken, *real))
    (tmp_path / "a.xyz").write_bytes(b"something")
    (tmp_path / "a.czi").write_bytes(b"ZISRAWFILE")
    (tmp_path / "folder").mkdir()
    with pytest.raises(PluginError, match="broken"):
        open_reader(tmp_path / "a.xyz")
    with pytest.raises(ReaderError, match="CZI"):
        open_reader(tmp_path / "a.czi")
    with pytest.raises(UnknownNameError, match="no image"):
        open_reader(tmp_path / "folder")
    load = registry.Plugin.load
    monkeypatch.setattr(registry, "plugins", lambda group: (broken, mine, *real))
    monkeypatch.setattr(
        registry.Plugin, "load", lambda self: Plugin if self.name == "mine" else load(self)
    )
    for name in ("a.xyz", "a.czi", "folder"):
        assert isinstance(open_reader(tmp_path / name), Plugin)


def test_built_in_readers_are_registered() -> None:
    names = {e.name for e in importlib.metadata.entry_points(group="slidefusion.readers")}
    assert {"images", "ngff", "slides", "tiff"} <= names


def test_provenance_holds_no_credentials(stack: Path) -> None:
    url = "https://user:secret@host.org/a.tif?X-Amz-Signature=abc"
    assert describe([url]) == [{"path": "https://host.org/a.tif"}]
    entry = open_reader(stack).provenance["files"][0]
    assert entry["path"] == public_name(str(stack))
    assert entry["bytes"] == stack.stat().st_size


def test_a_url_is_read_through_fsspec(stack: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe_file("/stack.tif", stack.read_bytes())
    try:
        remote = open_reader("memory://stack.tif")
        assert (whole(remote) == whole(open_reader(stack))).all()
    finally:
        memory.rm("/stack.tif")
