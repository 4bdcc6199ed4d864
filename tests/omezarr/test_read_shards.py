"""Shards read directly: the same pixels as zarr, and the same refusal of damage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slidefusion.omezarr.pyramid import PyramidLayout
from slidefusion.omezarr.read_shards import has_plain_chunks, read_part
from slidefusion.omezarr.shards import shard_path

SHAPE = (3, 2, 200, 150)
SHARDS, CHUNKS = (3, 1, 64, 64), (3, 1, 16, 16)
BLOSC = zarr.codecs.BloscCodec(shuffle="bitshuffle")
CHECKED = (BLOSC, zarr.codecs.Crc32cCodec())
PIXELS = np.random.default_rng(0).integers(0, 60_000, SHAPE).astype(np.uint16)


def make(path: Path, **more: Any) -> zarr.Array[Any]:
    given = {"compressors": BLOSC, "fill_value": 7, **more}
    array = zarr.create_array(
        str(path), name="0", shape=SHAPE, dtype="uint16", shards=SHARDS, chunks=CHUNKS, **given
    )
    array[:] = PIXELS
    return array


@pytest.fixture(scope="module", params=[BLOSC, CHECKED])
def store(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    path = tmp_path_factory.mktemp("shards") / "stack.zarr"
    array = make(path, compressors=request.param)
    array[:, 0, 64:80, 64:128] = 7  # chunks that are nothing but the fill value are left out
    (path / "0" / shard_path((0, 1, 1, 1))).unlink()
    return path


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.data())
def test_equals_zarr(store: Path, data: st.DataObject) -> None:
    ends = [sorted(data.draw(st.tuples(*[st.integers(0, n)] * 2))) for n in SHAPE]
    index = tuple(slice(*span) for span in ends)
    array = zarr.open_array(str(store), path="0", mode="r")
    assert has_plain_chunks(array)
    found, expected = read_part(str(store), "0", array, index), np.asarray(array[index])
    assert found.dtype == expected.dtype and np.array_equal(found, expected)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("element", [1, 2, 4])
def test_equals_zarr_whatever_an_element_is(tmp_path: Path, dtype: str, element: int) -> None:
    """Windows that suit the loops for shuffled pairs of bytes, and windows that do not."""
    codec = zarr.codecs.BloscCodec(typesize=element, cname="lz4", shuffle="bitshuffle")
    kind = {"shards": (3, 1, 256, 256), "chunks": (3, 1, 128, 128), "compressors": codec}
    path = str(tmp_path)
    array = zarr.create_array(path, name="0", shape=(3, 2, 500, 450), dtype=dtype, **kind)
    array[:] = np.random.default_rng(0).integers(0, 99, array.shape).astype(dtype)
    for rows, columns in (((64, 448), (64, 384)), ((0, 500), (0, 450)), ((3, 400), (32, 43))):
        for planes in (slice(1, 2), slice(0, 2)):
            index = (slice(0, 3), planes, slice(*rows), slice(*columns))
            assert np.array_equal(read_part(path, "0", array, index), array[index])


@pytest.mark.parametrize("images", [slice(0, 2), slice(1, 3), slice(1, 2), slice(2, 4)])
def test_chunks_several_planes_deep(tmp_path: Path, images: slice) -> None:
    kind = {"shards": (4, 256, 256), "chunks": (2, 128, 128), "compressors": BLOSC}
    array = zarr.create_array(str(tmp_path), name="0", shape=(4, 256, 256), dtype="uint16", **kind)
    array[:] = np.random.default_rng(0).integers(0, 999, array.shape).astype("uint16")
    index = (images, slice(0, 256), slice(0, 256))
    assert np.array_equal(read_part(str(tmp_path), "0", array, index), array[index])


def test_what_is_written_here_is_read_directly(tmp_path: Path) -> None:
    layout = PyramidLayout("cyx", (3, 700, 700), "uint8", 512)
    group = zarr.create_group(str(tmp_path))
    layout.create(group, str(tmp_path))
    assert all(has_plain_chunks(group[str(level)]) for level in range(layout.levels))


@pytest.mark.parametrize(
    "more",
    [
        {"compressors": zarr.codecs.ZstdCodec()},
        {"compressors": None},
        {"serializer": zarr.codecs.BytesCodec(endian="big")},
        {"filters": [zarr.codecs.TransposeCodec(order=(3, 2, 1, 0))]},
    ],
)
def test_others_go_through_zarr(tmp_path: Path, more: dict[str, Any]) -> None:
    array = make(tmp_path, **more)
    assert not has_plain_chunks(array)
    index = (slice(0, 3), slice(1, 2), slice(10, 90), slice(50, 140))
    assert np.array_equal(read_part(str(tmp_path), "0", array, index), PIXELS[index])


@pytest.mark.parametrize("field", [4, 12])
def test_a_header_that_lies_is_refused(tmp_path: Path, field: int) -> None:
    """The sizes of a Blosc chunk are bytes 4 to 7, decoded, and 12 to 15, encoded."""
    array = make(tmp_path)
    path = tmp_path / "0" / shard_path((0, 0, 0, 0))
    content = bytearray(path.read_bytes())
    content[field : field + 4] = (2**31 - 1).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"c/0/0/0/0 has a damaged chunk"):
        read_part(str(tmp_path), "0", array, tuple(slice(0, n) for n in SHAPE))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.data())
def test_any_changed_bit_is_refused(checked: Path, data: st.DataObject) -> None:
    path = checked / "0" / shard_path((0, 0, 0, 0))
    sound = path.read_bytes()
    content = bytearray(sound)
    content[data.draw(st.integers(0, len(sound) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    array = zarr.open_array(str(checked), path="0", mode="r")
    try:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"c/0/0/0/0 (has|is)"):
            read_part(str(checked), "0", array, tuple(slice(0, n) for n in SHAPE))
    finally:
        path.write_bytes(sound)


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checked")
    make(path, compressors=CHECKED)
    return path


def test_a_shard_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    array = make(tmp_path)
    path = tmp_path / "0" / shard_path((0, 0, 1, 0))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"c/0/0/1/0 has a damaged index"):
        read_part(str(tmp_path), "0", array, tuple(slice(0, n) for n in SHAPE))
