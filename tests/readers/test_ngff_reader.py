"""Existing OME-Zarr images of both versions, written with zarr alone."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import slidefusion as sf
from slidefusion.errors import OutputError, ProcessingError, StackError
from slidefusion.geometry import Size, Window
from slidefusion.readers import open_reader
from slidefusion.readers.ngff import NgffReader
from tests.readers.synthetic import noise, whole


def write(
    path: Path,
    data: np.ndarray,
    axes: str,
    *,
    version: str = "0.4",
    chunks: tuple[int, ...] | None = None,
    scale: tuple[float, ...] | None = None,
    translation: tuple[float, ...] | None = None,
    unit: str = "micrometer",
    **blocks: Any,
) -> Path:
    kinds = {"t": "time", "c": "channel"}
    described = [
        {"name": a, "type": kinds.get(a, "space"), **({"unit": unit} if a in "zyx" else {})}
        for a in axes
    ]
    transforms: list[dict[str, Any]] = [{"type": "scale", "scale": scale or (1.0,) * len(axes)}]
    if translation:
        transforms.append({"type": "translation", "translation": translation})
    image = {
        "axes": described,
        "datasets": [{"path": "full", "coordinateTransformations": transforms}],
    }
    zarr_format = 2 if version == "0.4" else 3
    group = zarr.open_group(str(path), mode="w", zarr_format=zarr_format)
    group.create_array("full", data=data, chunks=chunks or data.shape)
    if version == "0.4":
        group.attrs.update({"multiscales": [{"version": "0.4", **image}], **blocks})
    else:
        group.attrs["ome"] = {"version": version, "multiscales": [image], **blocks}
    return path


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize(
    ("axes", "chunks"),
    [
        ("tczyx", (1, 1, 1, 16, 16)),
        ("tczyx", (1, 2, 3, 70, 90)),
        ("czyx", (2, 2, 31, 17)),
        ("zyx", (4, 20, 90)),
        ("zyx", (1, 70, 90)),
    ],
)
def test_any_axes_and_chunking(
    tmp_path: Path, version: str, axes: str, chunks: tuple[int, ...]
) -> None:
    sizes = {"t": 1, "c": 2, "z": 5, "y": 70, "x": 90}
    data = noise(*(sizes[a] for a in axes), dtype="uint16")
    path = write(tmp_path / "a.zarr", data, axes, version=version, chunks=chunks)
    reader = open_reader(path)
    czyx = data.reshape(-1, 5, 70, 90)
    assert reader.provenance["format"] == f"OME-Zarr {version}"
    assert reader.shape == czyx.shape
    np.testing.assert_array_equal(whole(reader), czyx)
    part = Window(11, 21, 33, 44)
    for z in (4, 0, 2, 3, 1):
        np.testing.assert_array_equal(reader.read(z, part), czyx[:, z, 11:44, 21:65])
    again = pickle.loads(pickle.dumps(reader))
    np.testing.assert_array_equal(again.read(3, part), czyx[:, 3, 11:44, 21:65])


def test_scale_translation_and_channels(tmp_path: Path) -> None:
    omero = {"channels": [{"label": "dapi", "color": "0000FF"}, {"label": "gfp"}]}
    path = write(
        tmp_path / "a.zarr",
        noise(2, 3, 40, 50),
        "czyx",
        scale=(1.0, 1500.0, 250.0, 300.0),
        translation=(0.0, -2000.0, 0.0, 0.0),
        unit="nanometer",
        chunks=(1, 3, 16, 20),
        omero=omero,
    )
    reader = open_reader(path)
    assert reader.pixel_size_um == pytest.approx((0.25, 0.3))
    assert reader.z_um == pytest.approx((-2.0, -0.5, 1.0))
    assert reader.channel_names == ("dapi", "gfp")
    assert not reader.is_rgb
    assert reader.tile == Size(16, 20)
    assert reader.planes_at_once == 3


def test_the_place_of_the_first_pixel_is_kept(tmp_path: Path) -> None:
    scale, place = (1.0, 1.0, 0.25, 0.5), (0.0, 0.0, 1200.5, -30.0)
    known = write(tmp_path / "a.zarr", noise(1, 2, 40, 50), "czyx", scale=scale, translation=place)
    stack = sf.open_stack(sf.convert(known, tmp_path / "b.zarr", progress=False))
    assert (float(stack.y[0]), float(stack.x[0]), float(stack.x[1])) == (1200.5, -30.0, -29.5)
    fused = sf.fuse(tmp_path / "b.zarr", crop=(4, 2, 8, 8), background="fuse")
    assert (float(fused.y[0]), float(fused.x[0])) == (1201.5, -29.0)
    # In pixels, where the size of one is not known but given.
    place = (0.0, 0.0, 12.0, 30.0)
    unknown = write(tmp_path / "c.zarr", noise(1, 2, 40, 50), "czyx", unit="", translation=place)
    sizes = {"pixel_size_um": 0.5, "z_step_um": 1.0}
    stack = sf.open_stack(sf.convert(unknown, tmp_path / "d.zarr", progress=False, **sizes))
    assert (float(stack.y[0]), float(stack.x[0])) == (6.0, 15.0)


def test_how_channels_are_shown_is_kept(tmp_path: Path) -> None:
    window = {"min": 0.0, "max": 255.0, "start": 10.0, "end": 200.0}
    channels = [
        {"label": "a", "color": "00ffff", "window": window, "active": False},
        {"label": "b", "color": "FF00FF", "window": {**window, "start": "low"}},
    ]
    scale, omero = (1.0, 2.0, 0.5, 0.5), {"channels": channels}
    given = write(tmp_path / "a.zarr", noise(2, 2, 40, 50), "czyx", scale=scale, omero=omero)
    sf.convert(given, tmp_path / "stack.zarr", progress=False)
    for source in (given, tmp_path / "stack.zarr"):
        sf.fuse(source, out=tmp_path / "slide.zarr", progress=False, overwrite=True)
        for out in ("stack.zarr", "slide.zarr"):
            a, b = zarr.open_group(tmp_path / out).attrs["ome"]["omero"]["channels"]
            assert (a["label"], a["color"], a["window"]) == ("a", "00FFFF", window)
            assert (a["active"], b["color"], b["window"]["start"]) == (False, "FF00FF", 0)


def test_the_largest_level_is_the_first(tmp_path: Path) -> None:
    group = zarr.open_group(str(write(tmp_path / "a.zarr", noise(1, 2, 20, 25), "czyx")), mode="r+")
    group.create_array("large", data=noise(1, 2, 40, 50))
    block = dict(group.attrs)["multiscales"]
    block[0]["datasets"].append({**block[0]["datasets"][0], "path": "large"})
    group.attrs["multiscales"] = block
    with pytest.raises(StackError, match=r"'full' of \(20, 25\) px before 'large' of \(40, 50\)"):
        sf.fuse(tmp_path / "a.zarr")
    with pytest.raises(StackError, match="the largest must be the first"):
        sf.convert(tmp_path / "a.zarr", tmp_path / "b.zarr")


def test_zarr_2_in_the_order_of_fortran(tmp_path: Path) -> None:
    data = noise(1, 3, 130, 150)
    path = write(tmp_path / "a.zarr", noise(1, 3, 8, 8), "czyx")
    group = zarr.open_group(str(path), mode="r+")
    array = group.create_array(
        "full", shape=data.shape, dtype="u1", chunks=(1, 1, 64, 64), order="F", overwrite=True
    )
    array[...] = data
    np.testing.assert_array_equal(sf.open_stack(path).values, data)
    np.testing.assert_array_equal(whole(open_reader(path)), data)


def test_a_scale_without_a_unit_is_no_size(tmp_path: Path) -> None:
    reader = open_reader(write(tmp_path / "a.zarr", noise(3, 40, 50), "zyx", unit="pixel"))
    assert (reader.pixel_size_um, reader.z_um) == (None, None)


def test_bioformats2raw_layout(tmp_path: Path) -> None:
    data = noise(3, 40, 50)
    zarr.open_group(str(tmp_path / "b.zarr"), mode="w", zarr_format=2).attrs[
        "bioformats2raw.layout"
    ] = 3
    write(tmp_path / "b.zarr" / "0", data, "zyx")
    np.testing.assert_array_equal(whole(open_reader(tmp_path / "b.zarr"))[0], data)
    write(tmp_path / "b.zarr" / "1", data, "zyx")
    with pytest.raises(StackError, match=r"2 images.*b\.zarr/0"):
        open_reader(tmp_path / "b.zarr")


def test_what_is_no_stack(tmp_path: Path) -> None:
    write(tmp_path / "t.zarr", noise(2, 1, 3, 40, 50), "tczyx")
    with pytest.raises(StackError, match="time points"):
        open_reader(tmp_path / "t.zarr")
    write(tmp_path / "d.zarr", np.zeros((3, 40, 50), "int16"), "zyx")
    with pytest.raises(StackError, match="int16"):
        open_reader(tmp_path / "d.zarr")
    zarr.open_group(str(tmp_path / "g.zarr"), mode="w")
    with pytest.raises(StackError, match="multiscales"):
        open_reader(tmp_path / "g.zarr")
    zarr.open_group(str(tmp_path / "p.zarr"), mode="w").attrs["ome"] = {"plate": {}}
    with pytest.raises(StackError, match="plate"):
        open_reader(tmp_path / "p.zarr")


@pytest.mark.parametrize("planes_a_chunk", [1, 3])
def test_a_truncated_chunk_is_named(tmp_path: Path, planes_a_chunk: int) -> None:
    path = write(
        tmp_path / "a.zarr", noise(3, 40, 50), "zyx", chunks=(planes_a_chunk, 40, 50), version="0.5"
    )
    chunk = path / "full" / "c" / "0" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-20])
    with pytest.raises(ProcessingError, match=r"a\.zarr"):
        whole(open_reader(path))


@pytest.mark.parametrize("planes_a_chunk", [1, 3])
def test_a_lost_chunk_of_a_stack_of_ours_is_named(tmp_path: Path, planes_a_chunk: int) -> None:
    given = write(tmp_path / "a.zarr", noise(1, 3, 40, 50), "czyx")
    stack = sf.convert(given, tmp_path / "b.zarr", progress=False)
    # Copied by another program, into chunks of its own: all pixels were there.
    group = zarr.open_group(stack, mode="r+")
    data = group["0"][...]
    group.create_array("0", data=data, chunks=(1, planes_a_chunk, 20, 50), overwrite=True)
    reader = open_reader(stack)
    assert reader.planes_at_once == planes_a_chunk
    np.testing.assert_array_equal(whole(reader), data)
    (Path(stack) / "0" / "c" / "0" / "0" / "1" / "0").unlink()
    with pytest.raises(ProcessingError, match="0/c/0/0/1/0 is missing: copy it again"):
        whole(open_reader(stack))


def test_a_source_that_changed_after_an_interruption_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = noise(3, 600, 500)
    path = write(tmp_path / "foreign.zarr", data, "zyx", chunks=(1, 128, 128))
    options: dict[str, Any] = {"progress": False, "shard_px": 256, "chunk_px": 64}
    out, real, reads = tmp_path / "o.zarr", NgffReader.read, []

    def failing(self: NgffReader, z: int, window: Window) -> np.ndarray:
        reads.append(window)
        if len(reads) > 5:
            raise ProcessingError("power cut")
        return real(self, z, window)

    with monkeypatch.context() as patch:
        patch.setattr(NgffReader, "read", failing)
        with pytest.raises(ProcessingError, match="power cut"):
            sf.convert(path, out, **options)
    write(path, 255 - data, "zyx", chunks=(1, 128, 128))
    with pytest.raises(OutputError, match="with other settings"):
        sf.convert(path, out, **options)
    sf.convert(path, out, overwrite=True, **options)
    np.testing.assert_array_equal(sf.open_stack(out).values[0], 255 - data)
