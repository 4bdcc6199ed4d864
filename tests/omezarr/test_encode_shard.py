"""Shards made here are those that zarr and zarrs make, byte for byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from slidefusion.omezarr.encode_shard import ShardKind
from slidefusion.omezarr.store import codec_pipeline

SHARD, CHUNK = (3, 1, 64, 64), (3, 1, 32, 32)
BLOSC = zarr.codecs.BloscCodec(typesize=2, cname="lz4", clevel=5, shuffle="bitshuffle")


def make(path: Path, dtype: str, **more: Any) -> tuple[zarr.Array[Any], ShardKind]:
    given = {"compressors": (BLOSC, zarr.codecs.Crc32cCodec()), "fill_value": 0, **more}
    with codec_pipeline(str(path)):
        array = zarr.create_array(
            str(path), shape=(3, 2, 150, 90), dtype=dtype, shards=SHARD, chunks=CHUNK, **given
        )
    return array, ShardKind.of(json.loads((path / "zarr.json").read_text()))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize(
    "compressors",
    [
        (BLOSC, zarr.codecs.Crc32cCodec()),
        (BLOSC,),
        (zarr.codecs.BloscCodec(typesize=4, cname="zstd", clevel=1, shuffle="shuffle"),),
    ],
)
def test_equals_zarr(tmp_path: Path, dtype: str, compressors: tuple[Any, ...]) -> None:
    array, kind = make(tmp_path, dtype, compressors=compressors)
    pixels = np.random.default_rng(0).integers(0, 90, array.shape).astype(dtype)
    pixels[:, 1, :40, 32:70] = 0  # a chunk of nothing, and some of one
    array[:] = pixels
    seen = 0
    for key, block in kind.shards_of([slice(None)] * 4, pixels):
        path = tmp_path / "c" / "/".join(map(str, key))
        assert b"".join(kind.encode(block)) == path.read_bytes(), key
        seen += 1
    assert seen == sum(path.is_file() for path in (tmp_path / "c").rglob("*")) == 12


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("side", [32, 48, 256])
@pytest.mark.parametrize("kind_of_pixels", ["smooth", "any", "both"])
def test_bits_shuffled_here_equal_zarr(
    tmp_path: Path, dtype: str, side: int, kind_of_pixels: str
) -> None:
    """Whole chunks of a contiguous block: of one block of Blosc's or several, and such that no
    compression makes smaller."""
    with codec_pipeline(str(tmp_path)):
        array = zarr.create_array(
            str(tmp_path),
            shape=(3, 2 * side, 3 * side),
            dtype=dtype,
            shards=(3, 2 * side, 3 * side),
            chunks=(3, side, side),
            compressors=(BLOSC, zarr.codecs.Crc32cCodec()),
            fill_value=0,
        )
    highest = np.iinfo(dtype).max
    pixels = np.random.default_rng(0).integers(0, highest, array.shape, dtype, endpoint=True)
    if kind_of_pixels != "any":
        smooth = pixels if kind_of_pixels == "smooth" else pixels[:, :side]
        smooth >>= 4
    array[:] = pixels
    kind = ShardKind.of(json.loads((tmp_path / "zarr.json").read_text()))
    written = (tmp_path / "c" / "0" / "0" / "0").read_bytes()
    assert b"".join(kind.encode(pixels)) == written
    # Blosc's flags: bits are shuffled, and not when it stored the chunk as it is.
    flags = {written[at + 2] & 0x06 for at in chunk_offsets(written, 6)}
    assert flags == {"smooth": {0x04}, "any": {0x06}, "both": {0x04, 0x06}}[kind_of_pixels]


def chunk_offsets(shard: bytes, chunks: int) -> list[int]:
    return np.frombuffer(shard[-16 * chunks - 4 : -4], "<u8")[::2].tolist()


def test_a_part_is_cut_into_its_shards(tmp_path: Path) -> None:
    _, kind = make(tmp_path, "uint8")
    block = np.arange(3 * 86 * 26, dtype=np.uint8).reshape(3, 1, 86, 26)
    index = (slice(None), slice(1, 2), slice(64, 150), slice(64, None))
    found = dict(kind.shards_of(index, block))
    assert list(found) == [(0, 1, 1, 1), (0, 1, 2, 1)]
    assert np.array_equal(np.concatenate(list(found.values()), axis=2), block)


def test_nothing_is_a_shard_too(tmp_path: Path) -> None:
    array, kind = make(tmp_path, "uint16")
    path = tmp_path / "c" / "0" / "0" / "0" / "0"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"".join(kind.encode(np.zeros(SHARD, np.uint16))))
    assert path.stat().st_size == 4 * 16 + 4
    assert not np.asarray(array[:, :1, :64, :64]).any()


@pytest.mark.parametrize(
    "more",
    [
        {"compressors": zarr.codecs.ZstdCodec()},
        {"serializer": zarr.codecs.BytesCodec(endian="big")},
        {"filters": [zarr.codecs.TransposeCodec(order=(3, 2, 1, 0))]},
    ],
)
def test_other_kinds_are_refused(tmp_path: Path, more: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not of the kind"):
        make(tmp_path, "uint16", **more)
