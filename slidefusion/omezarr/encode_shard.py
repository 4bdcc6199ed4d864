"""A shard as bytes: what zarrs would write for the arrays made here, with fewer copies.

For each chunk zarrs gathers its pixels in memory of its own, encodes them, and joins all of them in
the end; with what zarr does around it, that takes longer than encoding. For chunks that go through
Blosc, which are all that this package writes, a shard is short enough to make here.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from slidefusion.omezarr.blosc_header import AS_IT_IS, BITS_SHUFFLED, FLAGS_AT, HEADER

__all__ = ["NOTHING", "ShardKind"]

NOTHING = np.iinfo(np.uint64).max
"""Offset and size of a chunk that a shard does not hold."""

_CODECS = ["sharding_indexed", "bytes", "blosc", "crc32c"]
"""Of an array; the last one is missing in older stores."""
_CHECKSUM_BYTES = 4
_SHUFFLES = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}
"""Blosc's numbers."""

Buffer = bytes | memoryview
Blosc = tuple[str, int, str, int, int]
"""Codec, level, kind of shuffling, bytes of a block (0: Blosc chooses) and of an element."""


@dataclass(frozen=True)
class ShardKind:
    """How the shards of an array are made."""

    shape: tuple[int, ...]
    """Of the array."""
    shard: tuple[int, ...]
    """Shape of a shard."""
    chunk: tuple[int, ...]
    """Shape of its chunks."""
    dtype: str
    """``"<u2"``: of little-endian pixels."""
    fill_value: float
    """Of pixels that are not there; chunks that hold nothing else are left out."""
    blosc: Blosc
    checked: bool
    """Whether each chunk is followed by its CRC-32C."""

    @classmethod
    def of(cls, metadata: dict[str, Any]) -> Self:
        """That of an array, from what its ``zarr.json`` says.

        Raises
        ------
        ValueError
            When this package never wrote such an array.
        """
        try:
            (sharding,) = metadata["codecs"]
            inner = sharding["configuration"]
            pixels, blosc, *check = inner["codecs"]
            names = [codec["name"] for codec in (sharding, pixels, blosc, *check)]
            kind = blosc["configuration"]
            known = names in (_CODECS, _CODECS[:3]) and inner["index_location"] == "end"
            little = pixels.get("configuration", {}).get("endian", "little") == "little"
            settings = kind["cname"], kind["clevel"], kind["shuffle"], kind["blocksize"]
            if known and little:
                return cls(
                    tuple(metadata["shape"]),
                    tuple(metadata["chunk_grid"]["configuration"]["chunk_shape"]),
                    tuple(inner["chunk_shape"]),
                    np.dtype(metadata["data_type"]).newbyteorder("<").str,
                    metadata["fill_value"],
                    (*settings, kind.get("typesize", 1)),
                    len(check) > 0,
                )
        except (KeyError, TypeError, ValueError):
            pass
        raise ValueError("its arrays are not of the kind that is written here")

    @property
    def grid(self) -> tuple[int, ...]:
        """Number of chunks along each axis."""
        return tuple(s // c for s, c in zip(self.shard, self.chunk, strict=True))

    def shards_of(
        self, index: Sequence[slice], block: npt.NDArray[Any]
    ) -> Iterator[tuple[tuple[int, ...], npt.NDArray[Any]]]:
        """The shards that make up ``index``: their place in the grid, and their part of ``block``.

        The last ones of a row or column may be smaller than a shard.
        """
        spans = [at.indices(length)[:2] for at, length in zip(index, self.shape, strict=True)]
        grid = (
            range(start // side, -(-stop // side))
            for (start, stop), side in zip(spans, self.shard, strict=True)
        )
        for key in itertools.product(*grid):
            first = (k * side - at[0] for k, side, at in zip(key, self.shard, spans, strict=True))
            part = (slice(a, a + side) for a, side in zip(first, self.shard, strict=True))
            yield key, block[tuple(part)]

    def encode(self, block: npt.NDArray[Any]) -> list[Buffer]:
        """The shard that holds ``block``, a whole one or what an array ends with, in pieces.

        A shard that holds no chunk is one, too; otherwise one that was lost would look like it.
        """
        chunks = _Chunks(self, block)
        index = np.full((math.prod(self.grid), 2), NOTHING, "<u8")
        pieces: list[Buffer] = []
        offset = 0
        for k, at in enumerate(itertools.product(*map(range, self.grid))):
            encoded = chunks.encode(at)
            if encoded is None:
                continue
            size = len(encoded) + _CHECKSUM_BYTES * self.checked
            index[k] = offset, size
            offset += size
            pieces.append(encoded)
            if self.checked:
                pieces.append(_checksum(encoded))
        places = index.tobytes()
        return [*pieces, places, _checksum(places)]


class _Chunks:
    """The chunks of a shard that holds ``block``, encoded in memory that serves for all of them.

    Where Blosc would shuffle the bits of pairs of bytes, that is done here, straight out of the
    block, and Blosc compresses what it is given: the same bytes, but for a flag in the header.
    """

    def __init__(self, kind: ShardKind, block: npt.NDArray[Any]) -> None:
        from slidefusion.omezarr import bitshuffle

        self._kind, self._shuffle = kind, bitshuffle.shuffle
        self._block = block.astype(kind.dtype, copy=False)
        self._chunk = np.full(kind.chunk, kind.fill_value, kind.dtype)
        self._fill = self._chunk.view(f"u{self._chunk.itemsize}").flat[0]
        row_bytes = kind.chunk[-1] * self._chunk.itemsize
        self._shape = math.prod(kind.chunk[:-2]), kind.chunk[-2], row_bytes
        self._blosc_block = _blosc_block(kind.blosc, self._chunk.nbytes)
        pairs = kind.blosc[2] == "bitshuffle" and kind.blosc[-1] == bitshuffle.PAIR_BYTES
        suits = pairs and bitshuffle.can_be_shuffled(row_bytes, self._blosc_block)
        words = bitshuffle.as_words(self._block) if block.shape[:-2] == kind.chunk[:-2] else None
        self._words = words if suits else None
        self._shuffled = np.empty((block.shape[-1] // kind.chunk[-1], self._chunk.nbytes), np.uint8)
        self._row = -1
        """Of chunks, whose bits are in ``_shuffled``."""

    def encode(self, at: tuple[int, ...]) -> Buffer | None:
        """The chunk at that place in the shard; None when it holds nothing."""
        shape = self._chunk.shape
        spans = (slice(i * n, (i + 1) * n) for i, n in zip(at, shape, strict=True))
        part = self._block[tuple(spans)]
        bits = part.view(self._fill.dtype)
        if not part.size or (bits.flat[0] == self._fill and (bits == self._fill).all()):
            return None
        if self._words is not None and part.shape == shape:
            encoded = self._encode_pairs(self._words, *at[-2:])
            if encoded is not None:
                return encoded
        if part.shape != shape:
            self._chunk.fill(self._kind.fill_value)
        self._chunk[tuple(map(slice, part.shape))] = part
        return _compress(self._chunk, self._kind.blosc, self._kind.blosc[2])

    def _encode_pairs(
        self, words: npt.NDArray[np.uint64], row: int, column: int
    ) -> memoryview | None:
        """A whole chunk of the block; None if Blosc would store it as it is, unshuffled."""
        if row != self._row:
            top = row * self._shape[1]
            self._shuffle(words, self._blosc_block, self._shape, top, self._shuffled)
            self._row = row
        encoded = _compress(self._shuffled[column], self._kind.blosc, "noshuffle")
        _, _, flags, _, _, block, _ = HEADER.unpack_from(encoded)
        if flags & AS_IT_IS or block != self._blosc_block:
            return None
        changed = np.frombuffer(encoded, np.uint8).copy()
        changed[FLAGS_AT] = flags | BITS_SHUFFLED
        return changed.data


def _compress(pixels: npt.NDArray[Any], blosc: Blosc, shuffle: str) -> bytes:
    """A chunk as Blosc makes it, with that kind of shuffling."""
    from numcodecs import blosc as library

    name, level, _, block_bytes, element = blosc
    elements = pixels.reshape(-1).view(f"u{element}")
    encoded: bytes = library.compress(
        elements, name.encode(), level, _SHUFFLES[shuffle], block_bytes
    )
    return encoded


@functools.lru_cache(maxsize=256)
def _blosc_block(blosc: Blosc, size: int) -> int:
    """Bytes of the blocks into which Blosc cuts chunks of ``size`` bytes, whatever they hold."""
    header = _compress(np.zeros(size, np.uint8), blosc, "noshuffle")
    return int(HEADER.unpack_from(header)[5])


def _checksum(data: Buffer) -> bytes:
    """CRC-32C as it is stored."""
    import google_crc32c

    array = np.frombuffer(data, np.uint8)  # a memoryview is refused
    return int(google_crc32c.value(array)).to_bytes(_CHECKSUM_BYTES, "little")
