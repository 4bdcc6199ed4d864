"""Reading a part of an array, straight from its shards where they are of the kind written here.

A window is a few hundred chunks, each decoded in a fraction of a millisecond. For each of them zarr
and zarrs allocate memory and plan a copy; together that takes as long as decoding. For local shards
of chunks compressed with Blosc, which is what this package writes, reading one is short enough to
do here: one read, one buffer for all decoded chunks, and a copy into the window.
Everything else goes through zarr, and gives the same pixels.
"""

from __future__ import annotations

import itertools
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from slidefusion.omezarr.shards import NOTHING, check_indices, known_index
from slidefusion.omezarr.store import has_plain_shards, is_url

if TYPE_CHECKING:
    import zarr

__all__ = ["has_plain_chunks", "read_part"]

_HEADER_BYTES = 16
"""Of Blosc: four bytes of flags, then three sizes of four bytes."""
_CHECKSUM_BYTES = 4
_CHECKSUM_OF_CHECKED = 0x48674BC7
"""CRC-32C of any bytes that are followed by their own CRC-32C."""
_CODECS = (["bytes", "blosc"], ["bytes", "blosc", "crc32c"])
"""Of chunks that are read here; the first are of stores written by others."""


class _Piece(NamedTuple):
    """Where a chunk and the part that is read overlap, along one axis."""

    at: int
    """The chunk's place in its shard."""
    source: slice
    """Of the chunk."""
    target: slice
    """Of the part."""


def read_part(
    where: str, name: str, array: zarr.Array[Any], index: Sequence[slice]
) -> npt.NDArray[Any]:
    """``array[index]`` of the array ``name`` in the store at ``where``; ``index`` holds ranges.

    Raises
    ------
    ValueError
        Naming the shard that is damaged and what is wrong with it.
    Exception
        What zarr and the codec raise.
    """
    if is_url(where) or not has_plain_chunks(array):
        check_indices(where, name, array, index)
        return np.asarray(array[tuple(index)])
    assert array.shards is not None
    metadata: Any = array.metadata
    grid = tuple(s // c for s, c in zip(array.shards, array.chunks, strict=True))
    spans = [at.indices(length)[:2] for at, length in zip(index, array.shape, strict=True)]
    part = np.empty([max(0, stop - start) for start, stop in spans], array.dtype)
    chunk = np.empty(array.chunks, array.dtype)
    largest = chunk.nbytes + _HEADER_BYTES + _CHECKSUM_BYTES  # at worst stored as they are
    checked = len(metadata.codecs[0].to_dict()["configuration"]["codecs"]) > 2
    axes = [_by_shard(*each) for each in zip(spans, array.chunks, grid, strict=True)]
    for shard in itertools.product(*(axis.items() for axis in axes)):
        path = Path(where, name, metadata.encode_chunk_key(tuple(key for key, _ in shard)))
        pieces = itertools.product(*(along for _, along in shard))
        try:
            file = path.open("rb")
        except FileNotFoundError:
            for piece in pieces:
                part[tuple(p.target for p in piece)] = array.fill_value
            continue
        with file:
            stat = os.fstat(file.fileno())
            try:
                table = known_index(path, math.prod(grid), stat.st_mtime_ns, stat.st_size)
                places = table.reshape(*grid, 2)
                for piece in pieces:
                    offset, size = places[tuple(p.at for p in piece)].tolist()
                    if offset == NOTHING:
                        chunk.fill(array.fill_value)
                    else:
                        if size > largest:
                            raise ValueError(f"has a chunk of {size} bytes")
                        file.seek(offset)
                        _decode(file.read(size), size, checked, chunk)
                    part[tuple(p.target for p in piece)] = chunk[tuple(p.source for p in piece)]
            except (ValueError, RuntimeError) as error:  # RuntimeError is Blosc's
                raise ValueError(f"the shard {path.relative_to(where)} {error}") from error
    return part


def has_plain_chunks(array: zarr.Array[Any]) -> bool:
    """Whether chunks lie in plain shards, as pixels in this machine's byte order through Blosc."""
    if array.shards is None or not array.dtype.isnative or not has_plain_shards(array.metadata):
        return False
    metadata: Any = array.metadata
    codecs = metadata.codecs[0].to_dict()["configuration"]["codecs"]
    if [codec["name"] for codec in codecs] not in _CODECS:
        return False
    endian = codecs[0].get("configuration", {}).get("endian", sys.byteorder)
    return bool(endian == sys.byteorder)


def _by_shard(span: tuple[int, int], side: int, count: int) -> dict[int, list[_Piece]]:
    """The chunks of ``side`` that meet ``span``, by their shard of ``count`` chunks.

    >>> _by_shard((3, 9), 4, 2)[1]
    [_Piece(at=0, source=slice(0, 1, None), target=slice(5, 6, None))]
    """
    found: dict[int, list[_Piece]] = {}
    start, stop = span
    for number in range(start // side, -(-stop // side)):
        first = number * side
        low, high = max(first, start), min(first + side, stop)
        piece = _Piece(
            number % count, slice(low - first, high - first), slice(low - start, high - start)
        )
        found.setdefault(number // count, []).append(piece)
    return found


def _decode(stored: bytes, size: int, checked: bool, chunk: npt.NDArray[Any]) -> None:
    """Decode the ``size`` bytes of a chunk, of which the last are a checksum if ``checked``.

    Blosc trusts the sizes in the header of what it is given, so they are checked before.
    """
    import google_crc32c
    from numcodecs import blosc

    if len(stored) != size:
        raise ValueError("is cut off")
    encoded = memoryview(stored)
    if checked:
        if google_crc32c.value(stored) != _CHECKSUM_OF_CHECKED:
            raise ValueError("has a damaged chunk")
        encoded = encoded[:-_CHECKSUM_BYTES]
    if len(encoded) < _HEADER_BYTES:
        raise ValueError(f"has a chunk of {size} bytes")
    decoded_size, _, encoded_size = np.frombuffer(encoded[4:_HEADER_BYTES], "<u4").tolist()
    if (decoded_size, encoded_size) != (chunk.nbytes, len(encoded)):
        raise ValueError("has a damaged chunk")
    blosc.decompress(encoded, chunk)
