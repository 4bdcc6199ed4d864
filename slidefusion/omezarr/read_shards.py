"""Reading a part of an array, straight from its shards where they are of the kind written here.

A window is a few hundred chunks, each decoded in a fraction of a millisecond. For each of them zarr
and zarrs allocate memory and plan a copy; together that takes as long as decoding. For local shards
of chunks compressed with Blosc, which is what this package writes, reading one is short enough to
do here: one read, buffers that serve for all chunks, and from Blosc's shuffled bits straight into
the window (see `bitshuffle`), of which a chunk at its edge holds only a part. Everything else goes
through zarr, and gives the same pixels.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import sys
from collections.abc import Sequence
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from slidefusion.omezarr.blosc_header import AS_IT_IS, BITS_SHUFFLED, FLAGS_AT, HEADER
from slidefusion.omezarr.encode_shard import NOTHING
from slidefusion.omezarr.plain_shards import has_plain_shards
from slidefusion.omezarr.shards import check_indices, known_index, shards_of
from slidefusion.omezarr.store import is_url

if TYPE_CHECKING:
    import zarr

__all__ = ["has_checksums", "has_plain_chunks", "read_part"]

_LINE_BYTES = 64
_CHECKSUM_BYTES = 4
_CHECKSUM_OF_CHECKED = 0x48674BC7
"""CRC-32C of any bytes that are followed by their own CRC-32C."""
_CODECS = (["bytes", "blosc"], ["bytes", "blosc", "crc32c"])
"""Of chunks that are read here; the first are of stores written by others."""


_SEEN: set[str] = set()
"""Shards of stores elsewhere that hold nothing but the fill value, and are there."""


class _Piece(NamedTuple):
    """Where a chunk and the part that is read overlap, along one axis."""

    at: int
    """The chunk's place in its shard."""
    source: slice
    """Of the chunk."""
    target: slice
    """Of the part."""


def read_part(
    where: str, name: str, array: zarr.Array[Any], index: Sequence[slice], *, whole: bool = False
) -> npt.NDArray[Any]:
    """``array[index]`` of the array ``name`` in the store at ``where``; ``index`` holds ranges.

    Zarr takes a shard that is missing for one that holds nothing but the fill value; of a ``whole``
    array it counts as lost.

    Raises
    ------
    ValueError
        Naming the shard that is damaged and what is wrong with it.
    Exception
        What zarr and the codec raise.
    """
    if is_url(where) or not has_plain_chunks(array):
        check_indices(where, name, array, index)
        found = np.asarray(array[tuple(index)])
        if whole:
            _refuse_lost(name, array, index, found)
        return found
    assert array.shards is not None
    metadata: Any = array.metadata
    grid = tuple(s // c for s, c in zip(array.shards, array.chunks, strict=True))
    spans = [at.indices(length)[:2] for at, length in zip(index, array.shape, strict=True)]
    part = _empty_on_line([max(0, stop - start) for start, stop in spans], array.dtype)
    chunks = _Chunks(array, part)
    axes = [_by_shard(*each) for each in zip(spans, array.chunks, grid, strict=True)]
    for shard in itertools.product(*(axis.items() for axis in axes)):
        path = Path(where, name, metadata.encode_chunk_key(tuple(key for key, _ in shard)))
        # A chunk's place in the shard, and what it shares with the part: one entry an axis each.
        pieces = (zip(*along, strict=True) for along in itertools.product(*(a for _, a in shard)))
        try:
            file = path.open("rb", buffering=0)
        except FileNotFoundError:
            if whole:
                raise ValueError(
                    f"the shard {path.relative_to(where)} is missing: copy it again"
                ) from None
            for _, _, target in pieces:
                part[target] = array.fill_value
            continue
        with file:
            stat = os.fstat(file.fileno())
            try:
                table = known_index(path, math.prod(grid), stat.st_mtime_ns, stat.st_size)
                places = table.reshape(*grid, 2)
                for at, source, target in pieces:
                    offset, size = places[at].tolist()
                    if offset == NOTHING:
                        part[target] = array.fill_value
                    else:
                        file.seek(offset)
                        chunks.copy(file, size, source, target)
            except (ValueError, RuntimeError) as error:  # RuntimeError is Blosc's
                raise ValueError(f"the shard {path.relative_to(where)} {error}") from error
    return part


def _refuse_lost(
    name: str, array: zarr.Array[Any], index: Sequence[slice], part: npt.NDArray[Any]
) -> None:
    """Raise for a missing shard: the store is asked, once, where a part is all fill value."""
    from zarr.core.sync import sync

    starts = [at.indices(length)[0] for at, length in zip(index, array.shape, strict=True)]
    sides = array.shards or array.chunks
    metadata: Any = array.metadata
    asked: dict[str, Any] = {}
    for key in shards_of(array, index):
        inside = tuple(
            slice(max(0, place * side - start), (place + 1) * side - start)
            for place, side, start in zip(key, sides, starts, strict=True)
        )
        if np.all(part[inside] == array.fill_value):
            chunk = metadata.encode_chunk_key(key)
            path = array.store_path / chunk
            if str(path) not in _SEEN:
                asked[chunk] = path

    async def ask() -> list[bool]:
        return list(await asyncio.gather(*(path.exists() for path in asked.values())))

    for (chunk, path), is_there in zip(asked.items(), sync(ask()) if asked else (), strict=True):
        if not is_there:
            raise ValueError(f"the shard {name}/{chunk} is missing: copy it again")
        _SEEN.add(str(path))


def has_plain_chunks(array: zarr.Array[Any]) -> bool:
    """Whether chunks lie in plain shards, as pixels in this machine's byte order through Blosc."""
    if array.shards is None or not array.dtype.isnative or not has_plain_shards(array.metadata):
        return False
    codecs = _chunk_codecs(array)
    if [codec["name"] for codec in codecs] not in _CODECS:
        return False
    endian = codecs[0].get("configuration", {}).get("endian", sys.byteorder)
    return bool(endian == sys.byteorder)


def has_checksums(array: zarr.Array[Any]) -> bool:
    """Whether its chunks carry a checksum of their own."""
    metadata: Any = array.metadata
    codecs = [codec.to_dict() for codec in getattr(metadata, "codecs", ())]
    inner = [c for codec in codecs for c in codec.get("configuration", {}).get("codecs", ())]
    return any(codec["name"] == "crc32c" for codec in [*codecs, *inner])


def _chunk_codecs(array: zarr.Array[Any]) -> list[dict[str, Any]]:
    """What the chunks in the shards of an array went through, first to last."""
    metadata: Any = array.metadata
    codecs: list[dict[str, Any]] = metadata.codecs[0].to_dict()["configuration"]["codecs"]
    return codecs


def _empty_on_line(shape: Sequence[int], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Like ``np.empty``, but with memory that begins on a line of the processor's cache.

    The C library gives memory that begins within one. Rows of pixels then do, too, and vectors that
    are written to them go to two lines each: a window takes a tenth longer to read.
    """
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + _LINE_BYTES, np.uint8)
    start = -memory.ctypes.data % _LINE_BYTES
    return memory[start : start + size].view(dtype).reshape(shape)


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


class _Chunks:
    """Chunks of an array on their way into ``part``, through buffers that serve for all of them."""

    def __init__(self, array: zarr.Array[Any], part: npt.NDArray[Any]) -> None:
        import google_crc32c
        from numcodecs import blosc

        self._checksum, self._decompress = google_crc32c.value, blosc.decompress
        _, codec, *check = _chunk_codecs(array)
        self._checked = len(check) > 0
        self._part = part
        self._chunk = np.empty(array.chunks, array.dtype)
        self._decoded = np.empty(self._chunk.nbytes, np.uint8)
        # At worst a chunk is stored as it is.
        self._stored = np.empty(self._decoded.size + HEADER.size + _CHECKSUM_BYTES, np.uint8)
        bits = codec["configuration"]["shuffle"] == "bitshuffle"
        self._pairs = _ShuffledPairs(self._decoded, self._chunk, part) if bits else None

    def copy(
        self, file: FileIO, size: int, source: tuple[slice, ...], target: tuple[slice, ...]
    ) -> None:
        """Read the next ``size`` bytes of ``file``, a chunk; copy ``source`` of it to ``target``.

        Blosc trusts the sizes in the header of what it is given, so they are checked here.
        """
        if size > self._stored.size:
            raise ValueError(f"has a chunk of {size} bytes")
        stored = self._stored[:size]
        if file.readinto(stored.data) != size:
            raise ValueError("is cut off")
        if self._checked:
            if self._checksum(stored) != _CHECKSUM_OF_CHECKED:
                raise ValueError("has a damaged chunk")
            size -= _CHECKSUM_BYTES
            stored = stored[:size]
        if size < HEADER.size:
            raise ValueError(f"has a chunk of {size} bytes")
        version, _, flags, element, decoded, block, encoded = HEADER.unpack_from(stored.data)
        if (decoded, encoded) != (self._decoded.size, size):
            raise ValueError("has a damaged chunk")
        shuffled = version == 2 and flags & (AS_IT_IS | BITS_SHUFFLED) == BITS_SHUFFLED
        if self._pairs and shuffled and self._pairs.can_be_in(element, block):
            stored[FLAGS_AT] = flags ^ BITS_SHUFFLED  # so that Blosc leaves the bits as they are
            self._decompress(stored, self._decoded)
            self._pairs.copy(block, source, target)
        else:
            self._decompress(stored, self._chunk)
            self._part[target] = self._chunk[source]


class _ShuffledPairs:
    """Chunks whose bits are shuffled in pairs of bytes, on their way into ``part``.

    ``decoded`` is the memory (n,) in which they are; ``chunk`` (..., Y, X) is used on the way when
    their place in the part does not suit whole words.
    """

    def __init__(
        self, decoded: npt.NDArray[np.uint8], chunk: npt.NDArray[Any], part: npt.NDArray[Any]
    ) -> None:
        from slidefusion.omezarr import bitshuffle

        self._bits = bitshuffle
        self._decoded, self._chunk, self._part = decoded, chunk, part
        self._row_bytes = chunk.shape[-1] * chunk.itemsize
        self._shape = math.prod(chunk.shape[:-2]), chunk.shape[-2], self._row_bytes
        self._chunk_words, self._part_words = bitshuffle.as_words(chunk), bitshuffle.as_words(part)
        if part.shape[:-2] != chunk.shape[:-2]:
            self._part_words = None

    def can_be_in(self, element: int, block: int) -> bool:
        """Whether a chunk with elements and blocks of so many bytes is one of these."""
        pairs = element == self._bits.PAIR_BYTES
        return pairs and self._bits.can_be_shuffled(self._row_bytes, block)

    def copy(self, block: int, source: tuple[slice, ...], target: tuple[slice, ...]) -> None:
        """Undo the shuffling of what is wanted; if it must be, of the rows that hold it."""
        group, word, size = self._bits.GROUP_BYTES, self._bits.WORD_BYTES, self._chunk.itemsize
        top, bottom = source[-2].start, source[-2].stop
        left, right, x = source[-1].start * size, source[-1].stop * size, target[-1].start * size
        whole = all(
            (one.start, one.stop, other.start) == (0, length, 0)
            for one, other, length in zip(
                source[:-2], target[:-2], self._chunk.shape[:-2], strict=True
            )
        )
        if (
            self._part_words is not None
            and whole
            and left % group == right % group == x % word == 0
        ):
            wanted, place = (top, bottom, left, right), (target[-2].start, x // word)
            self._undo(block, wanted, self._part_words, place)
        else:
            self._undo(block, (top, bottom, 0, self._row_bytes), self._chunk_words, (top, 0))
            self._part[target] = self._chunk[source]

    def _undo(self, block: int, *rest: Any) -> None:
        self._bits.unshuffle(self._decoded, block, self._shape, *rest)
